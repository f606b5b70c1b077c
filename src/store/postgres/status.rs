//! The state of the service, for people.

use async_trait::async_trait;

use super::session::{read, transact};
use super::{PostgresStore, Result, sql_time};
use crate::model::{ReplicaId, Timestamp};
use crate::store::status::{self, count_entities, count_expiring, replica_columns};
use crate::store::{EntityCounts, ExpiringCount, ReplicaDetails, StatusStore, StoreKind};

#[async_trait]
impl StatusStore for PostgresStore {
    fn kind(&self) -> StoreKind {
        StoreKind::Postgres
    }

    async fn list_replica_details(
        &self,
        after: Option<ReplicaId>,
        limit: u32,
    ) -> Result<Vec<ReplicaDetails>> {
        read!(self, async |db| {
            let rows = db
                .query(concat!(
                    "SELECT counter.revision, clock_timestamp(), ",
                    replica_columns!(),
                    " FROM counter CROSS JOIN replicas AS r \
                     WHERE counter.id = 1 AND ($1::uuid IS NULL OR r.replica_id > $1) \
                     ORDER BY r.replica_id LIMIT $2"
                ))
                .bind(after.map(|id| id.0))
                .bind(i64::from(limit))
                .fetch_all(db.connection())
                .await?;
            rows.iter().map(status::replica_details).collect()
        })
    }

    async fn note_replica_wait(&self, id: ReplicaId) -> Result<()> {
        transact!(self, async |db| {
            db.query(
                "UPDATE replicas SET waited_time = clock_timestamp(), waited_count = waited_count + 1 \
                 WHERE replica_id = $1",
            )
            .bind(id.0)
            .execute(db.connection())
            .await?;
            Ok(())
        })
    }

    async fn count_entities(&self, now: Timestamp, limit: u32) -> Result<EntityCounts> {
        read!(self, async |db| {
            let rows = db
                .query(count_entities!())
                .bind(sql_time(now))
                .bind(i64::from(limit))
                .fetch_all(db.connection())
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
            let row = db
                .query(count_expiring!())
                .bind(sql_time(now))
                .bind(sql_time(until))
                .bind(i64::from(limit))
                .fetch_one(db.connection())
                .await?;
            status::expiring_count(&row)
        })
    }
}
