//! A pool and the turns at its connections: what it does where the database grants fewer of them than it may have.

use std::pin::pin;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

use super::turns::{Source, Tried, Turn, Turns};
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
}

/// One that asks, and one that has connections to spare if that has none.
struct Asking<'a> {
    lane: &'a Lane,
    other: &'a Lane,
}

impl Source for Asking<'_> {
    type Connection = PoolConnection<Postgres>;

    async fn connect(&self) -> sqlx::Result<Tried<Self::Connection>> {
        let pool = &self.lane.pool;
        let mut acquiring = pin!(pool.acquire());
        if let Ok(acquired) = tokio::time::timeout(PATIENCE, &mut acquiring).await {
            return acquired.map(Tried::Granted);
        }
        if !self.lane.has_any() {
            self.other.give_one_up().await;
        }
        loop {
            if let Some(own) = pool.try_acquire() {
                return Ok(Tried::Own(own));
            }
            if let Ok(acquired) = tokio::time::timeout(LOOK_INTERVAL, &mut acquiring).await {
                return acquired.map(Tried::Granted);
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
        Self { pool, turns }
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
