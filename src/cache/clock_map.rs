//! A concurrent map of bounded size. It evicts by the CLOCK algorithm: an entry that was read since the hand last
//! passed gets a second chance.
//!
//! An insertion evaluates a condition under the lock of the shard (see [`ClockMap::insert_if`]). The coherence of the
//! mirror depends on that, and the cache libraries do not offer it.

use std::borrow::Borrow;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

const SHARDS: usize = 64;

/// A value that contains its key.
pub trait Keyed {
    /// Type of the key.
    type Key: Hash + Eq + ?Sized;

    /// Returns the key.
    fn key(&self) -> &Self::Key;
}

impl<K: Hash + Eq, V> Keyed for (K, V) {
    type Key = K;

    fn key(&self) -> &K {
        &self.0
    }
}

/// A concurrent map of bounded size.
pub struct ClockMap<T> {
    shards: Box<[RwLock<Shard<T>>]>,
    hasher: RandomState,
}

struct Shard<T> {
    slots: HashTable<Slot<T>>,
    /// The bucket that the hand visits next.
    hand: usize,
    capacity: usize,
}

struct Slot<T> {
    value: T,
    touched: AtomicBool,
}

impl<T: Keyed> ClockMap<T> {
    /// Creates a map of about this capacity. Each shard has room for at least one entry.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS).max(1);
        let shard = || RwLock::new(Shard { slots: HashTable::new(), hand: 0, capacity });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: RandomState::default() }
    }

    /// Calls `read` with the entry of this key, under the lock of the shard.
    pub fn get<Q: Hash + Eq + ?Sized, R>(&self, key: &Q, read: impl FnOnce(&T) -> R) -> Option<R>
    where
        T::Key: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).read();
        let slot = shard.slots.find(hash, has_key(key))?;
        // Write only on a change, so that readers do not contend for the cache line.
        if !slot.touched.load(Ordering::Relaxed) {
            slot.touched.store(true, Ordering::Relaxed);
        }
        Some(read(&slot.value))
    }

    /// Inserts the value if the condition holds. The condition is evaluated under the lock that [`Self::remove`] takes
    /// too.
    pub fn insert_if(&self, value: T, condition: impl FnOnce() -> bool) -> bool {
        let hash = self.hasher.hash_one(value.key());
        let mut shard = self.shard(hash).write();
        if !condition() {
            return false;
        }
        if let Some(slot) = shard.slots.find_mut(hash, has_key(value.key())) {
            slot.value = value;
            return true;
        }
        while shard.slots.len() >= shard.capacity {
            shard.evict_one();
        }
        let slot = Slot { value, touched: AtomicBool::new(false) };
        shard.slots.insert_unique(hash, slot, |slot| self.hasher.hash_one(slot.value.key()));
        true
    }

    /// Removes the entry of this key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        T::Key: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).write();
        if let Ok(entry) = shard.slots.find_entry(hash, has_key(key)) {
            entry.remove();
        }
    }

    /// Removes all entries.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.slots.clear();
            shard.hand = 0;
        }
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().slots.len()).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard<T>> {
        // The table uses the low bits and the top seven bits. These lie between.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

fn has_key<T: Keyed, Q: Eq + ?Sized>(key: &Q) -> impl Fn(&Slot<T>) -> bool
where
    T::Key: Borrow<Q>,
{
    move |slot| slot.value.key().borrow() == key
}

impl<T> Shard<T> {
    /// Evicts one entry. The shard must not be empty, or the loop would not end.
    fn evict_one(&mut self) {
        loop {
            let at = self.hand;
            self.hand = (at + 1) % self.slots.num_buckets();
            let Some(slot) = self.slots.get_bucket(at) else { continue };
            if !slot.touched.swap(false, Ordering::Relaxed) {
                if let Ok(entry) = self.slots.get_bucket_entry(at) {
                    entry.remove();
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_until_it_is_removed() {
        let map = ClockMap::new(10_000);
        for key in 0..5_000_u32 {
            assert!(map.insert_if((key, key * 2), || true));
        }
        for key in (0..5_000).step_by(3) {
            map.remove(&key);
        }
        for key in 0..5_000 {
            assert_eq!(map.get(&key, |value| value.1), (key % 3 != 0).then_some(key * 2));
        }
    }

    #[test]
    fn a_failed_condition_leaves_the_old_value() {
        let map = ClockMap::new(10);
        assert!(map.insert_if((1, 'a'), || true));
        assert!(!map.insert_if((1, 'b'), || false));
        assert_eq!(map.get(&1, |value| value.1), Some('a'));
    }

    #[test]
    fn the_map_stays_within_its_capacity_and_keeps_entries_in_use() {
        let map = ClockMap::new(64 * 100);
        for key in 0..100_u32 {
            map.insert_if((key, ()), || true);
        }
        for key in 100..100_000 {
            map.insert_if((key, ()), || true);
            if key % 50 == 0 {
                for used in 0..100 {
                    map.get(&used, |_| ());
                }
            }
        }
        assert!(map.len() <= 64 * 100);
        let spared = (0..100).filter(|key| map.get(key, |_| ()).is_some()).count();
        assert_eq!(spared, 100, "used all the time, and evicted");
    }

    #[test]
    fn clear_empties_the_map() {
        let map = ClockMap::new(100);
        map.insert_if(("a", 1), || true);
        map.clear();
        assert_eq!((map.get("a", |value| value.1), map.len()), (None, 0));
    }
}
