//! A guard for a pooled connection. Returning the connection to its pool never waits for a server that may be gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

use super::permits::Permit;
use super::primary::{Primary, UNANSWERED};

/// Time limit for the rollback and for outstanding answers before a returned connection is closed instead.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// A pooled connection in use. Dropping the guard rolls back and returns the connection to its pool.
pub(super) struct ConnectionGuard {
    /// `None` only while the guard is being dropped.
    connection: Option<PoolConnection<Postgres>>,
    /// Permit of a shared pool, released after the connection. `None` for a connection of a feed.
    permit: Option<Permit>,
    state: State,
    /// Time limit of a statement. `None` if there is no limit.
    limit: Option<Duration>,
    /// Time since which a statement may be running.
    started: Instant,
    primary: Arc<Primary>,
    pool_generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside a transaction.
    Idle,
    /// In a transaction.
    InTransaction,
    /// A BEGIN or COMMIT is in flight or has failed.
    Unknown,
}

impl ConnectionGuard {
    /// Guards a connection of this pool generation.
    pub(super) fn new(
        connection: PoolConnection<Postgres>,
        permit: Option<Permit>,
        limit: Option<Duration>,
        primary: Arc<Primary>,
        pool_generation: u64,
    ) -> Self {
        let (state, started) = (State::Idle, Instant::now());
        Self {
            connection: Some(connection),
            permit,
            state,
            limit,
            started,
            primary,
            pool_generation,
        }
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is held until it is dropped")
    }

    pub(super) const fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Begins a transaction with the statement `begin`.
    pub(super) async fn begin(&mut self, begin: &'static str) -> sqlx::Result<()> {
        self.state = State::Unknown;
        sqlx::raw_sql(begin).execute(self.connection()).await?;
        self.state = State::InTransaction;
        self.started = Instant::now();
        Ok(())
    }

    /// Commits the transaction, if there is one.
    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        if self.state == State::InTransaction {
            self.state = State::Unknown;
            sqlx::raw_sql("COMMIT").execute(self.connection()).await?;
            self.state = State::Idle;
        }
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let runtime = tokio::runtime::Handle::try_current();
        let (Ok(runtime), true) = (runtime, self.state != State::Unknown) else {
            // Frees the pool's slot at once, without closing the session. The server notices the closed socket and
            // rolls back.
            drop(connection.detach());
            return;
        };
        let (in_transaction, permit, limit, started) =
            (self.state == State::InTransaction, self.permit.take(), self.limit, self.started);
        let (primary, pool_generation) = (Arc::clone(&self.primary), self.pool_generation);
        // This task needs no tracker: its duration is bounded, and an open pool does not close without it.
        runtime.spawn(async move {
            if !return_to_pool(connection, in_transaction).await
                && limit.is_some_and(|limit| started.elapsed() > limit)
            {
                primary.discard_connections(pool_generation, UNANSWERED);
            }
            drop(permit);
        });
    }
}

/// Rolls back if necessary, then returns the connection to its pool or closes it. Returns whether the server answered.
async fn return_to_pool(mut connection: PoolConnection<Postgres>, in_transaction: bool) -> bool {
    if in_transaction {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
        let rolled_back = tokio::time::timeout(RETURN_TIMEOUT, rollback).await;
        if !matches!(rolled_back, Ok(Ok(_))) {
            drop(connection.detach());
            return rolled_back.is_ok();
        }
    }
    // sqlx pings the connection, which also receives the answer to an abandoned statement. If that takes too long, the
    // connection is dropped and thereby closed.
    tokio::time::timeout(RETURN_TIMEOUT, connection.return_to_pool()).await.is_ok()
}
