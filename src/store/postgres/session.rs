//! A connection while it is held, with or without a transaction, and how to get one that is alive.
//!
//! Behind a transaction-mode pooler each transaction may be on another server connection. So there reads too are
//! transactions, no statement is prepared by name, and settings are made by `SET LOCAL`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Connection as _, PgPool, Postgres, QueryBuilder};

use super::held::Held;
use super::lane::Lane;
use super::pools::Pools;
use super::primary::{Primary, thrown};
use super::{PostgresStore, Result, StoreError};

/// How long a statement may take whose result decides something: it looks a few rows up.
pub(super) const DECIDING: &str = "2s";
const DECIDING_LIMIT: Duration = Duration::from_secs(2);
/// How long all of any other read may take, each of whose statements has five seconds by [`Purpose::Read`]'s BEGIN: longer than
/// a request may, so that a database that is slow and answers loses no connection over it. Those that fell silent are found
/// by what decides, of which readiness asks something each second.
const READING_LIMIT: Duration = Duration::from_secs(30);

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A statement whose result decides something.
    Decide,
    /// Reading for management, which may take longer.
    Read,
    /// A transaction that writes.
    Write,
}

impl Purpose {
    /// How its transaction begins, if it is one.
    const fn begin(self, pooled: bool) -> Option<&'static str> {
        match self {
            Self::Decide if pooled => Some("BEGIN READ ONLY; SET LOCAL statement_timeout = '2s'"),
            Self::Decide => None,
            Self::Read => Some("BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'"),
            // No statement_timeout: a COMMIT that it ends under synchronous replication has happened, and says so in a
            // warning only. Waiting for locks is bounded instead, and so is holding them for a process that is gone.
            // READ WRITE is what a standby refuses. A primary that is to take no writes for now, as while it is moved, is
            // respected: it refuses each by itself.
            Self::Write => Some(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SELECT set_config('transaction_read_only', current_setting('default_transaction_read_only'), true); \
                 SET LOCAL statement_timeout = 0; \
                 SET LOCAL lock_timeout = '2s'; \
                 SET LOCAL idle_in_transaction_session_timeout = '10s'",
            ),
        }
    }

    /// How long a statement may take, if that is bounded.
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Decide => Some(DECIDING_LIMIT),
            Self::Read => Some(READING_LIMIT),
            Self::Write => None,
        }
    }

    /// The pool it is of, and the other.
    const fn lanes(self, pools: &Pools) -> (&Lane, &Lane) {
        match self {
            Self::Decide | Self::Read => (&pools.read, &pools.write),
            Self::Write => (&pools.write, &pools.read),
        }
    }
}

/// How long a connection may take to say that it is alive.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is held.
pub(super) struct Session {
    held: Held,
    /// Whether statements are prepared by name and kept, which saves a round trip each.
    persistent: bool,
    /// What its connection is of: see [`Primary`].
    pub(super) generation: u64,
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
        self.held.connection()
    }

    /// How long a statement on it may take, if the server sees to that.
    pub(super) const fn limit(&self) -> Option<Duration> {
        self.held.limit()
    }

    /// On a pool of a feed's own, whose connections are of this generation. Behind a pooler it is a transaction, which
    /// [`Self::commit`] ends.
    pub(super) async fn of_feed(
        pool: &PgPool,
        primary: &Arc<Primary>,
        generation: u64,
    ) -> Result<Self> {
        let pooled = primary.pooled();
        let begin = pooled.then_some("BEGIN READ WRITE; SET LOCAL statement_timeout = '5s'");
        let held = primary.unless_thrown(generation, async {
            let connection = pool.acquire().await?;
            let mut held = Held::new(connection, None, None, Arc::clone(primary), generation);
            if let Some(begin) = begin {
                held.begin(begin).await?;
            }
            Ok(held)
        });
        let held = held.await?;
        if primary.is_thrown(generation) {
            return Err(thrown());
        }
        let held = held.map_err(|error| primary.judge_begin(generation, error))?;
        Ok(Self { held, persistent: !pooled, generation })
    }

    /// Whether the server no longer answers on it.
    pub(super) async fn is_broken(&mut self) -> bool {
        !matches!(tokio::time::timeout(PING_TIMEOUT, self.connection().ping()).await, Ok(Ok(())))
    }

    /// Commits, if it is a transaction.
    pub(super) async fn commit(self) -> Result<()> {
        Ok(self.held.commit().await?)
    }
}

impl PostgresStore {
    /// A session that reads, on a connection that answers. After a restart of the server all that were idle are
    /// broken: each that is found so is dropped, and at last a new one is made.
    pub(super) async fn live_session(&self, purpose: Purpose) -> Result<Session> {
        for _ in 0..self.sizes.read {
            let mut session = self.session(purpose).await?;
            if !session.is_broken().await {
                return Ok(session);
            }
        }
        Err(StoreError::Unavailable("its connections keep breaking".to_owned()))
    }

