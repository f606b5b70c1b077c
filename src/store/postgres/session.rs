//! Sessions: a pooled connection in use, with or without a transaction, and how to get one that works.
//!
//! Behind a transaction-mode pooler each transaction may run on another server connection. So reads are transactions
//! there too, statements are not prepared by name, and settings use `SET LOCAL`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Connection as _, PgPool, Postgres, QueryBuilder};

use super::connection_guard::ConnectionGuard;
use super::pools::Pools;
use super::primary::{Primary, discarded_error};
use super::shared_pool::SharedPool;
use super::{PostgresStore, Result, StoreError};

/// Time limit for a statement whose result decides something, in seconds. Such a statement looks up a few rows.
macro_rules! deciding_seconds {
    () => {
        2
    };
}

/// Time limit for any other statement that reads, in seconds.
macro_rules! reading_seconds {
    () => {
        5
    };
}

/// The time limit of deciding statements, as a setting.
pub(super) const DECIDING: &str = concat!(deciding_seconds!(), "s");
const DECIDING_LIMIT: Duration = Duration::from_secs(deciding_seconds!());
/// Time limit for all other reads as a whole; each of their statements has five seconds (see [`Purpose::begin`]). It is
/// longer than a request may take, so that a slow database does not lose its connections. The deciding statements
/// detect a broken connection sooner: readiness sends one each second.
const READING_LIMIT: Duration = Duration::from_secs(30);

/// Purpose of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A statement whose result decides something, such as an introspection.
    Decide,
    /// Reads for management, which may take longer.
    Read,
    /// A transaction that writes.
    Write,
}

impl Purpose {
    /// Returns the statements that begin the transaction, or `None` if the session needs none.
    const fn begin(self, pooled: bool) -> Option<&'static str> {
        match self {
            Self::Decide if pooled => Some(concat!(
                "BEGIN READ ONLY; SET LOCAL statement_timeout = '",
                deciding_seconds!(),
                "s'"
            )),
            Self::Decide => None,
            Self::Read => Some(concat!(
                "BEGIN READ ONLY; SET LOCAL statement_timeout = '",
                reading_seconds!(),
                "s'"
            )),
            // A `statement_timeout` could end a COMMIT that waits for synchronous replication: such a COMMIT has
            // happened, and only a warning says so. Instead, waiting for locks is bounded, and so is the time that a
            // vanished process holds them. A standby refuses READ WRITE. A primary that is set to reject writes, for
            // example while it is being moved, must stay that way: each write then fails by itself.
            Self::Write => Some(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SELECT set_config('transaction_read_only', current_setting('default_transaction_read_only'), true); \
                 SET LOCAL statement_timeout = 0; \
                 SET LOCAL lock_timeout = '2s'; \
                 SET LOCAL idle_in_transaction_session_timeout = '10s'",
            ),
        }
    }

    /// Returns the time limit for a statement, or `None` if there is none.
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Decide => Some(DECIDING_LIMIT),
            Self::Read => Some(READING_LIMIT),
            Self::Write => None,
        }
    }

    /// Returns the pool for this purpose, and the other pool.
    const fn pools_for(self, pools: &Pools) -> (&SharedPool, &SharedPool) {
        match self {
            Self::Decide | Self::Read => (&pools.read, &pools.write),
            Self::Write => (&pools.write, &pools.read),
        }
    }
}

/// Time limit for a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A pooled connection in use, with or without a transaction.
pub(super) struct Session {
    guard: ConnectionGuard,
    /// Whether statements are prepared by name and cached, which saves a round trip each.
    persistent: bool,
    /// Generation of the connection; see [`Primary`].
    pub(super) pool_generation: u64,
}

