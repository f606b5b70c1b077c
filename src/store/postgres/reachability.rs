//! Whether the store is known to be away. While it is, one prober, the feed of the change log, tries it again and again, and
//! everybody else is refused at once: many who wait for the same time limits would only hold up what memory can answer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Result, StoreError};

/// A prober that has not tried for so long is gone, and nobody would hear of the store's return.
const PROBER_TIMEOUT: Duration = Duration::from_secs(5);
/// A store that answered so lately is there, whatever else fails: it may only take no more connections.
const RECENT: Duration = Duration::from_secs(1);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Reachability {
    /// Why it is away; nothing: it is there, as far as is known.
    unreachable: watch::Sender<Option<String>>,
    /// When the prober last began or ended a try; nothing: there is none.
    last_probe: Mutex<Option<Instant>>,
    /// When a statement was last answered.
    last_answer: Mutex<Instant>,
}

impl Reachability {
    /// It is there.
    pub(super) fn new() -> Self {
        let (last_probe, last_answer) = (Mutex::default(), Mutex::new(Instant::now()));
        Self { unreachable: watch::channel(None).0, last_probe, last_answer }
    }

    /// A statement was answered.
    pub(super) fn note_answer(&self) {
        *self.last_answer.lock() = Instant::now();
    }

    /// The prober is at work.
    pub(super) fn note_probe(&self) {
        *self.last_probe.lock() = Some(Instant::now());
    }

    /// Whether it has answered lately.
    pub(super) fn answered_recently(&self) -> bool {
        self.last_answer.lock().elapsed() < RECENT
    }

    fn has_prober(&self) -> bool {
        self.last_probe.lock().is_some_and(|last| last.elapsed() < PROBER_TIMEOUT)
    }

    /// A search has failed so: whether it is known to be away from now on, and was not before.
    pub(super) fn note_failed_search(&self, error: &StoreError) -> bool {
        let unreachable = self.has_prober() && !self.answered_recently();
        unreachable && self.unreachable.send_replace(Some(error.cause())).is_none()
    }

    /// It is there, or there again.
    pub(super) fn note_reachable(&self) {
        self.note_answer();
        self.unreachable.send_if_modified(|unreachable| unreachable.take().is_some());
    }

    /// Refuses, if it is known to be away and its return would be heard of.
    pub(super) fn check(&self) -> Result<()> {
        match &*self.unreachable.borrow() {
            Some(why) if self.has_prober() => Err(StoreError::Unreachable(why.clone())),
            _ => Ok(()),
        }
    }

    /// When it is known to be away.
    pub(super) async fn until_unreachable(&self) -> StoreError {
        let mut unreachable = self.unreachable.subscribe();
        let why = unreachable
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|unreachable| unreachable.clone());
        // The sender lives as long as this.
        StoreError::Unreachable(why.unwrap_or_default())
    }
}