    /// A transaction that writes.
    pub(super) async fn begin_write(&self) -> Result<Session> {
        self.session(Purpose::Write).await
    }

    /// Holds a connection to the primary, as far as is known; where those that there were are thrown away meanwhile, one
    /// that is made anew. Where the store is known to be away that is said at once. Without a transaction, it may have
    /// broken while it was idle.
    pub(super) async fn session(&self, purpose: Purpose) -> Result<Session> {
        let mut failed = thrown();
        for _ in 0..2 {
            if !self.connections.is_closed() {
                self.primary.reach.refuse()?;
                self.primary.find().await?;
            }
            let pooled = self.primary.pooled();
            let pools = self.connections.pools();
            let generation = pools.generation;
            let held = Box::pin(self.hold(&pools, purpose, pooled));
            match self.primary.unless_thrown(generation, held).await {
                Ok(Ok(held)) => return Ok(Session { held, persistent: !pooled, generation }),
                Ok(Err(sqlx::Error::PoolTimedOut)) => {
                    failed = purpose.lanes(&pools).0.none_in_time();
                }
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

    /// A connection of these pools, in a transaction if it is to be in one: one that broke while it was idle is dropped.
    async fn hold(&self, pools: &Pools, purpose: Purpose, pooled: bool) -> sqlx::Result<Held> {
        let (lane, other) = purpose.lanes(pools);
        let mut broken = 0;
        loop {
            let (turn, connection) = lane.take(other).await?;
            let (primary, generation) = (Arc::clone(&self.primary), pools.generation);
            let mut held = Held::new(connection, Some(turn), purpose.limit(), primary, generation);
            let Some(begin) = purpose.begin(pooled) else { return Ok(held) };
            match self.primary.first_answer(generation, held.begin(begin)).await {
                Ok(()) => return Ok(held),
                Err(error) if is_broken(&error) && broken < lane.most() => broken += 1,
                Err(error) => return Err(error),
            }
            if self.primary.is_thrown(generation) {
                return Err(sqlx::Error::PoolClosed);
            }
        }
    }
}

/// Whether the server ended the connection, with or without saying so.
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || matches!(&*code, "57P01" | "57P02" | "57P05" | "25P03")
        }),
        _ => false,
    }
}

/// Runs a read, and runs it once more where its connection turns out to have broken while it was idle, or to lead to what
/// is not the primary.
macro_rules! again {
    ($store:expr, $purpose:expr, |$db:ident| $read:expr) => {{
        let read = async |$db: &mut Session| $read.await;
        let mut session = $store.session($purpose).await?;
        let (generation, limit) = (session.generation, session.limit());
        let first = $store.primary.while_kept(generation, limit, read(&mut session)).await;
        if first.as_ref().is_err_and(StoreError::is_pooler) {
            $store.primary.notice_pooler(generation);
        }
        match first {
            Err(StoreError::Unavailable(_) | StoreError::Pooler { .. })
                if $store.primary.is_thrown(generation) || session.is_broken().await =>
            {
                drop(session);
                let mut session = $store.live_session($purpose).await?;
                let (generation, limit) = (session.generation, session.limit());
                $store.primary.while_kept(generation, limit, read(&mut session)).await
            }
            outcome => outcome,
        }
    }};
}

/// Runs a read that decides nothing: that its connection led to the primary when it was made is enough.
macro_rules! read {
    ($store:expr, async |$db:ident| $read:expr) => {{
        use $crate::store::StoreError;
        use $crate::store::postgres::session::{Purpose, Session, again};
        again!($store, Purpose::Read, |$db| async {
            $store.primary.ask_behind_pooler($db).await?;
            $read
        })
    }};
}

/// Runs a read whose result decides something: it counts only if it shows the primary itself.
macro_rules! decide {
    ($store:expr, async |$db:ident| $read:expr) => {{
        use $crate::store::StoreError;
        use $crate::store::postgres::session::{Purpose, Session, again};
        again!($store, Purpose::Decide, |$db| {
            $store.primary.counted($db.generation, async { $read })
        })
    }};
}

/// Runs what writes, in a transaction of its own, to its commit.
macro_rules! transact {
    ($store:expr, async |$db:ident| $write:expr) => {{
        let mut session = $store.begin_write().await?;
        let $db = &mut session;
        let mut outcome: $crate::store::Result<_> = async { $write }.await;
        if outcome.is_ok() {
            outcome = session.commit().await.and(outcome);
        }
        $store.primary.writes.note(&outcome);
        outcome
    }};
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

pub(super) use {again, decide, locked, read, transact};
