//! The change feed, on a dedicated connection.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqliteSynchronous;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::watched::Watched;
use super::{Result, SqliteStore, read};
use crate::model::{ReplicaId, Revision};
use crate::store::feed::{self, process_age, process_name};
use crate::store::{
    ChangeFeed, FeedStore, Hint, IncarnationId, Published, RULES, Replicas, StoreError, Synced,
    VERSION, row,
};

/// Interval between two checks for commits of other connections, in this process or another. A check takes
/// microseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The current time of this machine in microseconds. It is only for display and for cleaning up.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

pub(super) use now;

#[async_trait]
impl FeedStore for SqliteStore {
    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(SqliteFeed::open(self).await?))
    }

    async fn list_replicas(&self) -> Result<Replicas> {
        read!(self, async |db| {
            let rows = sqlx::query(
                "SELECT lower(hex(counter.epoch)), counter.revision, r.replica_id, \
                     r.end_time IS NOT NULL, r.applied, r.seq, r.lease, r.rules \
                 FROM counter LEFT JOIN replicas AS r ON true \
                 WHERE counter.id = 1",
            )
            .fetch_all(db)
            .await?;
            feed::replicas(&rows)
        })
    }

    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        read!(self, async |db| {
            let row = sqlx::query("SELECT host FROM replicas WHERE replica_id = $1").bind(id.0);
            let row = row.fetch_optional(db).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
    }

    async fn mark_replica_ended(&self, id: ReplicaId, seq: i64) -> Result<bool> {
        self.file.check()?;
        let mut db = self.write_pool().acquire().await?;
        let done = sqlx::query(concat!(
            "UPDATE replicas SET end_time = ",
            now!(),
            " WHERE replica_id = $1 AND seq = $2 AND end_time IS NULL"
        ))
        .bind(id.0)
        .bind(seq)
        .execute(&mut *db)
        .await;
        let done = self.file.record(done.map_err(StoreError::from))?;
        Ok(done.rows_affected() == 1)
    }
}

/// A change feed on one connection.
pub(super) struct SqliteFeed {
    db: SqliteConnection,
    /// `PRAGMA data_version` at the last check. It changes when another connection commits.
    seen: i64,
    file: Arc<Watched>,
}

impl SqliteFeed {
    /// Opens the file as the store has it. After damage, this is also what triggers the check of the whole file.
    pub(super) async fn open(store: &SqliteStore) -> Result<Self> {
        store.recheck_damaged_file().await?;
        let options = store.options.clone();
        // The replica's row need not be durable. A crash that loses the row also ends this process.
        let db = options.synchronous(SqliteSynchronous::Normal).connect().await?;
        store.file.check()?;
        Ok(Self { db, seen: 0, file: Arc::clone(&store.file) })
    }

    async fn data_version(&mut self) -> Result<i64> {
        // Every call checks the path, because answers from memory are only valid while this file is the one at its
        // path.
        self.file.check()?;
        let row = sqlx::query("PRAGMA data_version").fetch_one(&mut self.db).await?;
        Ok(row.try_get(0)?)
    }
}

impl SqliteFeed {
    async fn registered(
        &mut self,
        id: ReplicaId,
        lease: Duration,
    ) -> Result<(IncarnationId, Revision)> {
        sqlx::query(concat!("DELETE FROM replicas WHERE end_time < ", now!(), " - 3600000000"))
            .execute(&mut self.db)
            .await?;
        sqlx::query(concat!(
            "INSERT INTO replicas ( \
                 replica_id, applied, seq, seen_epoch, heartbeat, host, lease, version, rules, process_id, start_time) \
             SELECT $1, 0, 0, epoch, ",
            now!(),
            ", $3, $2, $4, $5, $6, ",
            now!(),
            " - $7 FROM counter WHERE id = 1"
        ))
        .bind(id.0)
        .bind(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
        .bind(process_name())
        .bind(VERSION)
        .bind(RULES)
        .bind(i64::from(std::process::id()))
        .bind(row::duration_micros(process_age()))
        .execute(&mut self.db)
        .await?;
        let row = sqlx::query("SELECT lower(hex(epoch)), revision FROM counter WHERE id = 1")
            .fetch_one(&mut self.db)
            .await?;
        row::incarnation_and_revision(&row)
    }

    async fn synced(
        &mut self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>> {
        // Read before the snapshot, so that a later commit counts as new.
        self.seen = self.data_version().await?;
        let mut transaction = self.db.begin_with("BEGIN IMMEDIATE").await?;
        let applied = i64::try_from(published.applied.0).unwrap_or(i64::MAX);
        let done = sqlx::query(concat!(
            "UPDATE replicas \
             SET applied = CASE WHEN lower(hex(counter.epoch)) = $3 THEN $2 ELSE 0 END, seq = $4, \
                 heartbeat = ",
            now!(),
            " FROM counter \
             WHERE replica_id = $1 AND end_time IS NULL AND counter.id = 1"
        ))
        .bind(id.0)
        .bind(applied)
        .bind(published.incarnation.as_ref().map(|incarnation| incarnation.0.as_str()))
        .bind(published.seq)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(None);
        }
        let rows = sqlx::query(
            "SELECT lower(hex(counter.epoch)), counter.revision, 0, \
                 changes.revision, changes.entity, changes.entity_id, changes.digest \
             FROM counter LEFT JOIN changes ON changes.revision > $1 \
             WHERE counter.id = 1 \
             ORDER BY changes.revision \
             LIMIT $2",
        )
        .bind(applied)
        .bind(i64::from(limit))
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.file.check()?;
        row::synced(&rows)
    }
}

#[async_trait]
impl ChangeFeed for SqliteFeed {
    async fn register(
        &mut self,
        id: ReplicaId,
        lease: Duration,
    ) -> Result<(IncarnationId, Revision)> {
        let registered = self.registered(id, lease).await;
        self.file.record(registered)
    }

    async fn sync(
        &mut self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>> {
        let synced = self.synced(id, published, limit).await;
        self.file.record(synced)
    }

    async fn wait(&mut self, longest: Duration) -> Result<Hint> {
        let deadline = tokio::time::Instant::now() + longest;
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_INTERVAL.min(longest)).await;
            let version = self.data_version().await?;
            if version != self.seen {
                self.seen = version;
                let row =
                    sqlx::query("SELECT lower(hex(epoch)), revision FROM counter WHERE id = 1")
                        .fetch_one(&mut self.db)
                        .await?;
                return Ok(Hint::Revision(row::incarnation_and_revision(&row)?.1));
            }
        }
        Ok(Hint::Look)
    }

    async fn deregister(&mut self, id: ReplicaId) -> Result<()> {
        sqlx::query(concat!(
            "UPDATE replicas SET end_time = ",
            now!(),
            " WHERE replica_id = $1 AND end_time IS NULL"
        ))
        .bind(id.0)
        .execute(&mut self.db)
        .await?;
        Ok(())
    }
}
