//! A new epoch: what must be said once after a backup was restored.

use std::sync::Arc;

use super::super::audit::Entry;
use super::super::commit::Effect;
use super::super::{Attempt, Context, Result, Service};
use crate::model::{AuditAction, AuditTarget};
use crate::token::random_array;

/// It has each server drop all that it holds, and yet there is nothing to wait for: the rows of the replicas are the
/// backup's. Servers that came after it have none, and those that it has may have ended long ago. Each learns of the new
/// epoch when it next syncs, and answers from memory no longer than its lease without having done so.
const EFFECT: Effect = Effect::Neutral;

impl Service {
    /// Says that the change log is no continuation of what any server has seen, so that each drops what it holds in
    /// memory and starts afresh; the new epoch.
    ///
    /// # Errors
    /// Only if the store or the random source is out of reach.
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
