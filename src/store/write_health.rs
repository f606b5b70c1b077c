//! Tracks whether the store accepts writes, from the outcome of past writes. A test write is needed only if there is a
//! doubt: at the start, and after a write failed for a reason that the next write would meet too.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Result, StoreError};

/// Doubts and proofs that the store accepts writes.
#[derive(Debug)]
pub(super) struct WriteHealth {
    /// Number of doubts so far. The first one is the start, before any write.
    doubted: AtomicU64,
    /// Number of doubts that a successful test write has settled.
    proven: AtomicU64,
}

impl WriteHealth {
    /// Starts with one doubt, because nothing has been written yet.
    pub(super) const fn new() -> Self {
        Self { doubted: AtomicU64::new(1), proven: AtomicU64::new(0) }
    }

    /// Records the outcome of a write.
    pub(super) fn note<T>(&self, outcome: &Result<T>) {
        if let Err(StoreError::DiskFull(_) | StoreError::Denied(_)) = outcome {
            self.doubt();
        }
    }

    /// Records a doubt.
    pub(super) fn doubt(&self) {
        self.doubted.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the current number of doubts, to be passed to [`Self::prove`] after a test write that begins later.
    /// `None` if there is no doubt.
    pub(super) fn doubts(&self) -> Option<u64> {
        let doubted = self.doubted.load(Ordering::Acquire);
        (doubted != self.proven.load(Ordering::Acquire)).then_some(doubted)
    }

    /// Records that a write succeeded that began when there were `doubts` doubts. Later doubts remain.
    pub(super) fn prove(&self, doubts: u64) {
        self.proven.store(doubts, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_raised_during_a_test_write_remains() {
        let writes = WriteHealth::new();
        let first = writes.doubts().expect("nobody has written yet");
        writes.note::<()>(&Err(StoreError::DiskFull("no room".to_owned())));
        writes.prove(first);
        let second = writes.doubts().expect("it failed meanwhile");
        writes.note(&Ok(()));
        writes.note::<()>(&Err(StoreError::Busy("somebody else's turn".to_owned())));
        writes.prove(second);
        assert_eq!(writes.doubts(), None);
    }
}
