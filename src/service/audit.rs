//! The record of a management call: who did what, on what, when, from where, with before and after.

use serde_json::Value;

use super::{Context, Result, Service};
use crate::model::{AuditEvent, AuditTarget, EventId, UserId};

/// What a use case says of itself; the rest comes from its context.
pub(super) struct Entry<'a> {
    /// `<noun>.<verb>`.
    pub(super) action: &'static str,
    /// On what.
    pub(super) target: AuditTarget,
    /// On whose behalf, if on anybody's.
    pub(super) acting_user: Option<&'a UserId>,
    /// What it was, if it was there.
    pub(super) before: Option<Value>,
    /// What it is, if it is still there.
    pub(super) after: Option<Value>,
    /// Why, in the words of who asked.
    pub(super) reason: Option<&'a str>,
}

impl Service {
    /// The event to commit with the change.
    pub(super) fn audit_event(&self, context: &Context, entry: Entry<'_>) -> Result<AuditEvent> {
        let (time, random) = self.stamp()?;
        let (target_kind, target_id) = entry.target.kind_and_id();
        Ok(AuditEvent {
            id: EventId::new(time, random),
            time,
            action: entry.action.to_owned(),
            caller: context.requester_name(),
            acting_user: entry.acting_user.cloned(),
            target_kind: target_kind.to_owned(),
            target_id,
            remote_address: context.remote_address.clone(),
            before: entry.before.map(|before| before.to_string()),
            after: entry.after.map(|after| after.to_string()),
            reason: entry.reason.map(str::to_owned),
        })
    }
}
