//! Purge of credentials that ended long ago and of old rows of the change log, in small batches with a pause in
//! between, so that other writers get their turn. The audit log is purged only on request: see `audit.rs`.

use std::sync::Arc;
use std::time::Duration;

use super::audit::Entry;
use super::commit::Effect;
use super::{Attempt, Context, Result, Service, ServiceError, view};
use crate::model::limits::BATCH_PAUSE;
use crate::model::{AuditAction, AuditTarget, Credential, Timestamp};

/// Number of credentials or change log rows that one transaction deletes.
const ROWS_PER_TRANSACTION: u32 = 200;

impl Service {
    /// Deletes credentials that expired or were revoked before `cutoff`, individually or by their owner's generation,
    /// and returns their number. An event records the last state of each. `progress` receives the running total after
    /// each batch.
    pub async fn purge_dead(
        self: &Arc<Self>,
        context: Context,
        cutoff: Timestamp,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<u64> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::CredentialPurge);
        // The token becomes unknown instead of revoked or expired. It is denied as before, so no replica has to be
        // awaited.
        self.run(attempt, Effect::Neutral, async move {
            let mut purged = 0;
            this.finish_pending_ends().await?;
            let mut committed = this.nothing_to_commit().await?;
            loop {
                // Checked for each batch, since a clock can be set at any moment.
                this.require_trusted_clock().await?;
                let batch = this.store.list_purgeable(cutoff, ROWS_PER_TRANSACTION).await?;
                if batch.is_empty() {
                    return Ok(committed.done(purged));
                }
                let now = this.clock.now();
                let mut tx = this.begin("purge_dead").await?;
                // Another replica may have purged or changed some of them since.
                let mut found = tx.find_credentials(&batch).await?;
                found.retain(|credential| end_time(credential).is_some_and(|time| time < cutoff));
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
                if this.tasks.tracker.is_closed() {
                    return Ok(committed.done(purged));
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        })
        .await
    }

    /// Deletes the rows of the change log that are older than `cutoff` and that every replica has applied. Returns
    /// their number. It is not a management call, since the audit log holds the same changes.
    pub async fn purge_changes(self: &Arc<Self>, cutoff: Timestamp) -> Result<u64> {
        let this = Arc::clone(self);
        let task = self.tasks.tracker.spawn(async move {
            let mut purged = 0;
            loop {
                this.require_trusted_clock().await?;
                let count = this.store.delete_changes(cutoff, ROWS_PER_TRANSACTION).await?;
                purged += count;
                if count < u64::from(ROWS_PER_TRANSACTION) || this.tasks.tracker.is_closed() {
                    return Ok(purged);
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        });
        task.await.unwrap_or_else(|error| Err(ServiceError::internal(&error)))
    }

    /// Lets programs of earlier releases open the store again, if no rule is in use any more that they would ignore.
    ///
    /// # Errors
    /// If the store cannot be written to.
    pub async fn release_rules(&self) -> Result<()> {
        Ok(self.store.release_rules().await?)
    }

    /// Returns the time `age` ago, by the clock that is behind: a credential that had ended by then had ended by both
    /// clocks.
    pub fn ago(&self, age: Duration) -> Timestamp {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let then = self.clock.earliest_now().unix_micros().saturating_sub(micros);
        // A time before the year 1 is before every event.
        Timestamp::from_unix_micros(then).unwrap_or(Timestamp::EARLIEST)
    }
}

/// Returns when the credential ended or will end.
fn end_time(credential: &Credential) -> Option<Timestamp> {
    credential.revoke_time.into_iter().chain(credential.expire_time).min()
}