impl Session {
    /// Returns a statement to run on [`Self::connection`].
    pub(super) fn query<'q>(&self, sql: &'static str) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(sql).persistent(self.persistent)
    }

    /// Returns the statement of a query builder, to run on [`Self::connection`].
    pub(super) fn query_from<'q>(
        &self,
        query: &'q mut QueryBuilder<Postgres>,
    ) -> Query<'q, Postgres, PgArguments> {
        query.build().persistent(self.persistent)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.guard.connection()
    }

    /// Returns the time limit that the server enforces for a statement, or `None` if there is none.
    pub(super) const fn limit(&self) -> Option<Duration> {
        self.guard.limit()
    }

    /// Begins a session on the pool of a feed, whose connections belong to this pool generation. Behind a pooler it is
    /// a transaction, which [`Self::commit`] ends.
    pub(super) async fn for_feed(
        pool: &PgPool,
        primary: &Arc<Primary>,
        pool_generation: u64,
    ) -> Result<Self> {
        let pooled = primary.pooled();
        let begin = pooled.then_some(concat!(
            "BEGIN READ WRITE; SET LOCAL statement_timeout = '",
            reading_seconds!(),
            "s'"
        ));
        let guard = primary.unless_discarded(pool_generation, async {
            let connection = pool.acquire().await?;
            let mut guard =
                ConnectionGuard::new(connection, None, None, Arc::clone(primary), pool_generation);
            if let Some(begin) = begin {
                guard.begin(begin).await?;
            }
            Ok(guard)
        });
        let guard = guard.await?;
        if primary.is_discarded(pool_generation) {
            return Err(discarded_error());
        }
        let guard = guard.map_err(|error| primary.classify_begin_error(pool_generation, error))?;
        Ok(Self { guard, persistent: !pooled, pool_generation })
    }

    /// Returns whether the server does not answer a ping.
    pub(super) async fn is_broken(&mut self) -> bool {
        !matches!(tokio::time::timeout(PING_TIMEOUT, self.connection().ping()).await, Ok(Ok(())))
    }

    /// Commits the transaction, if there is one.
    pub(super) async fn commit(self) -> Result<()> {
        Ok(self.guard.commit().await?)
    }
}

impl PostgresStore {
    /// Returns a session for reading whose connection answers a ping. After a restart of the server all idle
    /// connections are broken: this drops one after the other until a new one is opened.
    pub(super) async fn working_session(&self, purpose: Purpose) -> Result<Session> {
        for _ in 0..self.sizes.read {
            let mut session = self.session(purpose).await?;
            if !session.is_broken().await {
                return Ok(session);
            }
        }
        Err(StoreError::Unavailable("its connections keep breaking".to_owned()))
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin_write(&self) -> Result<Session> {
        self.session(Purpose::Write).await
    }

    /// Returns a session on a connection to the last known primary. If the connections are discarded in the meantime,
    /// it tries once more on a new one. If the store is known to be unreachable, it fails at once. Without a
    /// transaction the connection may have broken while it was idle.
    pub(super) async fn session(&self, purpose: Purpose) -> Result<Session> {
        let mut failed = discarded_error();
        for _ in 0..2 {
            if !self.connections.is_closed() {
                self.primary.reachability.check()?;
                self.primary.ensure_found().await?;
            }
            let pooled = self.primary.pooled();
            let pools = self.connections.pools();
            let pool_generation = pools.pool_generation;
            let guard = Box::pin(self.acquire(&pools, purpose, pooled));
            match self.primary.unless_discarded(pool_generation, guard).await {
                Ok(Ok(guard)) => {
                    return Ok(Session { guard, persistent: !pooled, pool_generation });
                }
                Ok(Err(sqlx::Error::PoolTimedOut)) => {
                    failed = purpose.pools_for(&pools).0.timeout_error();
                }
                Ok(Err(error)) => {
                    failed = self.primary.classify_begin_error(pool_generation, error);
                }
                Err(error) => failed = error,
            }
            if !self.primary.is_discarded(pool_generation) || self.connections.is_closed() {
                break;
            }
        }
        // A caller that was waiting when the store became unreachable gets that error.
        self.primary.reachability.check()?;
        Err(failed)
    }

    /// Acquires a connection from these pools and begins the transaction, if there is one. Drops connections that broke
    /// while they were idle.
    async fn acquire(
        &self,
        pools: &Pools,
        purpose: Purpose,
        pooled: bool,
    ) -> sqlx::Result<ConnectionGuard> {
        let (pool, other) = purpose.pools_for(pools);
        let mut broken = 0;
        loop {
            let (permit, connection) = pool.acquire(other).await?;
            let (primary, pool_generation) = (Arc::clone(&self.primary), pools.pool_generation);
            let mut guard = ConnectionGuard::new(
                connection,
                Some(permit),
                purpose.limit(),
                primary,
                pool_generation,
            );
            let Some(begin) = purpose.begin(pooled) else { return Ok(guard) };
            match self.primary.first_answer(pool_generation, guard.begin(begin)).await {
                Ok(()) => return Ok(guard),
                Err(error) if is_broken(&error) && broken < pool.size() => broken += 1,
                Err(error) => return Err(error),
            }
            if self.primary.is_discarded(pool_generation) {
                return Err(sqlx::Error::PoolClosed);
            }
        }
    }
}

/// Returns whether the server closed the connection, with or without an error message.
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || matches!(&*code, "57P01" | "57P02" | "57P05" | "25P03")
        }),
        _ => false,
    }
}

