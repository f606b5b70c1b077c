//! Quota of a shared resource. No caller may have more than half of it, so that the load, the bug or the stolen token
//! of one caller cannot cause an outage for the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// A bounded amount of a resource, and how much of it each key has.
#[derive(Debug)]
pub(super) struct SharedQuota<K> {
    total_max: usize,
    per_key_max: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_key: HashMap<K, usize>,
}

/// Permit for a part of a quota. Dropping it gives the part back.
#[derive(Debug)]
pub struct QuotaPermit<K: Copy + Eq + Hash> {
    quota: Arc<SharedQuota<K>>,
    key: K,
    count: usize,
}

/// Why a quota refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaExceeded<K> {
    /// The key has reached its own maximum.
    Own,
    /// The total is used up. Holds the key with the largest part, if any.
    Total(Option<K>),
}

impl<K: Copy + Eq + Hash> SharedQuota<K> {
    /// A quota of `total_max`, of which each key may have half, rounded up.
    pub(super) fn halved(total_max: usize) -> Arc<Self> {
        Self::new(total_max, total_max.div_ceil(2))
    }

    /// A quota without a total, of which each key may have `per_key_max`.
    pub(super) fn for_each(per_key_max: usize) -> Arc<Self> {
        Self::new(usize::MAX, per_key_max)
    }

    fn new(total_max: usize, per_key_max: usize) -> Arc<Self> {
        let taken = Mutex::new(Taken { all: 0, by_key: HashMap::new() });
        Arc::new(Self { total_max, per_key_max, taken })
    }

    /// Maximum for one key.
    pub(super) const fn per_key_max(&self) -> usize {
        self.per_key_max
    }

    /// Whether nothing is taken.
    pub(super) fn is_idle(&self) -> bool {
        self.taken.lock().all == 0
    }

    /// Takes `count` for `key`.
    ///
    /// # Errors
    /// If fewer are left.
    pub(super) fn take(
        self: &Arc<Self>,
        key: K,
        count: usize,
    ) -> Result<QuotaPermit<K>, QuotaExceeded<K>> {
        self.add(key, count)?;
        Ok(QuotaPermit { quota: Arc::clone(self), key, count })
    }

    fn add(&self, key: K, count: usize) -> Result<(), QuotaExceeded<K>> {
        let mut taken = self.taken.lock();
        let fits = |had: usize, max| had.checked_add(count).filter(|sum| *sum <= max);
        let Some(one) = fits(taken.by_key.get(&key).copied().unwrap_or(0), self.per_key_max) else {
            return Err(QuotaExceeded::Own);
        };
        let Some(all) = fits(taken.all, self.total_max) else {
            let most = taken.by_key.iter().max_by_key(|(_, count)| **count);
            return Err(QuotaExceeded::Total(most.map(|(key, _)| *key)));
        };
        taken.all = all;
        taken.by_key.insert(key, one);
        Ok(())
    }
}

impl<K: Copy + Eq + Hash> QuotaPermit<K> {
    /// Takes `count` more.
    ///
    /// # Errors
    /// If fewer are left. The permit then stays as it was.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), QuotaExceeded<K>> {
        self.quota.add(self.key, count)?;
        self.count += count;
        Ok(())
    }
}

impl<K: Copy + Eq + Hash> Drop for QuotaPermit<K> {
    fn drop(&mut self) {
        let mut taken = self.quota.taken.lock();
        taken.all -= self.count;
        if let Some(one) = taken.by_key.get_mut(&self.key) {
            *one -= self.count;
            // Keys without a permit are dropped, so that the map stays small.
            if *one == 0 {
                taken.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{QuotaExceeded, SharedQuota};

    #[test]
    fn a_key_gets_at_most_half_and_all_keys_at_most_the_total() {
        let quota = SharedQuota::halved(10);
        let mut first = quota.take(1, 4).expect("the quota suffices");
        assert_eq!(quota.take(1, 2).expect_err("more than half"), QuotaExceeded::Own);
        first.grow(1).expect("half");
        assert_eq!(first.grow(1), Err(QuotaExceeded::Own));
        let second = quota.take(2, 3).expect("the quota suffices");
        assert_eq!(quota.take(3, 3).expect_err("more than all"), QuotaExceeded::Total(Some(1)));
        drop(first);
        let third = quota.take(3, 3).expect("the part was given back");
        assert!(!quota.is_idle());
        drop((second, third));
        assert!(quota.is_idle() && quota.taken.lock().by_key.is_empty());
    }

    #[test]
    fn half_of_one_is_one_and_the_largest_numbers_do_not_overflow() {
        let one = SharedQuota::halved(1);
        let held = one.take('a', 1).expect("the quota suffices");
        assert_eq!(one.take('b', 1).expect_err("it is taken"), QuotaExceeded::Total(Some('a')));
        drop(held);
        let endless = SharedQuota::halved(usize::MAX);
        let _half = endless.take('a', usize::MAX / 2).expect("the quota suffices");
        assert_eq!(endless.take('a', usize::MAX).expect_err("no number"), QuotaExceeded::Own);
        let each = SharedQuota::for_each(2);
        let _two = (each.take('a', 2).expect("its own"), each.take('b', 2).expect("its own"));
        assert_eq!(each.take('a', 1).expect_err("no more"), QuotaExceeded::Own);
    }
}
