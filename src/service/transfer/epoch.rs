//! Starting a new epoch, which is required after a backup was restored.

use std::sync::Arc;

use super::super::audit::Entry;
use super::super::commit::Effect;
use super::super::{Attempt, Context, Result, Service};
use crate::model::{AuditAction, AuditTarget};
use crate::token::random_array;

/// Every server drops its cache, but there is nothing to wait for: the rows of the replicas come from the backup.
/// Servers that started later have no row, and those with a row may no longer run. Each server learns of the new epoch
/// at its next sync. Until then, its lease limits how long it answers from memory.
const EFFECT: Effect = Effect::Neutral;

impl Service {
    /// Starts a new epoch. The change log does not continue what the servers have seen, so each of them drops its
    /// cache. Returns the epoch.
    ///
    /// # Errors
    /// Only if the store or the random source is unavailable.
    pub async fn renew_epoch(self: &Arc<Self>, context: Context) -> Result<uuid::Uuid> {
        let this = Arc::clone(self);
        let attempt = Attempt::on(&context, AuditAction::StoreNewEpoch, &AuditTarget::Store);
        self.run(attempt, EFFECT, async move {
            let epoch = uuid::Builder::from_random_bytes(random_array(&*this.random)?).into_uuid();
            let mut tx = this.begin("renew_epoch").await?;
            tx.renew_epoch(epoch).await?;
            let entry = Entry {
                action: AuditAction::StoreNewEpoch,
                target: AuditTarget::Store,
                acting_user: None,
                before: None,
                after: Some(serde_json::json!({"epoch": epoch.to_string()})),
                reason: None,
            };
            Ok(this.commit(tx, &this.audit_event(&context, entry)?).await?.done(epoch))
        })
        .await
    }
}
