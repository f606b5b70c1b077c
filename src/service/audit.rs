//! Audit log of management calls: the requester, the action, the target, the time, the network address, and the target
//! before and after. Each change commits its event with it. Retention is a use case here; `audit_read.rs` has reading.

use std::sync::Arc;

use serde_json::{Value, json};

use super::commit::{Committed, Effect};
use super::{Attempt, Context, Result, Service};
use crate::model::limits::BATCH_PAUSE;
use crate::model::{AuditAction, AuditEvent, AuditTarget, EventId, Timestamp, UserId};
use crate::token::redact_tokens;

/// Number of events that one purge transaction deletes. Small, so that other writers do not wait long for it.
const PURGED_PER_TRANSACTION: u32 = 500;

/// The part of an audit event that the use case supplies. The rest comes from its context.
pub(super) struct Entry<'a> {
    /// The action.
    pub(super) action: AuditAction,
    /// The object of the action.
    pub(super) target: AuditTarget,
    /// The acting user, if the call names one.
    pub(super) acting_user: Option<&'a UserId>,
    /// The target before the action. `None` if it did not exist.
    pub(super) before: Option<Value>,
    /// The target after the action. `None` if it no longer exists.
    pub(super) after: Option<Value>,
    /// The reason that the requester gave.
    pub(super) reason: Option<&'a str>,
}

impl Service {
    /// Builds the event to commit with the change. Redacts tokens, since people paste them into names and reasons.
    pub(super) fn audit_event(&self, context: &Context, entry: Entry<'_>) -> Result<AuditEvent> {
        let (time, random) = self.time_and_random()?;
        let (target_kind, target_id) = entry.target.kind_and_id();
        let text = |value: Value| redact_tokens(&value.to_string()).into_owned();
        Ok(AuditEvent {
            id: EventId::in_order(time, random),
            time,
            action: entry.action.as_str().to_owned(),
            caller: context.requester_name(),
            acting_user: entry.acting_user.cloned(),
            target_kind: target_kind.to_owned(),
            target_id,
            remote_address: context.remote_address.clone(),
            before: entry.before.map(text),
            after: entry.after.map(text),
            reason: entry.reason.map(|reason| redact_tokens(reason).into_owned()),
            refusal: None,
        })
    }

    /// Deletes the events older than `cutoff`, in batches, and returns their number. Each batch is recorded as an
    /// event. `progress` receives the running total after each batch.
    pub async fn purge_audit(
        self: &Arc<Self>,
        context: Context,
        cutoff: Timestamp,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<u64> {
        let this = Arc::clone(self);
        let attempt = Attempt::on(&context, AuditAction::AuditPurge, &AuditTarget::AuditLog);
        self.run(attempt, Effect::Neutral, async move {
            let mut purged = 0;
            let mut committed: Option<Committed> = None;
            loop {
                this.require_trusted_clock().await?;
                let mut tx = this.begin("purge_audit").await?;
                let count = tx.delete_audit_events(cutoff, PURGED_PER_TRANSACTION).await?;
                let last = count < u64::from(PURGED_PER_TRANSACTION);
                if let Some(committed) = committed.filter(|_| last && count == 0) {
                    return Ok(committed.done(purged));
                }
                // The first batch is recorded even if it deleted nothing, as a trace of the attempt.
                let entry = Entry {
                    action: AuditAction::AuditPurge,
                    target: AuditTarget::AuditLog,
                    acting_user: None,
                    before: None,
                    after: Some(json!({"cutoff": cutoff.to_string(), "purged_count": count})),
                    reason: None,
                };
                let batch = this.commit_change(&context, tx, count > 0, entry).await?;
                let all = committed.map_or(batch, |committed| committed.and(batch));
                committed = Some(all);
                purged += count;
                progress(purged);
                if last {
                    return Ok(all.done(purged));
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        })
        .await
    }
}
