//! Whether the store takes writes, as those who wrote found. Nothing is written to find that out but where there is a doubt: at
//! the start, and after a write that failed for a reason that the next one would meet too.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Result, StoreError};

/// What is known of it.
#[derive(Debug)]
pub(super) struct WriteHealth {
    /// How often there was a reason to doubt it. The first is that nobody has written yet.
    doubted: AtomicU64,
    /// How many of these are gone.
    proven: AtomicU64,
}

impl WriteHealth {
    /// Nobody has written yet.
    pub(super) const fn new() -> Self {
        Self { doubted: AtomicU64::new(1), proven: AtomicU64::new(0) }
    }

    /// Takes in how writing went.
    pub(super) fn note<T>(&self, outcome: &Result<T>) {
        if let Err(StoreError::DiskFull(_) | StoreError::Denied(_)) = outcome {
            self.doubt();
        }
    }

    /// There is a reason to doubt it.
    pub(super) fn doubt(&self) {
        self.doubted.fetch_add(1, Ordering::AcqRel);
    }

    /// The doubts that a proof is needed for, which is to begin after this call; nothing where there is none.
    pub(super) fn doubts(&self) -> Option<u64> {
        let doubted = self.doubted.load(Ordering::Acquire);
        (doubted != self.proven.load(Ordering::Acquire)).then_some(doubted)
    }

    /// A write went through that was begun when there were these doubts: later ones stay.
    pub(super) fn prove(&self, doubts: u64) {
        self.proven.store(doubts, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_that_arose_while_another_was_put_to_the_test_stays() {
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
