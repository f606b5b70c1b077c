//! A connection pool with permits, for the case that the database grants fewer connections than the pool may have.

use std::pin::pin;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::{Error, PgPool, Postgres};

use super::permits::{AcquireOutcome, ConnectionSource, Permit, Permits, RETRY_PAUSE};
use crate::store::{PERMIT_TIMEOUT, StoreError};

/// Time to wait for a new connection before one that was returned to the pool is taken too.
const NEW_CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// Polling interval for returned connections.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Time limit for closing a connection that another pool needs more.
const CLOSE_ONE_TIMEOUT: Duration = Duration::from_secs(1);

/// A pool shared by all requests.
#[derive(Debug)]
pub(super) struct SharedPool {
    pool: PgPool,
    permits: Permits,
    /// Time at which this pool had no connection and was last lent one.
    last_lent: Mutex<Option<Instant>>,
}

/// A request for a connection of `pool`, to which `other` lends one if `pool` has none. Both pools use the same
/// settings.
struct Acquisition<'a> {
    pool: &'a SharedPool,
    other: &'a SharedPool,
}

impl ConnectionSource for Acquisition<'_> {
    type Connection = PoolConnection<Postgres>;

    async fn connect(&self) -> sqlx::Result<AcquireOutcome<Self::Connection>> {
        let pool = &self.pool.pool;
        let (mut acquiring, mut lending) = (pin!(pool.acquire()), pin!(self.other.lend()));
        // A connection that was refused a moment ago is not requested again by every caller.
        let mut failed = self.pool.was_refused_recently().then_some(Error::PoolTimedOut);
        if failed.is_none() {
            match tokio::time::timeout(NEW_CONNECTION_TIMEOUT, &mut acquiring).await {
                Ok(Ok(acquired)) => return Ok(AcquireOutcome::Granted(acquired)),
                Ok(Err(error)) => failed = Some(error),
                Err(_) => {}
            }
        }
        loop {
            if let Some(own) = pool.try_acquire() {
                return Ok(AcquireOutcome::Freed(own));
            }
            let lends = !self.pool.has_any() && self.other.has_any();
            if let Some(error) = failed.take_if(|_| !lends) {
                return Err(error);
            }
            tokio::select! {
                biased;
                acquired = &mut acquiring, if failed.is_none() => match acquired {
                    Ok(acquired) => return Ok(AcquireOutcome::Granted(acquired)),
                    Err(error) => failed = Some(error),
                },
                (permit, lent) = &mut lending, if lends => {
                    *self.pool.last_lent.lock() = Some(Instant::now());
                    return Ok(AcquireOutcome::Lent(permit, lent));
                }
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    fn idle(&self) -> usize {
        self.pool.pool.num_idle()
    }
}

impl SharedPool {
    pub(super) fn new(pool: PgPool) -> Self {
        let permits = Permits::new(pool.options().get_max_connections());
        Self { pool, permits, last_lent: Mutex::default() }
    }

    /// Waits for a permit and returns a connection with it.
    pub(super) async fn acquire(
        &self,
        other: &Self,
    ) -> sqlx::Result<(Permit, PoolConnection<Postgres>)> {
        self.permits.acquire(&Acquisition { pool: self, other }, PERMIT_TIMEOUT).await
    }

    /// Returns the maximum number of connections.
    pub(super) fn size(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    fn has_any(&self) -> bool {
        self.permits.in_use() + self.pool.num_idle() > 0
    }

    /// Returns whether the pool has no connection and was refused one a moment ago.
    fn was_refused_recently(&self) -> bool {
        !self.has_any()
            && self.last_lent.lock().is_some_and(|last_lent| last_lent.elapsed() < RETRY_PAUSE)
    }

    /// Waits for an idle connection of this pool, to lend it to another.
    async fn lend(&self) -> (Permit, PoolConnection<Postgres>) {
        loop {
            if let Ok(permit) = self.permits.wait().await
                && let Some(connection) = self.pool.try_acquire()
            {
                return (permit.with_connection(&self.permits), connection);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Closes one connection, because the database grants no more and another pool has none. Returns whether one was
    /// closed.
    pub(super) async fn close_one(&self) -> bool {
        let closing = async {
            let permit = self.permits.wait().await.ok()?;
            let connection = self.pool.try_acquire()?;
            connection.close().await.ok()?;
            drop(self.permits.withdraw(permit, self.pool.num_idle()));
            Some(())
        };
        let closed = tokio::time::timeout(CLOSE_ONE_TIMEOUT, closing);
        self.has_any() && matches!(closed.await, Ok(Some(())))
    }

    /// Error for a connection that was not available in time.
    pub(super) fn timeout_error(&self) -> StoreError {
        let in_use = self.permits.in_use();
        StoreError::Unavailable(if in_use > 0 {
            format!("all {in_use} connections of its pool are in use, and none became free in time")
        } else {
            "no connection to it could be made in time".to_owned()
        })
    }

    /// Stops opening connections, and closes those that are returned.
    pub(super) fn retire(&self) {
        // The call marks the pool as closed at once. Nothing waits for the connections in use.
        drop(self.pool.close());
    }

    /// Ends every connection.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