/// Runs a read. Repeats it once if its connection broke while it was idle, or does not lead to the primary.
macro_rules! with_retry {
    ($store:expr, $purpose:expr, |$db:ident| $read:expr) => {{
        let read = async |$db: &mut Session| $read.await;
        let mut session = $store.session($purpose).await?;
        let (pool_generation, limit) = (session.pool_generation, session.limit());
        let first = $store.primary.while_current(pool_generation, limit, read(&mut session)).await;
        if first.as_ref().is_err_and(StoreError::is_pooler) {
            $store.primary.notice_pooler(pool_generation);
        }
        match first {
            Err(StoreError::Unavailable(_) | StoreError::Pooler { .. })
                if $store.primary.is_discarded(pool_generation) || session.is_broken().await =>
            {
                drop(session);
                let mut session = $store.working_session($purpose).await?;
                let (pool_generation, limit) = (session.pool_generation, session.limit());
                // Boxed, because it is rare and would double the size of every read.
                let again: futures::future::BoxFuture<'_, _> = Box::pin(read(&mut session));
                $store.primary.while_current(pool_generation, limit, again).await
            }
            outcome => outcome,
        }
    }};
}

/// Runs a read that decides nothing. It is enough that its connection led to the primary when it was opened.
macro_rules! read {
    ($store:expr, async |$db:ident| $read:expr) => {{
        use $crate::store::StoreError;
        use $crate::store::postgres::session::{Purpose, Session, with_retry};
        with_retry!($store, Purpose::Read, |$db| async {
            $store.primary.check_behind_pooler($db).await?;
            $read
        })
    }};
}

/// Runs a read whose result decides something. The result counts only if its own statement shows that the primary
/// answered.
macro_rules! decide {
    ($store:expr, async |$db:ident| $read:expr) => {{
        use $crate::store::StoreError;
        use $crate::store::postgres::session::{Purpose, Session, with_retry};
        with_retry!($store, Purpose::Decide, |$db| {
            $store.primary.run_deciding($db.pool_generation, async { $read })
        })
    }};
}

/// Runs a write in its own transaction and commits it.
macro_rules! transact {
    ($store:expr, async |$db:ident| $write:expr) => {{
        let mut session = $store.begin_write().await?;
        let $db = &mut session;
        let mut outcome: $crate::store::Result<_> = async { $write }.await;
        if outcome.is_ok() {
            outcome = session.commit().await.and(outcome);
        }
        $store.primary.write_health.note(&outcome);
        outcome
    }};
}

/// Adds the row lock to a statement. Keys never change, so the weaker exclusive lock is enough, and it does not block
/// foreign key checks of other transactions.
macro_rules! locked {
    ($lock:expr, $sql:literal) => {
        match $lock {
            Lock::Share => concat!($sql, " FOR SHARE"),
            Lock::Update => concat!($sql, " FOR NO KEY UPDATE"),
        }
    };
}

pub(super) use {decide, locked, read, transact, with_retry};
