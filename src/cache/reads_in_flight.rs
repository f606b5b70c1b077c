//! The reads of the store that are in flight, so that concurrent misses of one key share a read. No I/O and no async:
//! the driver chooses how to wait for a read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The outcome of [`ReadsInFlight::join_or_start`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The request joins a read that is in flight.
    Joined,
    /// A new read with this number.
    Started(u64),
}

/// The reads that may be joined, by key. `T` is the ticket by which a request waits for a read.
#[derive(Debug)]
pub struct ReadsInFlight<K, T> {
    reads: Arc<Mutex<HashMap<K, (u64, T)>>>,
    next_number: Arc<AtomicU64>,
}

impl<K, T> Default for ReadsInFlight<K, T> {
    fn default() -> Self {
        Self { reads: Arc::default(), next_number: Arc::default() }
    }
}

impl<K, T> Clone for ReadsInFlight<K, T> {
    fn clone(&self) -> Self {
        Self { reads: Arc::clone(&self.reads), next_number: Arc::clone(&self.next_number) }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> ReadsInFlight<K, T> {
    /// Joins the read of this key that is in flight, if there is one and `may_join` allows it, and replaces `ticket` by
    /// that of the read. Otherwise records a new read under `ticket`. `may_join` is called after the read was found, so
    /// the read was in flight when it was allowed.
    pub fn join_or_start(
        &self,
        key: &K,
        may_join: impl FnOnce() -> bool,
        ticket: &mut T,
    ) -> JoinOutcome {
        let mut reads = self.reads.lock();
        if let Some((_, other)) = reads.get(key).filter(|_| may_join()) {
            *ticket = other.clone();
            return JoinOutcome::Joined;
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        reads.insert(key.clone(), (number, ticket.clone()));
        JoinOutcome::Started(number)
    }

    /// Removes a read, unless another read has replaced it.
    pub fn remove(&self, key: &K, number: u64) {
        let mut reads = self.reads.lock();
        if reads.get(key).is_some_and(|(other, _)| *other == number) {
            reads.remove(key);
        }
    }

    /// Keeps later requests from joining the reads in flight, which may predate a change.
    pub fn detach_all(&self) {
        self.reads.lock().clear();
    }
}
