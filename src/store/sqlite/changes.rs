//! The change log: reading and purging. Triggers write it.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{Result, SqliteStore, read, sql_time, transact};
use crate::model::{EventId, Revision, StoreTime, Timestamp};
use crate::store::{Change, ChangeStore, row};

#[async_trait]
impl ChangeStore for SqliteStore {
    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>> {
        read!(self, async |db| {
            // A revision above `i64::MAX` cannot exist, so no change comes after it.
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
        })
    }

    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        transact!(self, async |db| {
            // Only a prefix of the log is deleted, so that the rest has no gap. An old row behind a newer one therefore
            // stays.
            let done = sqlx::query(
                "WITH head AS (SELECT revision, commit_time FROM changes ORDER BY revision LIMIT $2) \
                 DELETE FROM changes \
                 WHERE revision IN (SELECT head.revision FROM head) \
                   AND revision < COALESCE((SELECT min(head.revision) FROM head WHERE head.commit_time >= $1), \
                                           9223372036854775807) \
                   AND revision < (SELECT counter.revision FROM counter WHERE counter.id = 1) \
                   AND revision <= COALESCE((SELECT min(replicas.applied) FROM replicas WHERE replicas.end_time IS NULL), \
                                           9223372036854775807)",
            )
            .bind(sql_time(cutoff))
            .bind(i64::from(limit))
            .execute(db)
            .await?;
            Ok(done.rows_affected())
        })
    }

    async fn revision(&self) -> Result<Revision> {
        read!(self, async |db| revision(db).await)
    }

    async fn time(&self) -> Result<StoreTime> {
        read!(self, async |db| {
            // A file has no clock besides that of the process that opens it.
            let row = sqlx::query(
                "SELECT NULL, (SELECT time FROM audit_events ORDER BY id DESC LIMIT 1)",
            )
            .fetch_one(&mut *db)
            .await?;
            let time = row::store_time(&row)?;
            let Some(newest) = time.newest_event else { return Ok(time) };
            let row = sqlx::query(
                "SELECT (SELECT time FROM audit_events WHERE id >= $1 ORDER BY id LIMIT 1), \
                     (SELECT time FROM audit_events WHERE id < $1 ORDER BY id DESC LIMIT 1)",
            )
            .bind(EventId::first_of(newest.saturating_sub(StoreTime::LATELY)).0)
            .fetch_one(db)
            .await?;
            Ok(StoreTime { lately: row::lately(&row)?, ..time })
        })
    }
}

/// Returns the newest revision.
pub(super) async fn revision(db: &mut SqliteConnection) -> Result<Revision> {
    let row = sqlx::query("SELECT revision FROM counter WHERE id = 1").fetch_one(db).await?;
    row::revision(&row)
}
