//! Which reads of the store are under way, so that those who miss the same share one. No I/O and no async: what a read is
//! waited for by is up to the driver.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What [`Board::join_or_begin`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boarded {
    /// There was a read to join.
    Joined,
    /// There was none; a new one has this number.
    Began(u64),
}

/// The reads that may be joined, by what they read; `T` is what they are waited for by.
#[derive(Debug)]
pub struct Board<K, T> {
    under_way: Arc<Mutex<HashMap<K, (u64, T)>>>,
    numbers: Arc<AtomicU64>,
}

impl<K, T> Default for Board<K, T> {
    fn default() -> Self {
        Self { under_way: Arc::default(), numbers: Arc::default() }
    }
}

impl<K, T> Clone for Board<K, T> {
    fn clone(&self) -> Self {
        Self { under_way: Arc::clone(&self.under_way), numbers: Arc::clone(&self.numbers) }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Board<K, T> {
    /// Joins the read of this key that is under way, if `may_join` allows it, and gives its ticket; puts a new one with this
    /// ticket on the board otherwise. `may_join` is asked once the read was found, so the read was on the board when it
    /// was allowed.
    pub fn join_or_begin(
        &self,
        key: &K,
        may_join: impl FnOnce() -> bool,
        ticket: &mut T,
    ) -> Boarded {
        let mut under_way = self.under_way.lock();
        if let Some((_, other)) = under_way.get(key).filter(|_| may_join()) {
            *ticket = other.clone();
            return Boarded::Joined;
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        under_way.insert(key.clone(), (number, ticket.clone()));
        Boarded::Began(number)
    }

    /// Takes a read off the board, unless another has taken its place.
    pub fn land(&self, key: &K, number: u64) {
        let mut under_way = self.under_way.lock();
        if under_way.get(key).is_some_and(|(other, _)| *other == number) {
            under_way.remove(key);
        }
    }

    /// Lets nobody join what is under way now: it may have been read before a change.
    pub fn detach(&self) {
        self.under_way.lock().clear();
    }
}
