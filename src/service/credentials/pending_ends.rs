//! Audit events of credentials that end because their owner is deleted. The generation of the owner revokes them all at
//! once, but each still gets an event, as if it had been revoked individually.
//!
//! The transaction that deletes the owner writes the events of the first batch. If there are more, it saves a
//! [`PendingEnds`]. A server then writes the rest in small batches, so that no other writer waits long. Each batch
//! commits its progress, so every event is written exactly once, even if a server crashes. The rows do not change in
//! between except by purging, which waits for the events.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::limits::BATCH_PAUSE;
use crate::model::{AuditAction, AuditEvent, AuditTarget, Credential, Timestamp};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Effect};
use crate::service::{Attempt, Context, Reason, Result, Service, view};
use crate::store::{PendingEnds, PendingEndsOwner, RevokeFilter, WriteTx};

/// Number of events that one transaction writes. It is small because other writers wait for the transaction.
const EVENTS_PER_TRANSACTION: usize = 50;
/// Number of batches by other servers that a purge waits for.
const OTHERS_MAX: u32 = 60_000;

impl Service {
    /// Writes the end events of the credentials of an owner, or the first of them and a [`PendingEnds`] for the rest.
    /// Returns the content of the event of the owner. Call this in the transaction that deletes the owner, which has
    /// the owner locked, before it raises the generation from `generation`.
    pub(in crate::service) async fn record_owned_ends(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        (owner, generation): (PendingEndsOwner, i64),
        now: Timestamp,
    ) -> Result<Value> {
        let (filter, reason) = match &owner {
            PendingEndsOwner::Workspace(id) => {
                let filter = RevokeFilter { workspace_id: Some(id.clone()), ..Default::default() };
                (filter, format!("workspace {id} was deleted"))
            }
            PendingEndsOwner::User(id) => {
                let filter = RevokeFilter { user_id: Some(id.clone()), ..Default::default() };
                (filter, format!("user {id} was deleted"))
            }
        };
        let mut batch = tx.find_revocable(&filter, None, fetch_limit()).await?;
        let more = batch.len() > EVENTS_PER_TRANSACTION;
        batch.truncate(EVENTS_PER_TRANSACTION);
        let written_count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        let (time, random) = self.time_and_random()?;
        let mut pending = PendingEnds {
            id: crate::model::CredentialId::new(time, random).0,
            owner,
            generation,
            revoke_time: now,
            caller: context.requester_name(),
            remote_address: context.remote_address.clone(),
            reason,
            last_written_id: crate::model::CredentialId(Uuid::nil()),
            written_count,
        };
        let events = self.end_events(&pending, &batch)?;
        tx.insert_audit_events(&events).await?;
        let Some(last) = batch.last().filter(|_| more) else {
            return Ok(json!({"revoked_count": written_count}));
        };
        pending.last_written_id = last.id;
        tx.save_pending_ends(&pending).await?;
        Ok(
            json!({"revoked_count_min": written_count + 1, "counted_by": AuditAction::CredentialRevokeOwned.as_str()}),
        )
    }

