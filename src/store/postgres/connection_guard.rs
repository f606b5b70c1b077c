//! A connection while it is held, and its way back to its pool: it never waits for a peer that may not be there any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

use super::permits::Permit;
use super::primary::{Primary, UNANSWERED};

/// How long it may take to roll back, and to answer what was not waited for, before it is closed instead.
const RETURN_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that is held. Dropping it rolls back and gives it back.
pub(super) struct ConnectionGuard {
    /// Until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    /// At the pools that all share; given back after the connection.
    permit: Option<Permit>,
    state: State,
    /// How long a statement on it may take, if the server sees to that.
    limit: Option<Duration>,
    /// Since when there may be a statement on it.
    started: Instant,
    primary: Arc<Primary>,
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In no transaction.
    Idle,
    /// In one.
    InTransaction,
    /// A BEGIN or a COMMIT is under way, or has failed.
    Unknown,
}

impl ConnectionGuard {
    /// Of this generation.
    pub(super) fn new(
        connection: PoolConnection<Postgres>,
        permit: Option<Permit>,
        limit: Option<Duration>,
        primary: Arc<Primary>,
        generation: u64,
    ) -> Self {
        let (state, started) = (State::Idle, Instant::now());
        Self { connection: Some(connection), permit, state, limit, started, primary, generation }
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is held until it is dropped")
    }

    pub(super) const fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Begins a transaction.
    pub(super) async fn begin(&mut self, begin: &'static str) -> sqlx::Result<()> {
        self.state = State::Unknown;
        sqlx::raw_sql(begin).execute(self.connection()).await?;
        self.state = State::InTransaction;
        self.started = Instant::now();
        Ok(())
    }

    /// Commits, if it is in a transaction.
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
            // Its place is free at once. Without a farewell: the server finds out by itself, and rolls back.
            drop(connection.detach());
            return;
        };
        let (in_transaction, permit, limit, started) =
            (self.state == State::InTransaction, self.permit.take(), self.limit, self.started);
        let (primary, generation) = (Arc::clone(&self.primary), self.generation);
        // Not on a tracker: it is bounded, and the pool, as long as it is open, does not close without it.
        runtime.spawn(async move {
            if !return_to_pool(connection, in_transaction).await
                && limit.is_some_and(|limit| started.elapsed() > limit)
            {
                primary.discard_connections(generation, UNANSWERED);
            }
            drop(permit);
        });
    }
}

/// Rolls back, if need be, and gives it back, or closes it; whether the server answered.
async fn return_to_pool(mut connection: PoolConnection<Postgres>, in_transaction: bool) -> bool {
    if in_transaction {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(&mut *connection);
        let rolled_back = tokio::time::timeout(RETURN_TIMEOUT, rollback).await;
        if !matches!(rolled_back, Ok(Ok(_))) {
            drop(connection.detach());
            return rolled_back.is_ok();
        }
    }
    // sqlx tests it, which takes in the answer to what was not waited for. Where it is late it is closed: this drops it.
    tokio::time::timeout(RETURN_TIMEOUT, connection.return_to_pool()).await.is_ok()
}
