//! Which digests may exist: a Bloom filter of all of them. During a flood of made-up tokens, it distinguishes these
//! from tokens that exist but are not cached. No clock and no I/O; `server/known_digests.rs` fills it.
//!
//! It decides which look-ups are limited, never what they answer. A digest in the filter is always looked up. Any other
//! digest is looked up only within the rate limit. So a missing digest costs a refusal during a flood, and a false
//! positive costs a read. Digests are never removed; deleted ones stay until the next rebuild.
//!
//! A rebuild reads all digests of the store, page by page, and misses none: a digest that was committed before its page
//! was read is in the page, and a later one arrives with the change log, which is inserted here during the rebuild too.
//! Digests that the log does not name (an import, another incarnation of the store) call for another rebuild.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::model::Digest;

/// With seven probes, about one percent of the unknown digests are false positives.
const BITS_PER_DIGEST: u64 = 10;
const PROBES: usize = 7;
/// Capacity of the first filter, which takes 1.25 MB.
const CAPACITY_MIN: u64 = 1_000_000;

/// The digests that may exist.
pub struct KnownDigests {
    filters: RwLock<Filters>,
    /// Number of times that digests may have been added that the change log does not name.
    gaps: AtomicU64,
    /// Capacity of the next filter.
    capacity: AtomicU64,
    gap_added: Notify,
}

#[derive(Default)]
struct Filters {
    /// The filter of the last complete rebuild.
    complete: Option<Arc<Bloom>>,
    /// The filter of the rebuild in progress.
    rebuilding: Option<Arc<Bloom>>,
}

/// A rebuild in progress. Pass it all digests of the store, read after it began.
pub struct FilterRebuild {
    bloom: Arc<Bloom>,
    gaps: u64,
    digests: u64,
}

impl FilterRebuild {
    /// Adds digests of the store.
    pub fn add(&mut self, digests: &[Digest]) {
        self.digests += digests.len() as u64;
        for digest in digests {
            self.bloom.insert(digest);
        }
    }

    /// Number of digests added.
    pub const fn digest_count(&self) -> u64 {
        self.digests
    }
}

impl Default for KnownDigests {
    /// Empty, and never filled.
    fn default() -> Self {
        Self {
            filters: RwLock::default(),
            gaps: AtomicU64::new(0),
            capacity: AtomicU64::new(CAPACITY_MIN),
            gap_added: Notify::new(),
        }
    }
}

impl KnownDigests {
    /// Whether the digest may exist. `false` means that it does not exist, or is not known here yet.
    pub fn may_contain(&self, digest: &Digest) -> bool {
        let filters = self.filters.read();
        [&filters.complete, &filters.rebuilding]
            .into_iter()
            .flatten()
            .any(|bloom| bloom.contains(digest))
    }

    /// Whether a rebuild has completed, so that only the newest digests can be missing.
    #[cfg(test)]
    fn is_complete(&self) -> bool {
        self.filters.read().complete.is_some()
    }

    /// Inserts a digest that the change log names, or that this process is about to create.
    pub fn insert(&self, digest: &Digest) {
        let filters = self.filters.read();
        for bloom in [&filters.complete, &filters.rebuilding].into_iter().flatten() {
            if bloom.insert(digest) == Some(bloom.capacity + 1) {
                self.grow(bloom.capacity);
                self.mark_incomplete();
            }
        }
    }

    /// Reports that digests may have been added which the change log does not name.
    pub fn mark_incomplete(&self) {
        self.gaps.fetch_add(1, Ordering::AcqRel);
        self.gap_added.notify_one();
    }

    /// Waits until `gaps` differs from `rebuilt`, the value that the last rebuild returned. 0 if there was none.
    pub async fn rebuild_needed(&self, rebuilt: u64) {
        while self.gaps.load(Ordering::Acquire) == rebuilt {
            self.gap_added.notified().await;
        }
    }

    /// Begins a rebuild. From now on, digests of the change log are inserted into the new filter too.
    pub fn begin_rebuild(&self) -> FilterRebuild {
        let gaps = self.gaps.load(Ordering::Acquire);
        let bloom = Arc::new(Bloom::new(self.capacity.load(Ordering::Acquire)));
        self.filters.write().rebuilding = Some(Arc::clone(&bloom));
        FilterRebuild { bloom, gaps, digests: 0 }
    }