    /// Writes the pending end events that no other transaction has locked, and returns how many it wrote. After each batch
    /// `progress` receives the number so far.
    pub async fn write_pending_ends(
        self: &Arc<Self>,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<u64> {
        if !self.store.has_pending_ends().await? {
            return Ok(0);
        }
        let this = Arc::clone(self);
        let attempt = Attempt::new(&Context::operator("server"), AuditAction::CredentialRevoke);
        // The owner's generation has already revoked the credentials.
        self.run(attempt, Effect::Neutral, async move {
            let mut written = 0;
            let mut committed = this.nothing_to_commit().await?;
            while let Some((batch, count)) = this.write_pending_batch().await? {
                committed = committed.and(batch);
                written += count;
                progress(written);
                if this.tasks.tracker.is_closed() {
                    break;
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
            Ok(committed.done(written))
        })
        .await
    }

    /// Waits until no end events are pending, and writes those that no other server is writing. A purge needs this,
    /// because it deletes the rows that the events describe.
    pub(in crate::service) async fn finish_pending_ends(&self) -> Result<()> {
        for _ in 0..OTHERS_MAX {
            if !self.store.has_pending_ends().await? {
                return Ok(());
            }
            self.write_pending_batch().await?;
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        Err(Reason::StoreUnavailable.into())
    }

    /// Writes a batch of pending end events. `None` if there are none, or other servers are writing all of them.
    async fn write_pending_batch(&self) -> Result<Option<(Committed, u64)>> {
        let mut tx = self.begin("write_pending_ends").await?;
        let Some(mut pending) = tx.take_pending_ends().await? else { return Ok(None) };
        let mut batch = tx.list_pending_ends(&pending, fetch_limit()).await?;
        let more = batch.len() > EVENTS_PER_TRANSACTION;
        batch.truncate(EVENTS_PER_TRANSACTION);
        let count = batch.len() as u64;
        pending.written_count += i64::try_from(batch.len()).unwrap_or(0);
        let mut events = self.end_events(&pending, &batch)?;
        if let Some(last) = batch.last().filter(|_| more) {
            pending.last_written_id = last.id;
            tx.save_pending_ends(&pending).await?;
        } else {
            tx.delete_pending_ends(pending.id).await?;
            events.push(self.summary_event(&pending)?);
        }
        let last = events.pop().ok_or(Reason::Internal)?;
        tx.insert_audit_events(&events).await?;
        Ok(Some((self.commit(tx, &last).await?, count)))
    }

    /// Returns an event for each credential of the batch.
    fn end_events(&self, pending: &PendingEnds, batch: &[Credential]) -> Result<Vec<AuditEvent>> {
        let events = batch.iter().map(|found| {
            // The row before and after the deletion. The owner's generation gives the revoke time, and the version does
            // not change.
            let before = Credential { revoke_time: None, ..found.clone() };
            let after = Credential { revoke_time: Some(pending.revoke_time), ..found.clone() };
            let entry = Entry {
                action: AuditAction::CredentialRevoke,
                target: AuditTarget::Credential(found.id),
                acting_user: None,
                before: Some(view::credential(&before, pending.revoke_time)),
                after: Some(view::credential(&after, pending.revoke_time)),
                reason: Some(&pending.reason),
            };
            self.event_by_deleter(pending, entry)
        });
        events.collect()
    }

    /// Returns the event that reports the number of credentials, once all their events are written.
    fn summary_event(&self, pending: &PendingEnds) -> Result<AuditEvent> {
        let target = match &pending.owner {
            PendingEndsOwner::Workspace(id) => AuditTarget::Workspace(id.clone()),
            PendingEndsOwner::User(id) => AuditTarget::User(id.clone()),
        };
        let entry = Entry {
            action: AuditAction::CredentialRevokeOwned,
            target,
            acting_user: None,
            before: None,
            after: Some(json!({
                "revoked_count": pending.written_count,
                "revoke_time": pending.revoke_time.to_string(),
            })),
            reason: Some(&pending.reason),
        };
        self.event_by_deleter(pending, entry)
    }

    /// Builds an event in the name of the caller that deleted the owner.
    fn event_by_deleter(&self, pending: &PendingEnds, entry: Entry<'_>) -> Result<AuditEvent> {
        let event = self.audit_event(&Context::operator(""), entry)?;
        let (caller, remote_address) = (pending.caller.clone(), pending.remote_address.clone());
        Ok(AuditEvent { caller, remote_address, ..event })
    }
}

/// Number of rows to fetch: one more than a batch, to see whether more follow.
fn fetch_limit() -> u32 {
    u32::try_from(EVENTS_PER_TRANSACTION + 1).unwrap_or(u32::MAX)
}
