//! Rules of the decision that a server of an earlier release would ignore.

use async_trait::async_trait;

use super::session::transact;
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result};
use crate::store::{OldReplica, RULES, RulesStore, RulesTx, rules};

#[async_trait]
impl RulesStore for PostgresStore {
    async fn release_rules(&self) -> Result<()> {
        transact!(self, async |db| {
            let locked = db
                .query("SELECT id FROM rules_lock WHERE id = 1 AND in_use FOR UPDATE")
                .fetch_optional(db.connection())
                .await?;
            if locked.is_some() {
                // A statement of its own. At READ COMMITTED it sees every rule that was set before the lock was granted.
                db.query(
                    "UPDATE rules_lock SET in_use = false WHERE id = 1 AND rules_in_use() = 0",
                )
                .execute(db.connection())
                .await?;
            }
            Ok(())
        })
    }
}

#[async_trait]
impl RulesTx for PostgresTx {
    async fn require_rules(&mut self) -> Result<Option<OldReplica>> {
        run!(self, async |db| {
            // The first to set a rule has the lock alone. Whoever comes later shares it.
            db.query("UPDATE rules_lock SET in_use = true WHERE id = 1 AND NOT in_use")
                .execute(db.connection())
                .await?;
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
            row.as_ref().map(rules::old_replica).transpose()
        })
    }
}
