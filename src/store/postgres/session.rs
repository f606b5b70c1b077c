//! A connection while it is held, with or without a transaction, and how to get one that is alive.
//!
//! Behind a transaction-mode pooler each transaction may be on another server connection. So there reads too are
//! transactions, no statement is prepared by name, and settings are made by `SET LOCAL`.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Connection as _, PgPool, Postgres, QueryBuilder, Transaction};

use super::pools::Pools;
use super::primary::Primary;
use super::turns::{Turn, Turns};
use super::{PostgresStore, Result, StoreError};

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
        let begin = primary.pooled.then_some("BEGIN; SET LOCAL statement_timeout = '5s'");
        let held = primary.unless_thrown(generation, hold(pool, begin)).await;
        let held = held.filter(|_| !primary.is_thrown(generation)).ok_or_else(thrown)?;
        let held = held.map_err(|error| primary.judge(generation, error))?;
        Ok(Self { held, _turn: None, persistent: !primary.pooled, generation })
    }

    /// Whether the server no longer answers on it.
    pub(super) async fn is_broken(&mut self) -> bool {
        self.connection().ping().await.is_err()
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

/// What to say of connections that are not used any more.
pub(super) fn thrown() -> StoreError {
    StoreError::Unavailable("its connections are being made anew".to_owned())
}

impl PostgresStore {
    /// A session that reads. Its connection may have broken while it was idle.
    pub(super) async fn session(&self) -> Result<Session> {
        let begin = "BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'";
        let begin = self.primary.pooled.then_some(begin);
        self.hold(|pools| (&pools.read, &pools.read_turns), begin).await
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
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
             SET LOCAL statement_timeout = 0; \
             SET LOCAL lock_timeout = '2s'; \
             SET LOCAL idle_in_transaction_session_timeout = '10s'";
        self.hold(|pools| (&pools.write, &pools.write_turns), Some(begin)).await
    }

    /// Holds a connection to the primary, as far as is known; where those that there were are thrown away meanwhile, one
    /// that is made anew.
    async fn hold(
        &self,
        pool: impl Fn(&Pools) -> (&PgPool, &Turns),
        begin: Option<&'static str>,
    ) -> Result<Session> {
        let mut failed = thrown();
        for _ in 0..2 {
            if !self.connections.is_closed() {
                self.primary.find().await?;
            }
            let pools = self.connections.pools();
            let generation = pools.generation;
            let (pool, turns) = pool(&pools);
            let held = turns.take(Box::pin(hold(pool, begin)));
            match self.primary.unless_thrown(generation, held).await {
                Some(Ok((turn, held))) => {
                    let (turn, persistent) = (Some(turn), !self.primary.pooled);
                    return Ok(Session { held, _turn: turn, persistent, generation });
                }
                Some(Err(error)) => failed = self.primary.judge_begin(generation, error),
                None => {}
            }
            if !self.primary.is_thrown(generation) || self.connections.is_closed() {
                break;
            }
        }
        Err(failed)
    }
}

/// Runs a read, and runs it once more where its connection turns out to have broken while it was idle, or to lead to what
/// is not the primary.
macro_rules! again {
    ($store:expr, $db:ident => $read:expr) => {{
        let mut session = $store.session().await?;
        let $db = &mut session;
        match $read.await {
            Err(StoreError::Unavailable(_))
                if $store.primary.is_thrown($db.generation) || $db.is_broken().await =>
            {
                drop(session);
                let mut session = $store.live_session().await?;
                let $db = &mut session;
                $read.await
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
