//! The connection pools. They are replaced when all connections are discarded, so that a lost host blocks only its own
//! pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sqlx::postgres::PgPoolOptions;

use super::hosts::ACQUIRE_TIMEOUT;
use super::primary::Primary;
use super::session;
use super::shared_pool::SharedPool;

/// Maximum lifetime of a connection. If several servers share the connections that one database grants, each gets a
/// chance to open more.
const LIFETIME: Duration = Duration::from_mins(1);

/// Maximum number of connections in each pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// Connections for reads.
    pub read: u32,
    /// Connections for writes.
    pub write: u32,
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self { read: 10, write: 5 }
    }
}

/// The pools of one generation.
#[derive(Debug)]
pub(super) struct Pools {
    /// Pool for transactions that write. It is separate, so that a read never waits for a transaction that waits for a
    /// lock.
    pub(super) write: SharedPool,
    /// Pool for reads.
    pub(super) read: SharedPool,
    pub(super) pool_generation: u64,
}

impl Pools {
    /// Creates the pools without connecting.
    fn new(primary: &Arc<Primary>, sizes: PoolSizes) -> Self {
        // Read the pool generation before the host. If another host becomes the primary in between, these pools are
        // discarded at their first use.
        let pool_generation = primary.pool_generation();
        let options = primary.options();
        // sqlx need not test idle connections: a BEGIN finds a broken one, and a read on one is repeated. See `acquire`
        // and `read!`.
        let pool = |most| {
            let pool = pool_options(primary, pool_generation).max_connections(most);
            pool.max_lifetime(LIFETIME).test_before_acquire(false)
        };
        // Behind a pooler every read is a transaction with its own timeout. Otherwise the connection has the timeout of
        // a read that decides. Other statements begin a transaction that sets another one, so the pools can lend each
        // other connections.
        let options = if primary.pooled() {
            options
        } else {
            options.options([("statement_timeout", session::DECIDING)])
        };
        let read = SharedPool::new(pool(sizes.read).connect_lazy_with(options.clone()));
        let write = SharedPool::new(pool(sizes.write).connect_lazy_with(options));
        Self { write, read, pool_generation }
    }

    /// Stops opening connections, and closes those that are returned.
    fn retire(&self) {
        self.read.retire();
        self.write.retire();
    }
}

/// Returns the options of a pool that checks the origin of each new connection.
pub(super) fn pool_options(primary: &Arc<Primary>, pool_generation: u64) -> PgPoolOptions {
    let primary = Arc::clone(primary);
    PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).after_connect(move |connection, _| {
        let primary = Arc::clone(&primary);
        Box::pin(async move { primary.admit_connection(pool_generation, connection).await })
    })
}

/// The current pools.
#[derive(Debug)]
pub(super) struct Connections {
    primary: Arc<Primary>,
    sizes: PoolSizes,
    pools: RwLock<Arc<Pools>>,
    closed: AtomicBool,
}

impl Connections {
    pub(super) fn new(primary: Arc<Primary>, sizes: PoolSizes) -> Self {
        let pools = RwLock::new(Arc::new(Pools::new(&primary, sizes)));
        Self { primary, sizes, pools, closed: AtomicBool::new(false) }
    }

    /// Returns the pools of the current generation, or the closed ones after [`Self::close`].
    pub(super) fn pools(&self) -> Arc<Pools> {
        let is_good =
            |pools: &Pools| !self.primary.is_discarded(pools.pool_generation) || self.is_closed();
        let pools = Arc::clone(&self.pools.read());
        if is_good(&pools) {
            return pools;
        }
        let mut pools = self.pools.write();
        if !is_good(&pools) {
            pools.retire();
            *pools = Arc::new(Pools::new(&self.primary, self.sizes));
        }
        Arc::clone(&pools)
    }

    /// Closes one connection of the shared pools, for one that is needed more. Returns whether there was any.
    pub(super) async fn close_one(&self) -> bool {
        let pools = self.pools();
        pools.read.close_one().await || pools.write.close_one().await
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends every connection.
    pub(super) async fn close(&self) {
        let pools = {
            let pools = self.pools.write();
            self.closed.store(true, Ordering::Release);
            Arc::clone(&pools)
        };
        pools.read.close().await;
        pools.write.close().await;
    }
}
