//! A concurrent map of bounded size. What is not used goes first: the CLOCK algorithm, a second chance for whatever was
//! touched since the hand last came by.
//!
//! Insertion asks a question under the lock of the shard (see [`ClockMap::insert_if`]): the coherence of the mirror
//! rests on that, and no cache library offers it (CATALOGUE 0.6).

use std::borrow::Borrow;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

const SHARDS: usize = 64;

/// The map. Values are cheap to clone: an `Arc`, or a word.
pub struct ClockMap<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    hasher: RandomState,
}

struct Shard<K, V> {
    /// Where each key's slot is.
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    hand: usize,
    capacity: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    touched: AtomicBool,
}

impl<K: Hash + Eq, V: Clone> ClockMap<K, V> {
    /// Holds at most about this many, and at least one a shard.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS).clamp(1, u32::MAX as usize);
        let shard =
            || RwLock::new(Shard { index: HashTable::new(), slots: Vec::new(), hand: 0, capacity });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: RandomState::default() }
    }

    /// What is kept by this key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).read();
        let slot = &shard.slots[shard.find(hash, key)?];
        // A store only where it changes something, so that readers do not take the line from each other.
        if !slot.touched.load(Ordering::Relaxed) {
            slot.touched.store(true, Ordering::Relaxed);
        }
        Some(slot.value.clone())
    }

    /// Keeps the value if the question, asked under the lock that [`Self::remove`] takes too, is answered yes.
    pub fn insert_if(&self, key: K, value: V, question: impl FnOnce() -> bool) -> bool {
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.shard(hash).write();
        if !question() {
            return false;
        }
        if let Some(at) = shard.find(hash, &key) {
            shard.slots[at].value = value;
            return true;
        }
        while shard.slots.len() >= shard.capacity {
            shard.evict_one(&self.hasher);
        }
        shard.push(hash, Slot { key, value, touched: AtomicBool::new(false) }, &self.hasher);
        true
    }

    /// Drops what is kept by this key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).write();
        if let Some(at) = shard.find(hash, key) {
            shard.remove_at(at, &self.hasher);
        }
    }

    /// Drops everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.index.clear();
            shard.slots.clear();
            shard.hand = 0;
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().slots.len()).sum()
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard<K, V>> {
        // The table uses the low bits and the top seven; these lie between.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl<K: Hash + Eq, V> Shard<K, V> {
    fn find<Q: Hash + Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        let same = |at: &u32| self.slots[*at as usize].key.borrow() == key;
        self.index.find(hash, same).map(|at| *at as usize)
    }

    fn push(&mut self, hash: u64, slot: Slot<K, V>, hasher: &RandomState) {
        // The capacity of a shard is below 2^32.
        let at = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(slot);
        let slots = &self.slots;
        self.index.insert_unique(hash, at, |at| hasher.hash_one(&slots[*at as usize].key));
    }

    /// Takes the last slot into the place of this one.
    fn remove_at(&mut self, at: usize, hasher: &RandomState) {
        self.unlink(at, hasher);
        let last = self.slots.len() - 1;
        if at != last {
            let hash = hasher.hash_one(&self.slots[last].key);
            if let Some(place) = self.index.find_mut(hash, |place| *place as usize == last) {
                // It was the place of a slot that is smaller than the last, which fits.
                *place = u32::try_from(at).unwrap_or(u32::MAX);
            }
        }
        self.slots.swap_remove(at);
    }

    fn unlink(&mut self, at: usize, hasher: &RandomState) {
        let hash = hasher.hash_one(&self.slots[at].key);
        if let Ok(entry) = self.index.find_entry(hash, |place| *place as usize == at) {
            entry.remove();
        }
    }

    fn evict_one(&mut self, hasher: &RandomState) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            if self.slots[self.hand].touched.swap(false, Ordering::Relaxed) {
                self.hand += 1;
            } else {
                return self.remove_at(self.hand, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed() {
        let map = ClockMap::new(10_000);
        for key in 0..5_000_u32 {
            assert!(map.insert_if(key, key * 2, || true));
        }
        for key in (0..5_000).step_by(3) {
            map.remove(&key);
        }
        for key in 0..5_000 {
            assert_eq!(map.get(&key), (key % 3 != 0).then_some(key * 2));
        }
    }

    #[test]
    fn what_is_answered_no_is_not_kept_and_leaves_what_was_there() {
        let map = ClockMap::new(10);
        assert!(map.insert_if(1, 'a', || true));
        assert!(!map.insert_if(1, 'b', || false));
        assert_eq!(map.get(&1), Some('a'));
    }

    #[test]
    fn it_never_grows_past_its_capacity_and_spares_what_is_used() {
        let map = ClockMap::new(64 * 100);
        for key in 0..100_u32 {
            map.insert_if(key, (), || true);
        }
        for key in 100..100_000 {
            map.insert_if(key, (), || true);
            if key % 50 == 0 {
                for used in 0..100 {
                    map.get(&used);
                }
            }
        }
        assert!(map.len() <= 64 * 100);
        let spared = (0..100).filter(|key| map.get(key).is_some()).count();
        assert_eq!(spared, 100, "used all the time, and evicted");
    }

    #[test]
    fn cleared_it_is_empty() {
        let map = ClockMap::new(100);
        map.insert_if("a", 1, || true);
        map.clear();
        assert_eq!((map.get("a"), map.len()), (None, 0));
    }
}
