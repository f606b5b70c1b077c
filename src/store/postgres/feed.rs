//! The change feed: two connections that nothing else waits for, one for syncs and one that listens for notifications.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgListener;
use sqlx::{PgPool, Row as _};

use super::hosts::origin;
use super::primary::{Primary, StatementResult};
use super::session::{decide, read, transact};
use super::{PostgresStore, Result, Session, pools};
use crate::model::{ReplicaId, Revision};
use crate::store::feed::{self, process_age, process_name};
use crate::store::{
    ChangeFeed, FeedStore, Hint, IncarnationId, Published, RULES, Replicas, StoreError, Synced,
    VERSION, row,
};

/// Channel on which the triggers notify.
const CHANNEL: &str = "sophic_auth_changes";

/// Polling interval behind a pooler, which does not support LISTEN.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time to wait for a new connection before the shared pools give up one of theirs.
const OWN_CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);

#[async_trait]
impl FeedStore for PostgresStore {
    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(PostgresFeed::open(self).await?))
    }

    async fn list_replicas(&self) -> Result<Replicas> {
        decide!(self, async |db| {
            let rows = db
                .query(concat!(
                    "SELECT ",
                    origin!(),
                    ", counter.revision, r.replica_id, (r.end_time IS NOT NULL)::int::bigint, r.applied, r.seq, r.lease, r.rules \
                     FROM counter LEFT JOIN replicas AS r ON true \
                     WHERE counter.id = 1"
                ))
                .fetch_all(db.connection())
                .await?;
            let first =
                rows.first().ok_or(StoreError::Corrupt { table: "counter", column: "id" })?;
            let (origin, revision) = row::origin_and_revision(first)?;
            Ok(StatementResult { origin, revision, value: feed::replicas(&rows) })
        })
    }

    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        read!(self, async |db| {
            let row = db.query("SELECT host FROM replicas WHERE replica_id = $1").bind(id.0);
            let row = row.fetch_optional(db.connection()).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
    }

    async fn mark_replica_ended(&self, id: ReplicaId, seq: i64) -> Result<bool> {
        transact!(self, async |db| {
            let done = db
                .query(
                    "UPDATE replicas SET end_time = clock_timestamp() \
                     WHERE replica_id = $1 AND seq = $2 AND end_time IS NULL",
                )
                .bind(id.0)
                .bind(seq)
                .execute(db.connection())
                .await?;
            Ok(done.rows_affected() == 1)
        })
    }
}

/// The change feed of one replica. It has at most two connections.
pub(super) struct PostgresFeed {
    pool: PgPool,
    primary: Arc<Primary>,
    /// Generation of its connections. When they are discarded, the replica opens another feed.
    pool_generation: u64,
    listener: Option<PgListener>,
}

impl PostgresFeed {
    /// Connects with the settings of the store.
    pub(super) async fn open(store: &PostgresStore) -> Result<Self> {
        let primary = Arc::clone(&store.primary);
        // A replica opens a new feed after a failed sync, so this probe also detects that an unreachable store has
        // returned. The current host may be a primary that has been superseded: if it is cut off from its standby, it
        // still answers reads but accepts no sync.
        primary.back_off().await;
        if let Err(error) = primary.probe().await {
            // The database may be reachable but refuse further connections because this process holds too many.
            if !store.connections.close_one().await {
                return Err(error);
            }
            primary.probe().await?;
        }
        let (pool_generation, options) = (primary.pool_generation(), primary.options());
        let options = if primary.pooled() {
            options
        } else {
            // A server that does not answer must not delay the detection of an outage. Replicas write their rows even
            // while the primary rejects writes by default, so that memory keeps answering.
            options.options([
                ("statement_timeout", "5s"),
                ("lock_timeout", "2s"),
                ("default_transaction_read_only", "off"),
            ])
        };
        let pool = pools::pool_options(&primary, pool_generation)
            .max_connections(2)
            .test_before_acquire(false)
            .connect_with(options);
        let mut pool = Box::pin(pool);
        let pool = async {
            if let Ok(pool) = tokio::time::timeout(OWN_CONNECTION_TIMEOUT, &mut pool).await {
                return pool;
            }
            // The feed takes precedence: without it, memory answers nothing.
            store.connections.close_one().await;
            pool.await
        };
        let pool = primary.unless_discarded(pool_generation, pool).await?;
        let pool = pool.map_err(|error| primary.classify_error(pool_generation, error))?;
        Ok(Self { pool, primary, pool_generation, listener: None })
    }

    async fn session(&self) -> Result<Session> {
        Session::for_feed(&self.pool, &self.primary, self.pool_generation).await
    }

    fn classify_error(&self, error: sqlx::Error) -> StoreError {
        self.primary.classify_error(self.pool_generation, error)
    }

    /// Waits for a notification and returns the newest revision among all that have arrived.
    async fn next_hint(&mut self) -> Result<Hint> {
        let listener = self.listener().await?;
        // `None` means that the connection was lost and restored, so notifications may have been missed.
        let Some(first) = listener.try_recv().await? else { return Ok(Hint::Look) };
        let mut newest = hint(first.payload());
        while let Some(next) = listener.next_buffered() {
            newest = newest.max(hint(next.payload()));
        }
        Ok(newest.map_or(Hint::Look, Hint::Revision))
    }

    async fn listener(&mut self) -> Result<&mut PgListener> {
        if self.listener.is_none() {
            let mut listener = PgListener::connect_with(&self.pool).await?;
            listener.listen(CHANNEL).await?;
            self.listener = Some(listener);
        }
        self.listener.as_mut().ok_or_else(|| StoreError::Unavailable("no listener".to_owned()))
    }
}

