//! Waits until the cache has caught up with the store. A call does this before it refuses something as unknown, because
//! another server may have created it a moment ago.
//!
//! Each wait needs the newest revision of the store, from a read that starts after the wait did. Waits that arrive
//! meanwhile share the next read, so a flood of them causes at most a hundred reads a second. If the store is ahead, a
//! sync is requested and awaited.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::LocalReplica;
use crate::model::Revision;
use crate::store::{Result, Store};

/// Maximum number of waits at a time. Further ones return at once.
const WAITING_MAX: usize = 1_024;
/// Longest wait.
const PATIENCE: Duration = Duration::from_millis(250);
/// Interval between two reads.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// The pending waits, and the newest revision of the store.
pub(super) struct CatchUp {
    store: Arc<dyn Store>,
    local: Arc<LocalReplica>,
    permits: Semaphore,
    /// Number of waits so far.
    tickets: AtomicU64,
    newest: Mutex<Newest>,
}

/// The newest revision of the store, as last read.
struct Newest {
    revision: Revision,
    /// The read started after the waits up to this number.
    tickets: u64,
    read_at: Option<Instant>,
}

impl CatchUp {
    pub(super) fn new(store: Arc<dyn Store>, local: Arc<LocalReplica>) -> Self {
        Self {
            store,
            local,
            permits: Semaphore::new(WAITING_MAX),
            tickets: AtomicU64::new(0),
            newest: Mutex::new(Newest { revision: Revision::default(), tickets: 0, read_at: None }),
        }
    }

    /// Waits until this process has applied everything that was committed before the call. Returns early on timeout,
    /// and at once if too many waits are pending.
    pub(super) async fn wait(&self) {
        let Ok(_permit) = self.permits.try_acquire() else { return };
        let caught_up = async {
            // If the store cannot be read, waiting is pointless.
            if let Ok(newest) = self.newest().await
                && self.local.lags_behind(newest)
            {
                self.local.request_sync(newest);
                self.local.wait_until_applied(newest, PATIENCE).await;
            }
        };
        // The result does not matter: the caller looks again in either case.
        let _ = tokio::time::timeout(PATIENCE, caught_up).await;
    }

    /// Returns the newest revision of the store, from a read that starts after this call.
    async fn newest(&self) -> Result<Revision> {
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        let mut newest = self.newest.lock().await;
        if newest.tickets < ticket {
            if let Some(read_at) = newest.read_at {
                tokio::time::sleep_until(read_at + READ_PAUSE).await;
            }
            newest.read_at = Some(Instant::now());
            let tickets = self.tickets.load(Ordering::Acquire);
            newest.revision = self.store.revision().await?;
            newest.tickets = tickets;
        }
        Ok(newest.revision)
    }
}
