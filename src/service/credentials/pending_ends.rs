//! Credentials that die with their owner, by its watermark, have an event each, as if each had been revoked by itself. Of few
//! they are in the transaction that deletes the owner. Of many the first are, and the rest is noted there, as [`PendingEnds`]:
//! whichever server comes to it tells them in small batches, each of which commits how far it has come. So each is told
//! once, whoever crashes, and nobody waits long for a batch. Such rows change no more but by being purged, which waits for
//! this.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::limits::BATCH_PAUSE;
use crate::model::{AuditAction, AuditEvent, AuditTarget, Credential, Timestamp};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Effect};
use crate::service::{Attempt, Context, Reason, Result, Service, view};
use crate::store::{PendingEnds, PendingEndsOwner, RevokeFilter, WriteTx};

/// Credentials that one transaction tells of: few, for others who write wait for it.
const BATCH: usize = 50;
/// Batches of others that a purge waits for.
const OTHERS_MAX: u32 = 60_000;

impl Service {
    /// Records of each credential of an owner that it is revoked now, or notes that it is to be recorded; what the event of
    /// the owner says of it. To be called before the owner's watermark is raised from `generation`, in the same transaction,
    /// which holds the owner: that is what revokes them.
    pub(in crate::service) async fn record_revoked(
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
        let mut batch = tx.find_revocable(&filter, None, fetch()).await?;
        let more = batch.len() > BATCH;
        batch.truncate(BATCH);
        let written_count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        let (time, random) = self.stamp()?;
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
        let events = self.ends(&pending, &batch)?;
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
    pub async fn tell_revoked(
        self: &Arc<Self>,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<u64> {
        if !self.store.has_pending_ends().await? {
            return Ok(0);
        }
        let this = Arc::clone(self);
        let attempt = Attempt::new(&Context::operator("server"), AuditAction::CredentialRevoke);
        // The watermark has taken away all that there was.
        self.run(attempt, Effect::Neutral, async move {
            let mut told = 0;
            let mut committed = this.nothing_to_commit().await?;
            while let Some((batch, count)) = this.tell_batch().await? {
                committed = committed.and(batch);
                told += count;
                progress(told);
                if this.tasks.is_closed() {
                    break;
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
            Ok(committed.done(told))
        })
        .await
    }

    /// Waits until all is told, and tells what nobody else does: what is purged must have been told of.
    pub(in crate::service) async fn all_told(&self) -> Result<()> {
        for _ in 0..OTHERS_MAX {
            if !self.store.has_pending_ends().await? {
                return Ok(());
            }
            self.tell_batch().await?;
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        Err(Reason::StoreUnavailable.into())
    }

    /// Tells of some; nothing if there is none that nobody else holds.
    async fn tell_batch(&self) -> Result<Option<(Committed, u64)>> {
        let mut tx = self.begin("tell_revoked").await?;
        let Some(mut pending) = tx.take_pending_ends().await? else { return Ok(None) };
        let mut batch = tx.list_pending_ends(&pending, fetch()).await?;
        let more = batch.len() > BATCH;
        batch.truncate(BATCH);
        let count = batch.len() as u64;
        pending.written_count += i64::try_from(batch.len()).unwrap_or(0);
        let mut events = self.ends(&pending, &batch)?;
        if let Some(last) = batch.last().filter(|_| more) {
            pending.last_written_id = last.id;
            tx.save_pending_ends(&pending).await?;
        } else {
            tx.delete_pending_ends(pending.id).await?;
            events.push(self.told(&pending)?);
        }
        let last = events.pop().ok_or(Reason::Internal)?;
        tx.insert_audit_events(&events).await?;
        Ok(Some((self.commit(tx, &last).await?, count)))
    }

    /// An event for each of the batch.
    fn ends(&self, pending: &PendingEnds, batch: &[Credential]) -> Result<Vec<AuditEvent>> {
        let events = batch.iter().map(|found| {
            // As it was, and as the row reads from then on: the watermark stands for its time, and its version is not
            // counted on.
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
            self.event_of_pending_ends(pending, entry)
        });
        events.collect()
    }

    /// That all is told, and how many it were.
    fn told(&self, pending: &PendingEnds) -> Result<AuditEvent> {
        let target = match &pending.owner {
            PendingEndsOwner::Workspace(id) => AuditTarget::Workspace(id.clone()),
            PendingEndsOwner::User(id) => AuditTarget::User(id.clone()),
        };
        let entry = Entry {
            action: AuditAction::CredentialRevokeOwned,
            target,
            acting_user: None,
            before: None,
            after: Some(json!({"revoked_count": pending.written_count})),
            reason: Some(&pending.reason),
        };
        self.event_of_pending_ends(pending, entry)
    }

    /// In the name of who deleted the owner, whoever tells it.
    fn event_of_pending_ends(&self, pending: &PendingEnds, entry: Entry<'_>) -> Result<AuditEvent> {
        let event = self.audit_event(&Context::operator(""), entry)?;
        let (caller, remote_address) = (pending.caller.clone(), pending.remote_address.clone());
        Ok(AuditEvent { caller, remote_address, ..event })
    }
}

/// One more than a batch, to see whether there are more.
fn fetch() -> u32 {
    u32::try_from(BATCH + 1).unwrap_or(u32::MAX)
}