impl PostgresFeed {
    async fn register_row(
        &self,
        id: ReplicaId,
        lease: Duration,
    ) -> Result<(IncarnationId, Revision)> {
        let mut db = self.session().await?;
        db.query("DELETE FROM replicas WHERE end_time < clock_timestamp() - interval '1 hour'")
            .execute(db.connection())
            .await?;
        db.query(
            "INSERT INTO replicas ( \
                 replica_id, applied, seq, seen_epoch, heartbeat, host, lease, version, rules, process_id, start_time) \
             SELECT $1, 0, 0, epoch, clock_timestamp(), $3, $2, $4, $5, $6, \
                 clock_timestamp() - $7 * interval '1 microsecond' \
             FROM counter WHERE id = 1",
        )
        .bind(id.0)
        .bind(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
        .bind(process_name())
        .bind(VERSION)
        .bind(RULES)
        .bind(i64::from(std::process::id()))
        .bind(row::duration_micros(process_age()))
        .execute(db.connection())
        .await
        .map_err(|error| self.classify_error(error))?;
        db.commit().await?;
        // Read only now, when the row is visible to all. No revocation would wait for a replica to apply changes after
        // an earlier read.
        let floor = self.primary.floor();
        let mut db = self.session().await?;
        let row = db
            .query(concat!("SELECT ", origin!(), ", revision FROM counter WHERE id = 1"))
            .fetch_one(db.connection())
            .await?;
        db.commit().await?;
        let (origin, revision) = row::origin_and_revision(&row)?;
        self.primary.admit(self.pool_generation, &floor, &origin, revision)?;
        row::incarnation_and_revision(&row)
    }

    async fn publish_and_fetch(
        &self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>> {
        let mut db = self.session().await?;
        let floor = self.primary.floor();
        // An UPDATE, so that only the primary can answer. If commits wait for standbys, this one waits too: on a
        // primary that is cut off it hangs, and the lease ends. Without standbys, it waits for the disk only if a crash
        // must not lose it.
        let rows = db
            .query(concat!(
                "WITH mine AS ( \
                     UPDATE replicas \
                     SET applied = CASE WHEN ",
                origin!(),
                " = $4 THEN $2 ELSE 0 END, seq = $5, heartbeat = clock_timestamp() \
                     FROM counter \
                     WHERE replica_id = $1 AND end_time IS NULL AND counter.id = 1 \
                     RETURNING replica_id), \
                 relaxed AS MATERIALIZED ( \
                     SELECT set_config('synchronous_commit', 'off', true) \
                     WHERE NOT $6 AND current_setting('synchronous_standby_names') = '') \
                 SELECT ",
                origin!(),
                ", counter.revision, (SELECT count(*) FROM relaxed), \
                     changes.revision, changes.entity, changes.entity_id, changes.digest \
                 FROM mine CROSS JOIN counter LEFT JOIN changes ON changes.revision > $2 \
                 WHERE counter.id = 1 \
                 ORDER BY changes.revision \
                 LIMIT $3"
            ))
            .bind(id.0)
            .bind(i64::try_from(published.applied.0).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .bind(published.incarnation.as_ref().map(|incarnation| incarnation.0.as_str()))
            .bind(published.seq)
            .bind(published.durable)
            .fetch_all(db.connection())
            .await
            .map_err(|error| self.classify_error(error))?;
        db.commit().await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let (origin, revision) = row::origin_and_revision(first)?;
        self.primary.admit(self.pool_generation, &floor, &origin, revision)?;
        self.primary.confirm(&origin, revision);
        row::synced(&rows)
    }

    async fn mark_ended(&self, id: ReplicaId) -> Result<()> {
        let mut db = self.session().await?;
        db.query("UPDATE replicas SET end_time = clock_timestamp() WHERE replica_id = $1 AND end_time IS NULL")
            .bind(id.0)
            .execute(db.connection())
            .await?;
        db.commit().await
    }
}

#[async_trait]
impl ChangeFeed for PostgresFeed {
    async fn register(
        &mut self,
        id: ReplicaId,
        lease: Duration,
    ) -> Result<(IncarnationId, Revision)> {
        let registered =
            self.primary.unless_unreachable(Box::pin(self.register_row(id, lease))).await;
        self.primary.write_health.note(&registered);
        registered
    }

    async fn sync(
        &mut self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>> {
        let synced = self
            .primary
            .unless_unreachable(Box::pin(self.publish_and_fetch(id, published, limit)))
            .await;
        self.primary.write_health.note(&synced);
        synced
    }

    async fn wait(&mut self, longest: Duration) -> Result<Hint> {
        if self.primary.pooled() {
            tokio::time::sleep(longest.min(POLL_INTERVAL)).await;
            return Ok(Hint::Look);
        }
        let started = tokio::time::Instant::now();
        match tokio::time::timeout(longest, self.next_hint()).await {
            Ok(Ok(hint)) => Ok(hint),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the listener broke: polling until it is restored");
                self.listener = None;
                tokio::time::sleep_until(started + longest).await;
                Ok(Hint::Look)
            }
            Err(_) => Ok(Hint::Look),
        }
    }

    async fn deregister(&mut self, id: ReplicaId) -> Result<()> {
        self.primary.unless_unreachable(Box::pin(self.mark_ended(id))).await
    }
}

/// Parses the revision in a notification. `None` if another schema version or another program sent it.
fn hint(payload: &str) -> Option<Revision> {
    payload.parse().ok().map(Revision)
}
