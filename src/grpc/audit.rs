//! Converts audit events, and the filter of `ListAuditEvents`.

use tonic::Status;

use super::{convert, pb};
use crate::model::{AuditEvent, Timestamp};
use crate::service::Violations;
use crate::store::AuditFilter;

/// Reads the filter of a request.
pub(super) fn filter(message: pb::ListAuditEventsRequest) -> Result<AuditFilter, Status> {
    let mut violations = Violations::default();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        start_time: time(&mut violations, "start_time", message.start_time),
        end_time: time(&mut violations, "end_time", message.end_time),
        caller: some(message.caller),
        acting_user: convert::optional(&message.acting_user)
            .and_then(|id| convert::user_id(&mut violations, "acting_user", id)),
        target_kind: some(message.target_kind),
        target_id: some(message.target_id),
        action: some(message.action),
    };
    violations.finish()?;
    Ok(filter)
}

/// Reads an optional time.
pub(super) fn time(
    violations: &mut Violations,
    field: &str,
    time: Option<prost_types::Timestamp>,
) -> Option<Timestamp> {
    let time = time?;
    violations.check(field, Timestamp::from_unix(time.seconds, time.nanos))
}

/// Converts an event. Absent values become empty strings.
pub(super) fn event(event: AuditEvent) -> pb::AuditEvent {
    pb::AuditEvent {
        id: event.id.to_string(),
        time: Some(convert::timestamp(event.time)),
        action: event.action,
        caller: event.caller,
        acting_user: event.acting_user.map(|user| user.to_string()).unwrap_or_default(),
        target_kind: event.target_kind,
        target_id: event.target_id,
        remote_address: event.remote_address.unwrap_or_default(),
        before: event.before.unwrap_or_default(),
        after: event.after.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        refusal: event.refusal.unwrap_or_default(),
    }
}
