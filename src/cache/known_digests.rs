//! Which digests may be somebody's: a Bloom filter of all of them, so that a flood of made-up tokens can be told from
//! customers whose credentials are not in memory. No clock and no I/O: `server/known_digests.rs` fills it.
//!
//! It decides who is limited, never who is known: what is in it is looked up whatever its caller's rate, and what is not is
//! looked up within the bound. So a digest that is missing costs a refusal under a flood, and one too many costs a read.
//! Nothing here can turn an answer around, and nothing is ever taken out: deleted digests stay until the next filling.
//!
//! A filling reads all digests of the store, page by page. It misses none: what was committed before a page was read is in
//! the page, and what is committed later comes with the change log, which is noted here while the filling is under way. What
//! the log does not name (an import, another life of the store) is made up for by another filling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::model::Digest;

/// With seven probes about one digest of a hundred that are nobody's looks known.
const BITS_PER_DIGEST: u64 = 10;
const PROBES: usize = 7;
/// What the first filling has room for: 1.25 MB.
const CAPACITY_MIN: u64 = 1_000_000;

/// The digests that may be somebody's.
pub struct KnownDigests {
    filters: RwLock<Filters>,
    /// Counts the times at which digests may have come that nobody named.
    lost: AtomicU64,
    /// How many digests the next filling is to have room for.
    capacity: AtomicU64,
    news: Notify,
}

#[derive(Default)]
struct Filters {
    /// Of the last filling that came to its end.
    filled: Option<Arc<Bloom>>,
    /// Of the one under way.
    filling: Option<Arc<Bloom>>,
}

/// A filling under way: to be given all digests of the store, read after it was begun.
pub struct Filling {
    bloom: Arc<Bloom>,
    lost: u64,
    digests: u64,
}

impl Filling {
    /// Takes in digests of the store.
    pub fn add(&mut self, digests: &[Digest]) {
        self.digests += digests.len() as u64;
        for digest in digests {
            self.bloom.insert(digest);
        }
    }

    /// How many it was given.
    pub const fn digests(&self) -> u64 {
        self.digests
    }
}

impl Default for KnownDigests {
    /// Knows of none, and has never been filled.
    fn default() -> Self {
        Self {
            filters: RwLock::default(),
            lost: AtomicU64::new(0),
            capacity: AtomicU64::new(CAPACITY_MIN),
            news: Notify::new(),
        }
    }
}

impl KnownDigests {
    /// Whether the digest may be somebody's; `false`: it is nobody's, or not known here yet.
    pub fn may_have(&self, digest: &Digest) -> bool {
        let filters = self.filters.read();
        [&filters.filled, &filters.filling].into_iter().flatten().any(|bloom| bloom.has(digest))
    }

    /// Whether all digests are in it, but for those that were just lost.
    pub fn is_filled(&self) -> bool {
        self.filters.read().filled.is_some()
    }

    /// The change log names this digest, or this process is about to make it somebody's.
    pub fn note(&self, digest: &Digest) {
        let filters = self.filters.read();
        for bloom in [&filters.filled, &filters.filling].into_iter().flatten() {
            if bloom.insert(digest) == Some(bloom.capacity + 1) {
                self.grow(bloom.capacity);
                self.lose();
            }
        }
    }

    /// Digests may have come that the change log does not name.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::AcqRel);
        self.news.notify_one();
    }

    /// Waits until there is something that a filling which ended with this number has not seen; 0: any.
    pub async fn wanted(&self, filled: u64) {
        while self.lost.load(Ordering::Acquire) == filled {
            self.news.notified().await;
        }
    }

    /// Begins a filling. From here on what the log names goes into it too.
    pub fn begin(&self) -> Filling {
        let lost = self.lost.load(Ordering::Acquire);
        let bloom = Arc::new(Bloom::new(self.capacity.load(Ordering::Acquire)));
        self.filters.write().filling = Some(Arc::clone(&bloom));
        Filling { bloom, lost, digests: 0 }
    }

    /// Ends a filling that was given all digests of the store; its number for [`Self::wanted`], or nothing if there were more
    /// than it has room for: then the next one has.
    pub fn end(&self, filling: Filling) -> Option<u64> {
        let digests = filling.digests.max(filling.bloom.len());
        let fits = digests <= filling.bloom.capacity;
        if !fits {
            self.grow(digests);
        }
        let mut filters = self.filters.write();
        filters.filled = Some(filling.bloom);
        filters.filling = None;
        fits.then_some(filling.lost)
    }

    /// Room for these, and half as many more.
    fn grow(&self, digests: u64) {
        self.capacity.fetch_max(digests + digests / 2, Ordering::AcqRel);
    }
}

