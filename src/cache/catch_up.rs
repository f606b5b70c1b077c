//! BarrierStatus until memory has caught up with the store as it is now: for whoever is about to refuse something because it is not
//! known here, and has to be sure that nobody has just made it somewhere else.
//!
//! What is asked of the store is its newest revision, by a read that begins after the question; all who ask meanwhile share
//! the next one, so a flood of questions costs no more than a hundred such reads a second. Where the log has moved on, the
//! follower is told, and its sync is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::LocalReplica;
use crate::model::Revision;
use crate::store::{Result, Store};

/// Who waits at once; more are not waited for.
const WAITING_MAX: usize = 1_024;
/// The longest that one waits.
const PATIENCE: Duration = Duration::from_millis(250);
/// From one read to the next.
const READ_PAUSE: Duration = Duration::from_millis(10);

/// Those who wait, and what they wait for.
pub(super) struct CatchUp {
    store: Arc<dyn Store>,
    local: Arc<LocalReplica>,
    permits: Semaphore,
    /// Counts the questions.
    tickets: AtomicU64,
    newest: Mutex<Newest>,
}

/// The newest revision, as it was last read.
struct Newest {
    revision: Revision,
    /// The read began after all questions up to this one.
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

    /// Waits until this process has applied all that was committed before this was called; not at all where too many wait,
    /// and not for long where that takes long.
    pub(super) async fn wait(&self) {
        let Ok(_permit) = self.permits.try_acquire() else { return };
        let caught_up = async {
            // Where the store cannot be asked nothing more will be known.
            if let Ok(newest) = self.newest().await
                && self.local.lags_behind(newest)
            {
                self.local.request_sync(newest);
                self.local.wait_until_applied(newest, PATIENCE).await;
            }
        };
        // Whoever waits looks for itself afterwards.
        let _ = tokio::time::timeout(PATIENCE, caught_up).await;
    }

    /// The store's newest revision, of a read that begins after this was called.
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
