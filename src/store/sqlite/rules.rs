//! Rules of the decision that a server of an earlier release would ignore.

use async_trait::async_trait;

use super::Result;
use super::transaction::{SqliteTx, run};
use crate::store::{OldReplica, RULES, RulesTx, row};

#[async_trait]
impl RulesTx for SqliteTx {
    async fn require_rules(&mut self) -> Result<Option<OldReplica>> {
        run!(self, async |db| {
            // The transaction has the only lock, so no replica registers before it ends.
            let row = sqlx::query(
                "SELECT host, version FROM replicas WHERE end_time IS NULL AND rules < $1 \
                 ORDER BY replica_id LIMIT 1",
            )
            .bind(RULES)
            .fetch_optional(db)
            .await?;
            row.as_ref().map(row::old_replica).transpose()
        })
    }
}
