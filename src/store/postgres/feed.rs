//! Following the change log: connections that nothing else waits for, one to sync on and one that listens.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgListener;
use sqlx::{PgPool, Row as _};

use super::hosts::place;
use super::primary::{Primary, Seen};
use super::session::{decide, read, transact};
use super::{PostgresStore, Result, Session, pools};
use crate::model::{ReplicaId, Revision};
use crate::store::feed::process_name;
use crate::store::{
    ChangeFeed, FeedStore, Hint, Incarnation, Published, Replicas, StoreError, Synced, row,
};

/// What the triggers notify.
const CHANNEL: &str = "sophic_auth_changes";

/// How often to look where nothing can be listened to: behind a pooler.
const POOLED_INTERVAL: Duration = Duration::from_millis(100);

/// How long a connection of its own is waited for before one is taken from those that all share.
const PATIENCE: Duration = Duration::from_millis(500);

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
                    place!(),
                    ", counter.revision, r.replica_id, (r.end_time IS NOT NULL)::int::bigint, r.applied, r.seq, r.lease \
                     FROM counter LEFT JOIN replicas AS r ON true \
                     WHERE counter.id = 1"
                ))
                .fetch_all(db.connection())
                .await?;
            let first =
                rows.first().ok_or(StoreError::Corrupt { table: "counter", column: "id" })?;
            let (place, revision) = row::placed(first)?;
            Ok(Seen { place, revision, what: row::replicas(&rows) })
        })
    }

    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        read!(self, async |db| {
            let row = db.query("SELECT host FROM replicas WHERE replica_id = $1").bind(id.0);
            let row = row.fetch_optional(db.connection()).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
    }

    async fn fence_replica(&self, id: ReplicaId, seq: i64) -> Result<bool> {
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

/// Two connections at the most.
pub(super) struct PostgresFeed {
    pool: PgPool,
    primary: Arc<Primary>,
    /// The generation of all its connections: where that is thrown away, the replica opens another feed.
    generation: u64,
    listener: Option<PgListener>,
}

impl PostgresFeed {
    /// Connects as the store does.
    pub(super) async fn open(store: &PostgresStore) -> Result<Self> {
        let primary = Arc::clone(&store.primary);
        // A feed is opened anew after a sync that failed: this is how a store that was away is found again. The host may
        // be a primary that another one has succeeded: cut off from its standby it still answers what reads, and takes
        // no sync.
        primary.rest().await;
        if let Err(error) = primary.probe().await {
            // The database may be there, and grant no more connections than others of this process hold.
            if !store.connections.give_one_up().await {
                return Err(error);
            }
            primary.probe().await?;
        }
        let (generation, options) = (primary.generation(), primary.options());
        let options = if primary.pooled() {
            options
        } else {
            // A server that does not answer must not hold up giving up. What the row of a replica says is for those who
            // wait for it, and nothing that anybody would miss: memory works on where a primary is to take no writes.
            options.options([
                ("statement_timeout", "5s"),
                ("lock_timeout", "2s"),
                ("default_transaction_read_only", "off"),
            ])
        };
        let pool = pools::asking(&primary, generation)
            .max_connections(2)
            .test_before_acquire(false)
            .connect_with(options);
        let mut pool = Box::pin(pool);
        let pool = async {
            if let Ok(pool) = tokio::time::timeout(PATIENCE, &mut pool).await {
                return pool;
            }
            // What follows the log comes first: without it, memory answers nothing.
            store.connections.give_one_up().await;
            pool.await
        };
        let pool = primary.unless_thrown(generation, pool).await?;
        let pool = pool.map_err(|error| primary.judge(generation, error))?;
        Ok(Self { pool, primary, generation, listener: None })
    }

    async fn session(&self) -> Result<Session> {
        Session::of_feed(&self.pool, &self.primary, self.generation).await
    }

    fn judge(&self, error: sqlx::Error) -> StoreError {
        self.primary.judge(self.generation, error)
    }

    /// The newest revision of all that has been notified meanwhile.
    async fn hear(&mut self) -> Result<Hint> {
        let listener = self.listener().await?;
        // None: the connection was lost and made anew, and what was notified meanwhile is lost.
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
    async fn registered(&self, id: ReplicaId, lease: Duration) -> Result<(Incarnation, Revision)> {
        let mut db = self.session().await?;
        db.query("DELETE FROM replicas WHERE end_time < clock_timestamp() - interval '1 hour'")
            .execute(db.connection())
            .await?;
        db.query(
            "INSERT INTO replicas (replica_id, applied, seq, seen_epoch, heartbeat, host, lease) \
             SELECT $1, 0, 0, epoch, clock_timestamp(), $3, $2 \
             FROM counter WHERE id = 1",
        )
        .bind(id.0)
        .bind(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
        .bind(process_name())
        .execute(db.connection())
        .await
        .map_err(|error| self.judge(error))?;
        db.commit().await?;
        // Only now that everybody sees the row: what is read before it, nobody would wait for.
        let floor = self.primary.floor();
        let mut db = self.session().await?;
        let row = db
            .query(concat!("SELECT ", place!(), ", revision FROM counter WHERE id = 1"))
            .fetch_one(db.connection())
            .await?;
        db.commit().await?;
        let (place, revision) = row::placed(&row)?;
        self.primary.admit(self.generation, &floor, &place, revision)?;
        row::incarnation(&row)
    }

    async fn synced(
        &self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>> {
        let mut db = self.session().await?;
        let floor = self.primary.floor();
        // An UPDATE, so that only the primary can answer it. With standbys that commits wait for, this one waits too: on
        // a primary that was cut off it hangs, and the lease ends. Without, it waits for the disk only where a crash
        // must not lose it.
        let rows = db
            .query(concat!(
                "WITH mine AS ( \
                     UPDATE replicas \
                     SET applied = CASE WHEN ",
                place!(),
                " = $4 THEN $2 ELSE 0 END, seq = $5, heartbeat = clock_timestamp() \
                     FROM counter \
                     WHERE replica_id = $1 AND end_time IS NULL AND counter.id = 1 \
                     RETURNING replica_id), \
                 relaxed AS MATERIALIZED ( \
                     SELECT set_config('synchronous_commit', 'off', true) \
                     WHERE NOT $6 AND current_setting('synchronous_standby_names') = '') \
                 SELECT ",
                place!(),
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
            .map_err(|error| self.judge(error))?;
        db.commit().await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let (place, revision) = row::placed(first)?;
        self.primary.admit(self.generation, &floor, &place, revision)?;
        self.primary.confirm(&place, revision);
        row::synced(&rows)
    }

    async fn ended(&self, id: ReplicaId) -> Result<()> {
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
    ) -> Result<(Incarnation, Revision)> {
        let registered = self.primary.unless_gone(Box::pin(self.registered(id, lease))).await;
        self.primary.writes.note(&registered);
        registered
    }

    async fn sync(
        &mut self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>> {
        let synced = self.primary.unless_gone(Box::pin(self.synced(id, published, limit))).await;
        self.primary.writes.note(&synced);
        synced
    }

    async fn wait(&mut self, longest: Duration) -> Result<Hint> {
        if self.primary.pooled() {
            tokio::time::sleep(longest.min(POOLED_INTERVAL)).await;
            return Ok(Hint::Look);
        }
        let begun = tokio::time::Instant::now();
        match tokio::time::timeout(longest, self.hear()).await {
            Ok(Ok(hint)) => Ok(hint),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the listener broke: looking now and then until there is another");
                self.listener = None;
                tokio::time::sleep_until(begun + longest).await;
                Ok(Hint::Look)
            }
            Err(_) => Ok(Hint::Look),
        }
    }

    async fn deregister(&mut self, id: ReplicaId) -> Result<()> {
        self.primary.unless_gone(Box::pin(self.ended(id))).await
    }
}

/// The revision that a notification names. Nothing: it is of another version of the schema, or somebody else's.
fn hint(payload: &str) -> Option<Revision> {
    payload.parse().ok().map(Revision)
}
