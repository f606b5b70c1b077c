//! What all callers share, and of which no one may have more than half: nobody's load, or fault, or stolen token, is the
//! others' outage.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// So much of something, and who has how much of it.
#[derive(Debug)]
pub(super) struct Shares<K> {
    all_max: usize,
    one_max: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_whom: HashMap<K, usize>,
}

/// What one has of it, until it is dropped.
#[derive(Debug)]
pub struct Share<K: Copy + Eq + Hash> {
    shares: Arc<Shares<K>>,
    whose: K,
    count: usize,
}

/// Why there is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full<K> {
    /// Who asks has its share.
    One,
    /// All is taken, most of it by this one, if by anybody.
    All(Option<K>),
}

impl<K: Copy + Eq + Hash> Shares<K> {
    /// So much for all, and half of it for one; of one there is no half.
    pub(super) fn halved(all_max: usize) -> Arc<Self> {
        Self::new(all_max, all_max.div_ceil(2))
    }

    /// So much for each, however many there are.
    pub(super) fn for_each(one_max: usize) -> Arc<Self> {
        Self::new(usize::MAX, one_max)
    }

    fn new(all_max: usize, one_max: usize) -> Arc<Self> {
        let taken = Mutex::new(Taken { all: 0, by_whom: HashMap::new() });
        Arc::new(Self { all_max, one_max, taken })
    }

    /// The most that one may have.
    pub(super) const fn one_max(&self) -> usize {
        self.one_max
    }

    /// Whether nobody has any.
    pub(super) fn is_idle(&self) -> bool {
        self.taken.lock().all == 0
    }

    /// So much for this one.
    ///
    /// # Errors
    /// If there is not as much.
    pub(super) fn take(self: &Arc<Self>, whose: K, count: usize) -> Result<Share<K>, Full<K>> {
        self.add(whose, count)?;
        Ok(Share { shares: Arc::clone(self), whose, count })
    }

    fn add(&self, whose: K, count: usize) -> Result<(), Full<K>> {
        let mut taken = self.taken.lock();
        let fits = |had: usize, max| had.checked_add(count).filter(|sum| *sum <= max);
        let Some(one) = fits(taken.by_whom.get(&whose).copied().unwrap_or(0), self.one_max) else {
            return Err(Full::One);
        };
        let Some(all) = fits(taken.all, self.all_max) else {
            let most = taken.by_whom.iter().max_by_key(|(_, count)| **count);
            return Err(Full::All(most.map(|(whose, _)| *whose)));
        };
        taken.all = all;
        taken.by_whom.insert(whose, one);
        Ok(())
    }
}

impl<K: Copy + Eq + Hash> Share<K> {
    /// So much more.
    ///
    /// # Errors
    /// If there is not as much; what one had, one has.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), Full<K>> {
        self.shares.add(self.whose, count)?;
        self.count += count;
        Ok(())
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        taken.all -= self.count;
        if let Some(one) = taken.by_whom.get_mut(&self.whose) {
            *one -= self.count;
            // Who has nothing is not remembered.
            if *one == 0 {
                taken.by_whom.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Shares};

    #[test]
    fn nobody_has_more_than_half_and_all_no_more_than_all() {
        let shares = Shares::halved(10);
        let mut first = shares.take(1, 4).expect("it is there");
        assert_eq!(shares.take(1, 2).expect_err("more than half"), Full::One);
        first.grow(1).expect("half");
        assert_eq!(first.grow(1), Err(Full::One));
        let second = shares.take(2, 3).expect("it is there");
        assert_eq!(shares.take(3, 3).expect_err("more than all"), Full::All(Some(1)));
        drop(first);
        let third = shares.take(3, 3).expect("it has come back");
        assert!(!shares.is_idle());
        drop((second, third));
        assert!(shares.is_idle() && shares.taken.lock().by_whom.is_empty());
    }

    #[test]
    fn of_one_there_is_no_half_and_no_number_is_too_large() {
        let one = Shares::halved(1);
        let held = one.take('a', 1).expect("it is there");
        assert_eq!(one.take('b', 1).expect_err("it is taken"), Full::All(Some('a')));
        drop(held);
        let endless = Shares::halved(usize::MAX);
        let _half = endless.take('a', usize::MAX / 2).expect("it is there");
        assert_eq!(endless.take('a', usize::MAX).expect_err("no number"), Full::One);
        let each = Shares::for_each(2);
        let _two = (each.take('a', 2).expect("its own"), each.take('b', 2).expect("its own"));
        assert_eq!(each.take('a', 1).expect_err("no more"), Full::One);
    }
}