/// A Bloom filter. A digest is a hash already, so its own bytes say where it goes.
struct Bloom {
    words: Box<[AtomicU64]>,
    capacity: u64,
    /// Those that it has changed by.
    len: AtomicU64,
}

impl Bloom {
    fn new(capacity: u64) -> Self {
        let words = (capacity * BITS_PER_DIGEST).div_ceil(64);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            capacity,
            len: AtomicU64::new(0),
        }
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn has(&self, digest: &Digest) -> bool {
        self.places(digest).all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// How many it has changed by, if by this. One that is twice as full as it should be takes no more: it would know
    /// everybody.
    fn insert(&self, digest: &Digest) -> Option<u64> {
        if self.len() >= 2 * self.capacity {
            return None;
        }
        let mut changed = false;
        for (word, bit) in self.places(digest) {
            changed |= word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        }
        changed.then(|| self.len.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Seven windows of eight bytes, each of which begins with four of its own, spread over the words.
    fn places<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = (&'a AtomicU64, u64)> {
        let windows = digest.as_bytes().windows(8).step_by(4).take(PROBES);
        windows.filter_map(|window| {
            let hash = u64::from_be_bytes(window.try_into().ok()?);
            let bits = self.words.len() as u128 * 64;
            let place = (u128::from(hash) * bits) >> 64;
            let word = self.words.get(usize::try_from(place / 64).ok()?)?;
            Some((word, 1 << (place % 64)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bloom, KnownDigests};
    use crate::model::Digest;

    fn digest(number: u64) -> Digest {
        Digest::of(&number.to_string())
    }

    #[test]
    fn what_was_put_in_is_there_and_little_else() {
        let bloom = Bloom::new(20_000);
        assert!(
            (0..20_000).filter(|number| bloom.insert(&digest(*number)).is_some()).count() > 19_500
        );
        assert!((0..20_000).all(|number| bloom.has(&digest(number))));
        let known = (20_000..40_000).filter(|number| bloom.has(&digest(*number))).count();
        assert!((20..500).contains(&known), "{known} of 20,000 others look known");
    }

    #[test]
    fn one_that_is_far_too_small_does_not_know_everybody() {
        let bloom = Bloom::new(1_000);
        for number in 0..100_000 {
            bloom.insert(&digest(number));
        }
        let known = (200_000..210_000).filter(|number| bloom.has(&digest(*number))).count();
        assert!(known < 3_000, "{known} of 10,000 others look known");
    }

    #[test]
    fn what_is_named_during_a_filling_is_in_it() {
        let known = KnownDigests::default();
        known.note(&digest(1));
        assert!(!known.may_have(&digest(1)) && !known.is_filled());
        let mut filling = known.begin();
        known.note(&digest(2));
        assert!(known.may_have(&digest(2)), "be it that the filling is under way");
        filling.add(&[digest(3)]);
        assert_eq!(filling.digests(), 1);
        assert!(known.end(filling).is_some() && known.is_filled());
        known.note(&digest(4));
        assert!([2, 3, 4].iter().all(|number| known.may_have(&digest(*number))));
        assert!(!known.may_have(&digest(5)));
        // The next filling takes the place of this one, and what is no more is forgotten.
        let filling = known.begin();
        assert!(known.may_have(&digest(3)), "until there is another");
        known.end(filling);
        assert!(!known.may_have(&digest(3)));
    }

    #[tokio::test]
    async fn what_is_lost_is_made_up_for_by_another_filling() {
        let known = KnownDigests::default();
        known.lose();
        known.wanted(0).await;
        let filling = known.begin();
        known.lose();
        let filled = known.end(filling).expect("there is room");
        // It came after the filling had begun.
        known.wanted(filled).await;
        let filled = known.end(known.begin()).expect("there is room");
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, known.wanted(filled)).await.is_err()
        );
    }
}
