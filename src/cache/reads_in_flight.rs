//! Which reads of the store are under way, so that those who miss the same share one. No I/O and no async: what a read is
//! waited for by is up to the driver.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What [`ReadsInFlight::join_or_start`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    /// There was a read to join.
    Joined,
    /// There was none; a new one has this number.
    Started(u64),
}

/// The reads that may be joined, by what they read; `T` is what they are waited for by.
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
    /// Joins the read of this key that is under way, if `may_join` allows it, and gives its ticket; puts a new one with this
    /// ticket on the board otherwise. `may_join` is asked once the read was found, so the read was on the board when it
    /// was allowed.
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

    /// Takes a read off the board, unless another has taken its place.
    pub fn remove(&self, key: &K, number: u64) {
        let mut reads = self.reads.lock();
        if reads.get(key).is_some_and(|(other, _)| *other == number) {
            reads.remove(key);
        }
    }

    /// Lets nobody join what is under way now: it may have been read before a change.
    pub fn detach_all(&self) {
        self.reads.lock().clear();
    }
}
