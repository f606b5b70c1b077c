//! The pools, which are made anew when all connections are thrown away: what a lost host holds up, holds up nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sqlx::postgres::PgPoolOptions;

use super::hosts::ACQUIRE_TIMEOUT;
use super::primary::Primary;
use super::session;
use super::shared_pool::SharedPool;

/// How long a connection is kept. Where several servers share what one database grants, each has its turn at more.
const LIFETIME: Duration = Duration::from_mins(1);

/// How many connections each pool has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// For reading.
    pub read: u32,
    /// For writing.
    pub write: u32,
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self { read: 10, write: 5 }
    }
}

/// Connections that were made since all were last thrown away.
#[derive(Debug)]
pub(super) struct Pools {
    /// For transactions that write, so that readers who wait for a connection never wait for a lock.
    pub(super) write: SharedPool,
    /// For what reads.
    pub(super) read: SharedPool,
    pub(super) generation: u64,
}

impl Pools {
    /// Connects to nobody yet.
    fn new(primary: &Arc<Primary>, sizes: PoolSizes) -> Self {
        // Before the host is asked for: if another is the primary meanwhile, these are thrown away at their first use.
        let generation = primary.generation();
        let options = primary.options();
        // A connection that broke while it was idle is found out by whoever begins a transaction on it, or by whose read
        // is run again: see `hold` and `read!`.
        let pool = |most| {
            let pool = pool_options(primary, generation).max_connections(most);
            pool.max_lifetime(LIFETIME).test_before_acquire(false)
        };
        // Behind a pooler reads are transactions too; without one, the timeout is the connection's own. What begins a
        // transaction sets another, so each pool can lend the other a connection.
        let options = if primary.pooled() {
            options
        } else {
            options.options([("statement_timeout", session::DECIDING)])
        };
        let read = SharedPool::new(pool(sizes.read).connect_lazy_with(options.clone()));
        let write = SharedPool::new(pool(sizes.write).connect_lazy_with(options));
        Self { write, read, generation }
    }

    /// Makes no more connections, and keeps none that comes back.
    fn retire(&self) {
        self.read.retire();
        self.write.retire();
    }
}

/// A pool whose every connection is asked where it leads before it is used.
pub(super) fn pool_options(primary: &Arc<Primary>, generation: u64) -> PgPoolOptions {
    let primary = Arc::clone(primary);
    PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).after_connect(move |connection, _| {
        let primary = Arc::clone(&primary);
        Box::pin(async move { primary.admit_connection(generation, connection).await })
    })
}

/// The pools of now.
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

    /// Those that were not thrown away; after the end, those that are closed.
    pub(super) fn pools(&self) -> Arc<Pools> {
        let is_good =
            |pools: &Pools| !self.primary.is_discarded(pools.generation) || self.is_closed();
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

    /// Closes a connection of those that all share, for one that is needed more; whether there was any.
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
