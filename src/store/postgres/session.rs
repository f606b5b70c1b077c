//! A connection while it is held, with or without a transaction, and how to get one that is alive.
//!
//! Behind a transaction-mode pooler each transaction may be on another server connection. So there reads too are
//! transactions, no statement is prepared by name, and settings are made by `SET LOCAL`.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Connection as _, PgPool, Postgres, QueryBuilder, Transaction};

use super::pools::Pools;
use super::primary::{Primary, thrown};
use super::turns::{Turn, Turns};
use super::{PostgresStore, Result, StoreError};

/// How long a connection may take to say that it is alive.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is held.
pub(super) struct Session {
    held: Held,
    /// Of the pools that all share; given back after the connection.
    _turn: Option<Turn>,
    /// Whether statements are prepared by name and kept, which saves a round trip each.
    persistent: bool,
    /// What its connection is of: see [`Primary`].
    pub(super) generation: u64,
}

enum Held {
    Connection(PoolConnection<Postgres>),
    /// Dropping it rolls back.
    Transaction(Transaction<'static, Postgres>),
}

impl Session {
    /// A statement, to run on [`Self::connection`].
    pub(super) fn query<'q>(&self, sql: &'static str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(sql).persistent(self.persistent)
    }

    /// The statement that was built.
    pub(super) fn built<'q>(
        &self,
        query: &'q mut QueryBuilder<Postgres>,
    ) -> Query<'q, Postgres, PgArguments> {
        query.build().persistent(self.persistent)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match &mut self.held {
            Held::Connection(connection) => connection,
            Held::Transaction(transaction) => transaction,
        }
    }

    /// On a pool of a feed's own, whose connections are of this generation. Behind a pooler it is a transaction, which
    /// [`Self::commit`] ends.
    pub(super) async fn of_feed(pool: &PgPool, primary: &Primary, generation: u64) -> Result<Self> {
        let pooled = primary.pooled();
        let begin = pooled.then_some("BEGIN READ WRITE; SET LOCAL statement_timeout = '5s'");
        let held = primary.unless_thrown(generation, hold(pool, begin)).await?;
        if primary.is_thrown(generation) {
            return Err(thrown());
        }
        let held = held.map_err(|error| primary.judge_begin(generation, error))?;
        Ok(Self { held, _turn: None, persistent: !pooled, generation })
    }

    /// Whether the server no longer answers on it.
    pub(super) async fn is_broken(&mut self) -> bool {
        !matches!(tokio::time::timeout(PING_TIMEOUT, self.connection().ping()).await, Ok(Ok(())))
    }

    /// Commits, if it is a transaction.
    pub(super) async fn commit(self) -> Result<()> {
        match self.held {
            Held::Connection(_) => Ok(()),
            Held::Transaction(transaction) => Ok(transaction.commit().await?),
        }
    }
}

/// A connection of the pool, in a transaction if that begins so.
async fn hold(pool: &PgPool, begin: Option<&'static str>) -> sqlx::Result<Held> {
    Ok(match begin {
        Some(begin) => Held::Transaction(pool.begin_with(begin).await?),
        None => Held::Connection(pool.acquire().await?),
    })
}

/// What to say where a connection of this pool could not be had in time.
fn none_in_time(pool: &PgPool) -> StoreError {
    let (open, most) = (pool.size(), pool.options().get_max_connections());
    StoreError::Unavailable(if open >= most && pool.num_idle() == 0 {
        format!("all {most} connections of its pool are in use, and none came free in time")
    } else {
        "no connection to it could be made in time".to_owned()
    })
}

impl PostgresStore {
    /// A session that reads. Its connection may have broken while it was idle.
    pub(super) async fn session(&self) -> Result<Session> {
        let begin = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'";
        self.hold(|pools| (&pools.read, &pools.read_turns), |pooled| pooled.then_some(begin)).await
    }

    /// A session that reads, on a connection that answers. After a restart of the server all that were idle are
    /// broken: each that is found so is dropped, and at last a new one is made.
    pub(super) async fn live_session(&self) -> Result<Session> {
        for _ in 0..self.sizes.read {
            let mut session = self.session().await?;
            if !session.is_broken().await {
                return Ok(session);
            }
        }
        Err(StoreError::Unavailable("its connections keep breaking".to_owned()))
    }

