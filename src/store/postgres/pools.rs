//! The pools, which are made anew when all connections are thrown away: what a lost host holds up, holds up nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Row as _};

use super::hosts::ACQUIRE_TIMEOUT;
use super::primary::Primary;
use super::turns::Turns;

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
    pub(super) write: PgPool,
    /// For single statements that read.
    pub(super) read: PgPool,
    /// Turns at each of the two.
    pub(super) write_turns: Turns,
    pub(super) read_turns: Turns,
    pub(super) generation: u64,
}

impl Pools {
    /// Connects to nobody yet.
    fn new(primary: &Arc<Primary>, sizes: PoolSizes) -> Self {
        // Before the host is asked for: if another is the primary meanwhile, these are thrown away at their first use.
        let generation = primary.generation();
        let (options, pooled) = (primary.options(), primary.pooled);
        // Reads are single statements and can be run again, so connections are not tested before each: see `read!`.
        let read = asking(primary, generation)
            .max_connections(sizes.read)
            .min_connections(1)
            .test_before_acquire(pooled);
        let write = asking(primary, generation)
            .max_connections(sizes.write)
            .after_release(|connection, metadata| Box::pin(is_clean(connection, metadata)));
        // Behind a pooler reads are transactions too; without one, the timeout is the connection's own.
        let (read, read_options) = if pooled {
            let read =
                read.after_release(|connection, metadata| Box::pin(is_clean(connection, metadata)));
            (read, options.clone())
        } else {
            (read, options.clone().options([("statement_timeout", "5s")]))
        };
        let read = read.connect_lazy_with(read_options);
        let write = write.connect_lazy_with(options);
        let (write_turns, read_turns) = (Turns::new(sizes.write), Turns::new(sizes.read));
        Self { write, read, write_turns, read_turns, generation }
    }

    /// Makes no more connections, and keeps none that comes back.
    fn retire(&self) {
        // It is marked so at the call; those that are held are waited for elsewhere.
        drop(self.read.close());
        drop(self.write.close());
    }
}

/// A pool whose every connection is asked where it leads before it is used.
pub(super) fn asking(primary: &Arc<Primary>, generation: u64) -> PgPoolOptions {
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
        let is_good = |pools: &Pools| !self.primary.is_thrown(pools.generation) || self.is_closed();
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

/// Whether a connection that comes back to its pool is out of any transaction; it is closed otherwise.
///
/// sqlx 0.9.0 leaves it in one where the future of `begin` is dropped at a bad moment (transact-rs/sqlx#4385), and what
/// the next borrower writes would never be committed. A ROLLBACK would do as well, but for the warning in the server's
/// log each time. At the first statement of a transaction the two clocks show the same.
async fn is_clean(connection: &mut PgConnection, _: PoolConnectionMetadata) -> sqlx::Result<bool> {
    let row = sqlx::raw_sql("SELECT transaction_timestamp() = statement_timestamp()")
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}
