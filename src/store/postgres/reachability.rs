//! Tracks whether the store is reachable. While it is not, only the change feed probes it, and all other requests are
//! refused at once. If they all waited for the same timeouts, they would delay answers from memory.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Result, StoreError};

/// Time after which a prober counts as gone. Without a prober nobody would notice that the store is back.
const PROBER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a store counts as reachable after an answer, even if new connections fail: it may only be out of
/// connections.
const RECENT: Duration = Duration::from_secs(1);

/// Whether the store is reachable.
#[derive(Debug)]
pub(super) struct Reachability {
    /// Reason why the store is unreachable. `None` while it counts as reachable.
    unreachable: watch::Sender<Option<String>>,
    /// Time at which the last probe began or ended. `None` if there is no prober.
    last_probe: Mutex<Option<Instant>>,
    /// Time of the last answer to a statement.
    last_answer: Mutex<Instant>,
}

impl Reachability {
    /// Starts with a reachable store.
    pub(super) fn new() -> Self {
        let (last_probe, last_answer) = (Mutex::default(), Mutex::new(Instant::now()));
        Self { unreachable: watch::channel(None).0, last_probe, last_answer }
    }

    /// Records that a statement was answered.
    pub(super) fn note_answer(&self) {
        *self.last_answer.lock() = Instant::now();
    }

    /// Records that a probe began or ended.
    pub(super) fn note_probe(&self) {
        *self.last_probe.lock() = Some(Instant::now());
    }

    /// Returns whether the store has answered recently.
    pub(super) fn answered_recently(&self) -> bool {
        self.last_answer.lock().elapsed() < RECENT
    }

    fn has_prober(&self) -> bool {
        self.last_probe.lock().is_some_and(|last| last.elapsed() < PROBER_TIMEOUT)
    }

    /// Records a failed search. Returns whether the store counts as unreachable from now on and did not before.
    pub(super) fn note_failed_search(&self, error: &StoreError) -> bool {
        let unreachable = self.has_prober() && !self.answered_recently();
        unreachable && self.unreachable.send_replace(Some(error.cause())).is_none()
    }

    /// Records that the store is reachable.
    pub(super) fn note_reachable(&self) {
        self.note_answer();
        self.unreachable.send_if_modified(|unreachable| unreachable.take().is_some());
    }

    /// Returns an error if the store is known to be unreachable and a prober would notice its return.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.unreachable.borrow() {
            Some(why) if self.has_prober() => Err(StoreError::Unreachable(why.clone())),
            _ => Ok(()),
        }
    }

    /// Resolves when the store is known to be unreachable.
    pub(super) async fn until_unreachable(&self) -> StoreError {
        let mut unreachable = self.unreachable.subscribe();
        let why = unreachable
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|unreachable| unreachable.clone());
        // `wait_for` cannot fail: the sender lives as long as `self`.
        StoreError::Unreachable(why.unwrap_or_default())
    }
}
