//! A pool and the turns at its connections: what it does where the database grants fewer of them than it may have.

use std::pin::pin;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::{Error, PgPool, Postgres};

use super::turns::{PAUSE, Source, Tried, Turn, Turns};
use crate::store::{StoreError, TURN_TIMEOUT};

/// How long one more connection is waited for before one of the pool's own will do too.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked whether one of them came free.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long a pool may take to give up a connection that another needs more.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// A pool that all share.
#[derive(Debug)]
pub(super) struct Lane {
    pool: PgPool,
    turns: Turns,
    /// When it had none, and was last lent one.
    lent: Mutex<Option<Instant>>,
}

/// One that asks, and one that lends a connection if that has none: they are alike.
struct Asking<'a> {
    lane: &'a Lane,
    other: &'a Lane,
}

impl Source for Asking<'_> {
    type Connection = PoolConnection<Postgres>;

    async fn connect(&self) -> sqlx::Result<Tried<Self::Connection>> {
        let pool = &self.lane.pool;
        let (mut acquiring, mut lending) = (pin!(pool.acquire()), pin!(self.other.lend()));
        // One that was refused a moment ago is not asked for by everybody.
        let mut failed = self.lane.is_poor().then_some(Error::PoolTimedOut);
        if failed.is_none() {
            match tokio::time::timeout(PATIENCE, &mut acquiring).await {
                Ok(Ok(acquired)) => return Ok(Tried::Granted(acquired)),
                Ok(Err(error)) => failed = Some(error),
                Err(_) => {}
            }
        }
        loop {
            if let Some(own) = pool.try_acquire() {
                return Ok(Tried::Own(own));
            }
            let lends = !self.lane.has_any() && self.other.has_any();
            if let Some(error) = failed.take_if(|_| !lends) {
                return Err(error);
            }
            tokio::select! {
                biased;
                acquired = &mut acquiring, if failed.is_none() => match acquired {
                    Ok(acquired) => return Ok(Tried::Granted(acquired)),
                    Err(error) => failed = Some(error),
                },
                (turn, lent) = &mut lending, if lends => {
                    *self.lane.lent.lock() = Some(Instant::now());
                    return Ok(Tried::Lent(turn, lent));
                }
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    fn idle(&self) -> usize {
        self.lane.pool.num_idle()
    }
}

impl Lane {
    pub(super) fn new(pool: PgPool) -> Self {
        let turns = Turns::new(pool.options().get_max_connections());
        Self { pool, turns, lent: Mutex::default() }
    }

    /// A connection, as soon as it is this caller's turn.
    pub(super) async fn take(
        &self,
        other: &Self,
    ) -> sqlx::Result<(Turn, PoolConnection<Postgres>)> {
        self.turns.take(&Asking { lane: self, other }, TURN_TIMEOUT).await
    }

    /// Connections that it may have at most.
    pub(super) fn most(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    fn has_any(&self) -> bool {
        self.turns.held() + self.pool.num_idle() > 0
    }

    /// Whether it had none a moment ago.
    fn is_poor(&self) -> bool {
        !self.has_any() && self.lent.lock().is_some_and(|lent| lent.elapsed() < PAUSE)
    }

    /// A connection of those that there are.
    async fn lend(&self) -> (Turn, PoolConnection<Postgres>) {
        loop {
            if let Ok(turn) = self.turns.wait().await
                && let Some(connection) = self.pool.try_acquire()
            {
                return (turn.hold(&self.turns), connection);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Closes one of its connections, since whoever asks has none and the database grants no more; whether it did.
    pub(super) async fn give_one_up(&self) -> bool {
        let giving_up = async {
            let turn = self.turns.wait().await.ok()?;
            let connection = self.pool.try_acquire()?;
            connection.close().await.ok()?;
            drop(self.turns.withdraw(turn, self.pool.num_idle()));
            Some(())
        };
        let given_up = tokio::time::timeout(GIVE_UP_TIMEOUT, giving_up);
        self.has_any() && matches!(given_up.await, Ok(Some(())))
    }

    /// What to say where a connection could not be had in time.
    pub(super) fn none_in_time(&self) -> StoreError {
        let held = self.turns.held();
        StoreError::Unavailable(if held > 0 {
            format!("all {held} connections of its pool are in use, and none came free in time")
        } else {
            "no connection to it could be made in time".to_owned()
        })
    }

    /// Makes no more connections, and keeps none that comes back.
    pub(super) fn retire(&self) {
        // It is marked so at the call; those that are held are waited for elsewhere.
        drop(self.pool.close());
    }

    /// Ends every connection.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}
