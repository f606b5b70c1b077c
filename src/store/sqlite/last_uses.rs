//! Last uses, which credentials and callers record in the same columns.

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{Result, sql_time};
use crate::model::LastUse;

/// Updates a last use in this table, for [`write`].
macro_rules! update_last_uses {
    ($table:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET last_use_time = $2, last_use_ip = $3 \
             WHERE id = $1 AND (last_use_time IS NULL OR last_use_time < $2)"
        )
    };
}

pub(super) use update_last_uses;

/// Runs `statement`, an [`update_last_uses!`], for each use, and returns the number of changed rows. Several replicas
/// write at once, and none overwrites a later time.
pub(super) async fn write(
    db: &mut SqliteConnection,
    statement: &'static str,
    uses: &[(Uuid, LastUse)],
) -> Result<u64> {
    let mut written = 0;
    for (id, last_use) in uses {
        let done = sqlx::query(statement)
            .bind(*id)
            .bind(sql_time(last_use.time))
            .bind(last_use.ip.map(|ip| ip.to_string()))
            .execute(&mut *db)
            .await?;
        written += done.rows_affected();
    }
    Ok(written)
}
