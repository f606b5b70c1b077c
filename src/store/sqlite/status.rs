//! The state of the service, for people.

use async_trait::async_trait;

use super::{Result, SqliteStore, read, sql_time};
use crate::model::{ReplicaId, Timestamp};
use crate::store::status::{self, count_entities, count_expiring, replica_columns};
use crate::store::{
    EntityCounts, ExpiringCount, ReplicaDetails, StatusStore, StoreError, StoreKind,
};

#[async_trait]
impl StatusStore for SqliteStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Sqlite
    }

    async fn list_replica_details(
        &self,
        after: Option<ReplicaId>,
        limit: u32,
    ) -> Result<Vec<ReplicaDetails>> {
        read!(self, async |db| {
            let rows = sqlx::query(concat!(
                "SELECT counter.revision, CAST(unixepoch('subsec') * 1000000 AS INTEGER), ",
                replica_columns!(),
                " FROM counter CROSS JOIN replicas AS r \
                 WHERE counter.id = 1 AND ($1 IS NULL OR r.replica_id > $1) \
                 ORDER BY r.replica_id LIMIT $2"
            ))
            .bind(after.map(|id| id.0))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
            rows.iter().map(status::replica_details).collect()
        })
    }

    async fn note_replica_wait(&self, id: ReplicaId) -> Result<()> {
        self.file.check()?;
        let mut db = self.write_pool().acquire().await?;
        let done = sqlx::query(
            "UPDATE replicas SET waited_time = CAST(unixepoch('subsec') * 1000000 AS INTEGER), \
                 waited_count = waited_count + 1 \
             WHERE replica_id = $1",
        )
        .bind(id.0)
        .execute(&mut *db)
        .await;
        self.file.record(done.map_err(StoreError::from)).map(drop)
    }

    async fn count_entities(&self, now: Timestamp, limit: u32) -> Result<EntityCounts> {
        read!(self, async |db| {
            let rows = sqlx::query(count_entities!())
                .bind(sql_time(now))
                .bind(i64::from(limit))
                .fetch_all(db)
                .await?;
            status::entity_counts(&rows)
        })
    }

    async fn count_expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<ExpiringCount> {
        read!(self, async |db| {
            let row = sqlx::query(count_expiring!())
                .bind(sql_time(now))
                .bind(sql_time(until))
                .bind(i64::from(limit))
                .fetch_one(db)
                .await?;
            status::expiring_count(&row)
        })
    }
}
