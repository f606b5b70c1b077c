//! The change log, as its readers see it, and its purging: triggers write it.

use async_trait::async_trait;

use super::hosts::place;
use super::session::{decide, read, transact};
use super::{PostgresStore, Result, Seen, Session, at};
use crate::model::{Revision, StoreTime, Timestamp};
use crate::store::{Change, ChangeStore, Place, row};

#[async_trait]
impl ChangeStore for PostgresStore {
    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>> {
        read!(self, async |db| {
            // A revision beyond what the database can count to has nothing after it.
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
            // Every condition is an upper bound on a prefix, so that what stays has no gap: a row behind a younger one stays
            // with it.
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
            .bind(at(cutoff))
            .bind(i64::from(limit))
            .execute(db.connection())
            .await?;
            Ok(done.rows_affected())
        })
    }

    async fn revision(&self) -> Result<Revision> {
        decide!(self, async |db| {
            let row = db
                .query(concat!("SELECT ", place!(), ", revision FROM counter WHERE id = 1"))
                .fetch_one(db.connection())
                .await?;
            let (place, revision) = row::placed(&row)?;
            Ok(Seen { place, revision, what: Ok(revision) })
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

/// Runs the deferred triggers, which append this transaction's changes and so take the counter's lock; where that was
/// done, and the newest revision. One round trip, since the lock is held over all that comes after it.
pub(super) async fn append(db: &mut Session) -> Result<(Place, Revision)> {
    let row = sqlx::raw_sql(concat!(
        "SET CONSTRAINTS ALL IMMEDIATE; SELECT ",
        place!(),
        ", revision FROM counter WHERE id = 1"
    ))
    .fetch_one(db.connection())
    .await?;
    row::placed(&row)
}
