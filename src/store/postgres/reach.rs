//! Whether the store is known to be away. While it is, one prober, the feed of the change log, tries it again and again, and
//! everybody else is refused at once: many who wait for the same time limits would only hold up what memory can answer.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Result, StoreError};

/// A prober that has not tried for so long is gone, and nobody would hear of the store's return.
const PROBER_PATIENCE: Duration = Duration::from_secs(5);
/// A store that answered so lately is there, whatever else fails: it may only take no more connections.
const LATELY: Duration = Duration::from_secs(1);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Reach {
    /// Why it is away; nothing: it is there, as far as is known.
    away: watch::Sender<Option<String>>,
    /// When the prober last began or ended a try; nothing: there is none.
    probed: Mutex<Option<Instant>>,
    /// When a statement was last answered.
    heard: Mutex<Instant>,
}

impl Reach {
    /// It is there.
    pub(super) fn new() -> Self {
        let (probed, heard) = (Mutex::default(), Mutex::new(Instant::now()));
        Self { away: watch::channel(None).0, probed, heard }
    }

    /// A statement was answered.
    pub(super) fn hear(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// The prober is at work.
    pub(super) fn probe(&self) {
        *self.probed.lock() = Some(Instant::now());
    }

    /// Whether it has answered lately.
    pub(super) fn was_heard_lately(&self) -> bool {
        self.heard.lock().elapsed() < LATELY
    }

    fn is_probed(&self) -> bool {
        self.probed.lock().is_some_and(|last| last.elapsed() < PROBER_PATIENCE)
    }

    /// A search has failed so: whether it is known to be away from now on, and was not before.
    pub(super) fn miss(&self, error: &StoreError) -> bool {
        let away = self.is_probed() && !self.was_heard_lately();
        away && self.away.send_replace(Some(error.cause())).is_none()
    }

    /// It is there, or there again.
    pub(super) fn find(&self) {
        self.hear();
        self.away.send_if_modified(|away| away.take().is_some());
    }

    /// Refuses, if it is known to be away and its return would be heard of.
    pub(super) fn refuse(&self) -> Result<()> {
        match &*self.away.borrow() {
            Some(why) if self.is_probed() => Err(StoreError::Away(why.clone())),
            _ => Ok(()),
        }
    }

    /// When it is known to be away.
    pub(super) async fn gone(&self) -> StoreError {
        let mut away = self.away.subscribe();
        let why = away.wait_for(Option::is_some).await.ok().and_then(|away| away.clone());
        // The sender lives as long as this.
        StoreError::Away(why.unwrap_or_default())
    }
}
