//! The change log, as its readers see it: triggers write it.

use sqlx::SqliteConnection;

use super::Result;
use crate::model::Revision;
use crate::store::Change;
use crate::store::row;

/// Rows after this revision, in order.
pub(super) async fn list(
    db: &mut SqliteConnection,
    after: Revision,
    limit: u32,
) -> Result<Vec<Change>> {
    // A revision beyond what the database can count to has nothing after it.
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let rows = sqlx::query(
        "SELECT revision, entity, entity_id, digest \
         FROM changes \
         WHERE revision > $1 \
         ORDER BY revision \
         LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter().map(row::change).collect()
}

/// The newest revision.
pub(super) async fn revision(db: &mut SqliteConnection) -> Result<Revision> {
    let row = sqlx::query("SELECT revision FROM counter WHERE id = 1").fetch_one(db).await?;
    row::revision(&row)
}
