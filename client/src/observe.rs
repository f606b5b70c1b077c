//! Events of the client, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::Code;

/// An event. More kinds may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The cache answered an introspection.
    Hit,
    /// The cache had no answer to an introspection, so the service is called.
    Miss,
    /// An introspection waits for a call in flight.
    Joined,
    /// A token was refused without a call, because it cannot be valid.
    Malformed,
    /// A call ended.
    Called {
        /// Name of the method, such as `Introspect`.
        method: &'static str,
        /// Status of the call.
        code: Code,
        /// Duration of the call.
        took: Duration,
    },
    /// A call is retried, because the service was unavailable.
    Retried {
        /// Name of the method.
        method: &'static str,
    },
    /// The service is unavailable, and a cached answer was given, marked as stale.
    Bridged,
    /// The Watch stream is connected. The cache can answer.
    WatchUp,
    /// The Watch stream broke. The cache stops answering once the last checkpoint is too old.
    WatchDown,
    /// The cache was cleared.
    Dropped,
}

/// Receives events, on the thread on which they occur. It must return quickly.
pub trait Observer: Send + Sync + 'static {
    /// Handles an event.
    fn observe(&self, event: Event);
}

/// Counters of events.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers from the cache.
    pub hits: AtomicU64,
    /// Answers that took a call.
    pub misses: AtomicU64,
    /// Answers from a call that was already in flight.
    pub joined: AtomicU64,
    /// Tokens refused without a call.
    pub malformed: AtomicU64,
    /// Calls, with each attempt counted.
    pub calls: AtomicU64,
    /// Attempts after the first.
    pub retries: AtomicU64,
    /// Stale answers.
    pub bridged: AtomicU64,
    /// Number of times that the Watch stream connected.
    pub watch_ups: AtomicU64,
    /// Number of times that the Watch stream broke.
    pub watch_downs: AtomicU64,
    /// Number of times that the cache was cleared.
    pub drops: AtomicU64,
}

impl Observer for Counters {
    fn observe(&self, event: Event) {
        let counter = match event {
            Event::Hit => &self.hits,
            Event::Miss => &self.misses,
            Event::Joined => &self.joined,
            Event::Malformed => &self.malformed,
            Event::Called { .. } => &self.calls,
            Event::Retried { .. } => &self.retries,
            Event::Bridged => &self.bridged,
            Event::WatchUp => &self.watch_ups,
            Event::WatchDown => &self.watch_downs,
            Event::Dropped => &self.drops,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
