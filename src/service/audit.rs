//! The record of management calls: who did what, on what, when, from where, with before and after. Writing it goes with
//! each change; reading it and its retention are use cases of their own.

use std::sync::Arc;

use serde_json::{Value, json};

use super::commit::{Committed, Effect};
use super::page::Cursor;
use super::{Attempt, Context, Page, PageRequest, Result, Service};
use crate::model::limits::BATCH_PAUSE;
use crate::model::{AuditAction, AuditEvent, AuditTarget, EventId, Timestamp, UserId};
use crate::store::AuditFilter;
use crate::token::redact_tokens;

/// Events that one transaction of retention drops: few enough that nobody waits long for it.
const PURGE_BATCH: u32 = 500;

/// What a use case says of itself; the rest comes from its context.
pub(super) struct Entry<'a> {
    /// What was done.
    pub(super) action: AuditAction,
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
    /// The event to commit with the change. People paste tokens into names and reasons: the log keeps none.
    pub(super) fn audit_event(&self, context: &Context, entry: Entry<'_>) -> Result<AuditEvent> {
        let (time, random) = self.stamp()?;
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

    /// A page of audit events, oldest first.
    pub async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        page: &PageRequest,
    ) -> Result<Page<AuditEvent>> {
        let cursor = Cursor::new(page, format!("audit {filter:?}"))?;
        let after = cursor.after.as_deref().and_then(|id| EventId::parse(id).ok());
        let events = self.store.list_audit_events(filter, after, cursor.fetch).await?;
        Ok(cursor.page(events, |event| event.id.to_string()))
    }

    /// Retention: drops every event from before `cutoff`, in batches, each of which records itself; how many.
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
                this.trust_the_clock().await?;
                let mut tx = this.begin("purge_audit").await?;
                let count = tx.delete_audit_events(cutoff, PURGE_BATCH).await?;
                let last = count < u64::from(PURGE_BATCH);
                if let Some(committed) = committed.filter(|_| last && count == 0) {
                    return Ok(committed.done(purged));
                }
                // The first records itself even if there was nothing to drop: somebody meant to.
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
