//! Converts audit events, and the request of `ListAuditEvents`.

use tonic::Status;

use super::{convert, pb};
use crate::model::{AuditEvent, Timestamp, WorkspaceName};
use crate::service::{ListAuditEvents, Violations};
use crate::store::{AuditFilter, AuditOrder};

/// Reads a request.
pub(super) fn request(message: pb::ListAuditEventsRequest) -> Result<ListAuditEvents, Status> {
    let mut violations = Violations::default();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let (order, follows) = order(&mut violations, message.order);
    let filter = AuditFilter {
        start_time: time(&mut violations, "start_time", message.start_time),
        end_time: time(&mut violations, "end_time", message.end_time),
        caller: some(message.caller),
        acting_user: convert::optional(&message.filter_acting_user)
            .and_then(|id| convert::user_id(&mut violations, "filter_acting_user", id)),
        target_kind: some(message.target_kind),
        target_id: some(message.target_id),
        action: some(message.action),
        order,
        ..AuditFilter::default()
    };
    let workspace = convert::optional(&message.workspace)
        .and_then(|name| violations.check("workspace", WorkspaceName::parse(name)));
    violations.finish()?;
    Ok(ListAuditEvents {
        filter,
        workspace,
        acting_user: message.acting_user,
        page: convert::page_request(message.page_size, message.page_token),
        follows,
        resume_token: message.resume_token,
    })
}

/// Reads the order, and whether it is that of followers.
fn order(violations: &mut Violations, number: i32) -> (AuditOrder, bool) {
    match pb::AuditOrder::try_from(number) {
        Ok(pb::AuditOrder::Unspecified) => (AuditOrder::OldestFirst, false),
        Ok(pb::AuditOrder::NewestFirst) => (AuditOrder::NewestFirst, false),
        Ok(pb::AuditOrder::Commit) => (AuditOrder::OldestFirst, true),
        Err(_) => {
            let known =
                "must be AUDIT_ORDER_UNSPECIFIED, AUDIT_ORDER_NEWEST_FIRST or AUDIT_ORDER_COMMIT";
            violations.add("order", known);
            (AuditOrder::OldestFirst, false)
        }
    }
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
