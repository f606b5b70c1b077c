//! Hooks for metrics: what the client does, as it does it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::Code;

/// Something that happened. More may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An introspection was answered from memory.
    Hit,
    /// An introspection was not in memory: the service is asked.
    Miss,
    /// An introspection waits for a call that another has begun.
    Joined,
    /// A token was refused off line: it cannot be one.
    Malformed,
    /// A call came back.
    Called {
        /// The method's name, as `Introspect`.
        method: &'static str,
        /// How it ended.
        code: Code,
        /// How long it took.
        took: Duration,
    },
    /// A call is made once more, since it found the service out of reach.
    Retried {
        /// The method's name.
        method: &'static str,
    },
    /// The service is out of reach, and an answer that was good lately was given, marked as stale.
    Bridged,
    /// The stream of changes is up; answers may come from memory.
    WatchUp,
    /// The stream of changes broke; once the last checkpoint is too old, nothing comes from memory.
    WatchDown,
    /// Everything remembered was dropped.
    Dropped,
}

/// Is told what happens, on the thread on which it happens: be quick.
pub trait Observer: Send + Sync + 'static {
    /// Takes note.
    fn observe(&self, event: Event);
}

/// Counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers from memory.
    pub hits: AtomicU64,
    /// Answers that the service had to be asked for.
    pub misses: AtomicU64,
    /// Answers that another's call brought.
    pub joined: AtomicU64,
    /// Tokens refused off line.
    pub malformed: AtomicU64,
    /// Calls, each try by itself.
    pub calls: AtomicU64,
    /// Tries after the first.
    pub retries: AtomicU64,
    /// Stale answers.
    pub bridged: AtomicU64,
    /// How often the stream of changes came up.
    pub watch_ups: AtomicU64,
    /// How often it broke.
    pub watch_downs: AtomicU64,
    /// How often everything was dropped.
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