    /// Ends a rebuild, after all digests of the store were inserted. Returns the value for [`Self::rebuild_needed`], or
    /// `None` if the filter was too small. The next filter is then larger.
    pub fn finish_rebuild(&self, rebuild: FilterRebuild) -> Option<u64> {
        let digests = rebuild.digests.max(rebuild.bloom.len());
        let fits = digests <= rebuild.bloom.capacity;
        if !fits {
            self.grow(digests);
        }
        let mut filters = self.filters.write();
        filters.complete = Some(rebuild.bloom);
        filters.rebuilding = None;
        fits.then_some(rebuild.gaps)
    }

    /// Raises the capacity to one and a half times this many digests.
    fn grow(&self, digests: u64) {
        self.capacity.fetch_max(digests + digests / 2, Ordering::AcqRel);
    }
}

/// A Bloom filter. A digest is already a hash, so its bytes select the bits.
struct Bloom {
    words: Box<[AtomicU64]>,
    capacity: u64,
    /// Number of insertions that changed the filter.
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

    fn contains(&self, digest: &Digest) -> bool {
        self.bits_of(digest).all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Inserts a digest. Returns the new length if that changed the filter. A filter with twice its capacity takes no
    /// more, because it would contain everything.
    fn insert(&self, digest: &Digest) -> Option<u64> {
        if self.len() >= 2 * self.capacity {
            return None;
        }
        let mut changed = false;
        for (word, bit) in self.bits_of(digest) {
            changed |= word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        }
        changed.then(|| self.len.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Hashes seven overlapping windows of eight bytes, each four bytes after the last.
    fn bits_of<'a>(&'a self, digest: &'a Digest) -> impl Iterator<Item = (&'a AtomicU64, u64)> {
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
    fn the_filter_contains_what_was_inserted_and_little_else() {
        let bloom = Bloom::new(20_000);
        assert!(
            (0..20_000).filter(|number| bloom.insert(&digest(*number)).is_some()).count() > 19_500
        );
        assert!((0..20_000).all(|number| bloom.contains(&digest(number))));
        let known = (20_000..40_000).filter(|number| bloom.contains(&digest(*number))).count();
        assert!((20..500).contains(&known), "{known} of 20,000 others look known");
    }

    #[test]
    fn an_overfull_filter_does_not_contain_everything() {
        let bloom = Bloom::new(1_000);
        for number in 0..100_000 {
            bloom.insert(&digest(number));
        }
        let known = (200_000..210_000).filter(|number| bloom.contains(&digest(*number))).count();
        assert!(known < 3_000, "{known} of 10,000 others look known");
    }

    #[test]
    fn digests_inserted_during_a_rebuild_are_kept() {
        let known = KnownDigests::default();
        known.insert(&digest(1));
        assert!(!known.may_contain(&digest(1)) && !known.is_complete());
        let mut rebuild = known.begin_rebuild();
        known.insert(&digest(2));
        assert!(known.may_contain(&digest(2)), "even before the rebuild has ended");
        rebuild.add(&[digest(3)]);
        assert_eq!(rebuild.digest_count(), 1);
        assert!(known.finish_rebuild(rebuild).is_some() && known.is_complete());
        known.insert(&digest(4));
        assert!([2, 3, 4].iter().all(|number| known.may_contain(&digest(*number))));
        assert!(!known.may_contain(&digest(5)));
        // The next rebuild replaces this one, and deleted digests are forgotten.
        let rebuild = known.begin_rebuild();
        assert!(known.may_contain(&digest(3)), "until the next rebuild ends");
        known.finish_rebuild(rebuild);
        assert!(!known.may_contain(&digest(3)));
    }

    #[tokio::test]
    async fn a_gap_calls_for_another_rebuild() {
        let known = KnownDigests::default();
        known.mark_incomplete();
        known.rebuild_needed(0).await;
        let rebuild = known.begin_rebuild();
        known.mark_incomplete();
        let number = known.finish_rebuild(rebuild).expect("there is room");
        // The gap was added after the rebuild had begun.
        known.rebuild_needed(number).await;
        let number = known.finish_rebuild(known.begin_rebuild()).expect("there is room");
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, known.rebuild_needed(number))
                .await
                .is_err()
        );
    }
}
