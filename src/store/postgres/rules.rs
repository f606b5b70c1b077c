//! Rules of the decision that a server of an earlier release would ignore.

use async_trait::async_trait;

use super::Result;
use super::transaction::{PostgresTx, run};
use crate::store::{OldReplica, RULES, RulesTx, row};

#[async_trait]
impl RulesTx for PostgresTx {
    async fn require_rules(&mut self) -> Result<Option<OldReplica>> {
        run!(self, async |db| {
            db.query("SELECT id FROM rules_lock WHERE id = 1 FOR SHARE")
                .execute(db.connection())
                .await?;
            // A statement of its own. At READ COMMITTED it sees every replica that registered before the lock was
            // granted.
            let row = db
                .query(
                    "SELECT host, version FROM replicas WHERE end_time IS NULL AND rules < $1 \
                     ORDER BY replica_id LIMIT 1",
                )
                .bind(RULES)
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(row::old_replica).transpose()
        })
    }
}