    /// A transaction that writes.
    pub(super) async fn begin_write(&self) -> Result<Session> {
        // No statement_timeout: a COMMIT that it ends under synchronous replication has happened, and says so in a
        // warning only. Waiting for locks is bounded instead, and so is holding them for a process that is gone.
        // READ WRITE is what a standby refuses. A primary that is to take no writes for now, as while it is moved, is
        // respected: it refuses each by itself.
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
             SELECT set_config('transaction_read_only', current_setting('default_transaction_read_only'), true); \
             SET LOCAL statement_timeout = 0; \
             SET LOCAL lock_timeout = '2s'; \
             SET LOCAL idle_in_transaction_session_timeout = '10s'";
        self.hold(|pools| (&pools.write, &pools.write_turns), |_| Some(begin)).await
    }

    /// Holds a connection to the primary, as far as is known; where those that there were are thrown away meanwhile, one
    /// that is made anew. Where the store is known to be away that is said at once.
    async fn hold(
        &self,
        pool: impl Fn(&Pools) -> (&PgPool, &Turns),
        begin: impl Fn(bool) -> Option<&'static str>,
    ) -> Result<Session> {
        let mut failed = thrown();
        for _ in 0..2 {
            if !self.connections.is_closed() {
                self.primary.reach.refuse()?;
                self.primary.find().await?;
            }
            let pooled = self.primary.pooled();
            let pools = self.connections.pools();
            let generation = pools.generation;
            let (pool, turns) = pool(&pools);
            let held = turns.take(Box::pin(hold(pool, begin(pooled))));
            match self.primary.unless_thrown(generation, held).await {
                Ok(Ok((turn, held))) => {
                    let turn = Some(turn);
                    return Ok(Session { held, _turn: turn, persistent: !pooled, generation });
                }
                Ok(Err(sqlx::Error::PoolTimedOut)) => failed = none_in_time(pool),
                Ok(Err(error)) => failed = self.primary.judge_begin(generation, error),
                Err(error) => failed = error,
            }
            if !self.primary.is_thrown(generation) || self.connections.is_closed() {
                break;
            }
        }
        // Whoever was waiting when it was found to be away is told so too.
        self.primary.reach.refuse()?;
        Err(failed)
    }
}

/// Runs a read, and runs it once more where its connection turns out to have broken while it was idle, or to lead to what
/// is not the primary.
macro_rules! again {
    ($store:expr, $db:ident => $read:expr) => {{
        let mut session = $store.session().await?;
        let $db = &mut session;
        let generation = $db.generation;
        let first = $store.primary.while_kept(generation, $read).await;
        if first.as_ref().is_err_and(StoreError::is_pooler) {
            $store.primary.notice_pooler(generation);
        }
        match first {
            Err(StoreError::Unavailable(_) | StoreError::Pooler { .. })
                if $store.primary.is_thrown(generation) || $db.is_broken().await =>
            {
                drop(session);
                let mut session = $store.live_session().await?;
                let $db = &mut session;
                $store.primary.while_kept($db.generation, $read).await
            }
            outcome => outcome,
        }
    }};
}

/// Runs a read that decides nothing: that its connection led to the primary when it was made is enough.
macro_rules! read {
    ($store:expr, $db:ident => $read:expr) => {
        again!($store, $db => async {
            $store.primary.ask_behind_pooler($db).await?;
            $read.await
        })
    };
}

/// Runs a read whose result decides something: it counts only if it shows the primary itself.
macro_rules! decide {
    ($store:expr, $db:ident => $read:expr) => {
        again!($store, $db => $store.primary.counted($db.generation, $read))
    };
}

/// The statement with the row lock that is asked for. Keys never change, so the weaker kind of exclusive lock will do:
/// it does not hold up the foreign keys of others.
macro_rules! locked {
    ($lock:expr, $sql:literal) => {
        match $lock {
            Lock::Share => concat!($sql, " FOR SHARE"),
            Lock::Update => concat!($sql, " FOR NO KEY UPDATE"),
        }
    };
}

pub(super) use {again, decide, locked, read};
