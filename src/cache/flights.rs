//! One read of the store for all who miss the same at once. The read runs in a task of its own, so that whoever goes
//! away does not take it along; and nobody joins one that was begun before a change (CATALOGUE E5).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::store::{Result, StoreError};

/// Reads under way.
pub(super) struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
    numbers: AtomicU64,
    tasks: TaskTracker,
}

struct Flight<V> {
    number: u64,
    landed: watch::Receiver<Option<Result<V>>>,
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// None yet; their tasks are tracked by `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { under_way: Arc::default(), numbers: AtomicU64::new(0), tasks }
    }

    /// Joins the read of this key that is under way, if it may still be joined, or begins one.
    pub(super) async fn join<F>(
        &self,
        key: K,
        may_join: impl FnOnce() -> bool,
        begin: impl FnOnce() -> F,
    ) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut landed = self.board(key, may_join, begin);
        let outcome = landed.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
        // Without a value the task has panicked.
        outcome.unwrap_or_else(|| Err(StoreError::Unavailable("a read was broken off".to_owned())))
    }

    fn board<F>(
        &self,
        key: K,
        may_join: impl FnOnce() -> bool,
        begin: impl FnOnce() -> F,
    ) -> watch::Receiver<Option<Result<V>>>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        // Found before it is asked: it was on the board when it was allowed.
        if let Some(flight) = under_way.get(&key).filter(|_| may_join()) {
            return flight.landed.clone();
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (land, landed) = watch::channel(None);
        under_way.insert(key.clone(), Flight { number, landed: landed.clone() });
        let all = Arc::clone(&self.under_way);
        let read = begin();
        self.tasks.spawn(async move {
            // Even if the read panics, the next one may begin.
            let _gone = Gone { all, key, number };
            let outcome = read.await;
            land.send_replace(Some(outcome));
        });
        landed
    }

    /// Lets nobody join what is under way now: it may have been read before a change.
    pub(super) fn detach(&self) {
        self.under_way.lock().clear();
    }
}

/// Takes a flight off the board when its task ends.
struct Gone<K: Hash + Eq, V> {
    all: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
    number: u64,
}

impl<K: Hash + Eq, V> Drop for Gone<K, V> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if all.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            all.remove(&self.key);
        }
    }
}
