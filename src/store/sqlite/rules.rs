//! Rules of the decision that a server of an earlier release would ignore.

use async_trait::async_trait;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, transact};
use crate::store::{OldReplica, RULES, RulesStore, RulesTx, rules};

#[async_trait]
impl RulesStore for SqliteStore {
    async fn release_rules(&self) -> Result<()> {
        transact!(self, async |db| {
            sqlx::query(
                "UPDATE rules_lock SET in_use = false \
                 WHERE id = 1 AND in_use AND (SELECT rules FROM rules_in_use) = 0",
            )
            .execute(db)
            .await?;
            Ok(())
        })
    }
}

#[async_trait]
impl RulesTx for SqliteTx {
    async fn require_rules(&mut self) -> Result<Option<OldReplica>> {
        run!(self, async |db| {
            // The transaction has the only lock, so no replica registers before it ends.
            sqlx::query("UPDATE rules_lock SET in_use = true WHERE id = 1 AND NOT in_use")
                .execute(&mut *db)
                .await?;
            let row = sqlx::query(
                "SELECT host, version FROM replicas WHERE end_time IS NULL AND rules < $1 \
                 ORDER BY replica_id LIMIT 1",
            )
            .bind(RULES)
            .fetch_optional(db)
            .await?;
            row.as_ref().map(rules::old_replica).transpose()
        })
    }
}
