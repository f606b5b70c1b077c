//! Cleaning up: credentials that have long been dead, and old rows of the change log. In small batches, with a pause
//! between for those who wait. (The audit log is never cleaned up by itself: its retention is in `audit.rs`.)

use std::sync::Arc;
use std::time::Duration;

use super::audit::Entry;
use super::commit::Effect;
use super::{Attempt, Context, Result, Service, ServiceError, view};
use crate::model::limits::BATCH_PAUSE;
use crate::model::{AuditAction, AuditTarget, Credential, Timestamp};

/// Credentials, or rows of the log, that one transaction drops.
const BATCH: u32 = 200;

impl Service {
    /// Drops credentials that were revoked or expired, by themselves or with their owner's watermark, before `cutoff`;
    /// how many. Each has an event with what it was at last. `progress` hears after each batch how many it were so far.
    pub async fn purge_dead(
        self: &Arc<Self>,
        context: Context,
        cutoff: Timestamp,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<u64> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::CredentialPurge);
        // A token that was dropped is unknown, where it was revoked or expired: it is allowed no more than before.
        self.run(attempt, Effect::Neutral, async move {
            let mut purged = 0;
            this.all_told().await?;
            let mut committed = this.nothing_to_commit().await?;
            loop {
                // Each time: a clock can be set at any moment.
                this.trust_the_clock().await?;
                let batch = this.store.list_purgeable(cutoff, BATCH).await?;
                if batch.is_empty() {
                    return Ok(committed.done(purged));
                }
                let now = this.clock.now();
                let mut tx = this.begin("purge_dead").await?;
                // Another replica that purges may have been here since.
                let mut found = tx.find_credentials(&batch).await?;
                found.retain(|credential| died(credential).is_some_and(|time| time < cutoff));
                let ids: Vec<_> = found.iter().map(|credential| credential.id).collect();
                tx.delete_credentials(&ids).await?;
                let mut events = Vec::with_capacity(found.len());
                for credential in &found {
                    let entry = Entry {
                        action: AuditAction::CredentialPurge,
                        target: AuditTarget::Credential(credential.id),
                        acting_user: None,
                        before: Some(view::credential(credential, now)),
                        after: None,
                        reason: None,
                    };
                    events.push(this.audit_event(&context, entry)?);
                }
                if let Some(last) = events.pop() {
                    tx.insert_audit_events(&events).await?;
                    committed = committed.and(this.commit(tx, &last).await?);
                }
                purged += found.len() as u64;
                progress(purged);
                if this.tasks.is_closed() {
                    return Ok(committed.done(purged));
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        })
        .await
    }

    /// Drops rows of the change log from before `cutoff` that every replica has applied (CATALOGUE E18); how many. No
    /// management call: the log is for replicas, and what it tells of is in the audit log.
    pub async fn purge_changes(self: &Arc<Self>, cutoff: Timestamp) -> Result<u64> {
        let this = Arc::clone(self);
        let task = self.tasks.spawn(async move {
            let mut purged = 0;
            loop {
                this.trust_the_clock().await?;
                let count = this.store.delete_changes(cutoff, BATCH).await?;
                purged += count;
                if count < u64::from(BATCH) || this.tasks.is_closed() {
                    return Ok(purged);
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        });
        task.await.unwrap_or_else(|error| Err(ServiceError::internal(&error)))
    }

    /// The time this long ago, by whichever clock is behind: what was dead then is so by both.
    pub fn ago(&self, age: Duration) -> Timestamp {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let then = self.clock.certain().unix_micros().saturating_sub(micros);
        // Longer ago than the year 1 is before all there is.
        Timestamp::from_unix_micros(then).unwrap_or(Timestamp::EARLIEST)
    }
}

/// Since when it is dead, or when it will be.
fn died(credential: &Credential) -> Option<Timestamp> {
    credential.revoke_time.into_iter().chain(credential.expire_time).min()
}
