//! The change log: reading and purging. Triggers write it.

use async_trait::async_trait;

use super::hosts::origin;
use super::session::{decide, read, transact};
use super::{PostgresStore, Result, Session, StatementResult, sql_time};
use crate::model::{Revision, StoreTime, Timestamp};
use crate::store::{Change, ChangeStore, Origin, row};

#[async_trait]
impl ChangeStore for PostgresStore {
    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>> {
        read!(self, async |db| {
            // No change can follow a revision above the maximum of `bigint`.
            let after = i64::try_from(after.0).unwrap_or(i64::MAX);
            let rows = db
                .query(
                    "SELECT revision, entity, entity_id, digest \
                 FROM changes \
                 WHERE revision > $1 \
                 ORDER BY revision \
                 LIMIT $2",
                )
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(db.connection())
                .await?;
            rows.iter().map(row::change).collect()
        })
    }

    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        transact!(self, async |db| {
            // Each condition is an upper bound on a prefix of the log, so the remaining rows have no gap. An old row
            // after a younger one remains too.
            let done = db.query(
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
            .execute(db.connection())
            .await?;
            Ok(done.rows_affected())
        })
    }

    async fn revision(&self) -> Result<Revision> {
        decide!(self, async |db| {
            let row = db
                .query(concat!("SELECT ", origin!(), ", revision FROM counter WHERE id = 1"))
                .fetch_one(db.connection())
                .await?;
            let (origin, revision) = row::origin_and_revision(&row)?;
            Ok(StatementResult { origin, revision, value: Ok(revision) })
        })
    }

    async fn time(&self) -> Result<StoreTime> {
        read!(self, async |db| {
            let sql = "SELECT clock_timestamp(), \
                 (SELECT time FROM audit_events ORDER BY id DESC LIMIT 1)";
            let row = db.query(sql).fetch_one(db.connection()).await?;
            row::store_time(&row)
        })
    }
}

/// Runs the deferred triggers, which append this transaction's changes and lock the counter. Returns the origin of the
/// statement and the newest revision. It is one round trip, because the lock is held until the commit.
pub(super) async fn append(db: &mut Session) -> Result<(Origin, Revision)> {
    let row = sqlx::raw_sql(concat!(
        "SET CONSTRAINTS ALL IMMEDIATE; SELECT ",
        origin!(),
        ", revision FROM counter WHERE id = 1"
    ))
    .fetch_one(db.connection())
    .await?;
    row::origin_and_revision(&row)
}
