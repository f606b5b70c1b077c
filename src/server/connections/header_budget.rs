//! Memory budget for incomplete headers, over all connections of both ports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes per connection that do not count, because a read buffer has that size anyway.
pub(in crate::server) const UNCOUNTED_BYTES: usize = 8 * 1024;
/// Size of the budget, in bytes. Callers and unauthenticated peers have one each, so that unauthenticated peers cannot
/// exhaust the callers' budget.
pub(in crate::server) const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Granularity of reservations, in bytes.
const UNIT: usize = 4 * 1024;

/// Bytes of incomplete headers that are held in memory.
#[derive(Debug, Default)]
pub(in crate::server) struct HeaderBudget {
    unauthenticated: AtomicUsize,
    callers: AtomicUsize,
}

/// Reservation of one connection. Dropping it releases the bytes.
#[derive(Debug)]
pub(in crate::server) struct HeaderReservation {
    budget: Arc<HeaderBudget>,
    bytes: usize,
    is_caller: bool,
}

impl HeaderBudget {
    /// Creates an empty reservation.
    pub(in crate::server) fn reserve(self: &Arc<Self>) -> HeaderReservation {
        HeaderReservation { budget: Arc::clone(self), bytes: 0, is_caller: false }
    }
}

impl HeaderReservation {
    /// Changes the reservation to `bytes` in total. Returns `false`, and changes nothing, if the budget is exhausted.
    pub(in crate::server) fn resize(
        &mut self,
        bytes: usize,
        is_authenticated: impl FnOnce() -> bool,
    ) -> bool {
        let needed = bytes.saturating_sub(UNCOUNTED_BYTES).next_multiple_of(UNIT);
        if needed == self.bytes {
            return true;
        }
        if self.bytes == 0 {
            self.is_caller = is_authenticated();
        }
        let account =
            if self.is_caller { &self.budget.callers } else { &self.budget.unauthenticated };
        if needed < self.bytes {
            account.fetch_sub(self.bytes - needed, Ordering::Relaxed);
        } else {
            let more = needed - self.bytes;
            let added = account.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(more).filter(|sum| *sum <= BYTES_MAX)
            });
            if added.is_err() {
                return false;
            }
        }
        self.bytes = needed;
        true
    }
}

impl Drop for HeaderReservation {
    fn drop(&mut self) {
        self.resize(0, || false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::{BYTES_MAX, HeaderBudget, UNCOUNTED_BYTES, UNIT};

    #[test]
    fn bytes_beyond_the_uncounted_ones_are_bounded_and_released() {
        let budget = Arc::<HeaderBudget>::default();
        let (mut first, mut second, mut caller) =
            (budget.reserve(), budget.reserve(), budget.reserve());
        assert!(first.resize(UNCOUNTED_BYTES + BYTES_MAX, || false));
        assert!(second.resize(UNCOUNTED_BYTES, || false), "uncounted bytes are always available");
        assert!(!second.resize(UNCOUNTED_BYTES + 1, || false));
        assert!(
            caller.resize(UNCOUNTED_BYTES + BYTES_MAX, || true),
            "unauthenticated peers cannot use the budget of callers"
        );
        assert!(!caller.resize(UNCOUNTED_BYTES + BYTES_MAX + 1, || true));
        assert!(first.resize(UNCOUNTED_BYTES + BYTES_MAX - UNIT, || false));
        assert!(second.resize(UNCOUNTED_BYTES + 1, || false));
        // A reservation stays in the budget that it was taken from.
        assert!(first.resize(UNCOUNTED_BYTES + BYTES_MAX - 2 * UNIT, || true));
        drop(first);
        assert_eq!(budget.unauthenticated.load(Ordering::Relaxed), UNIT);
        drop((second, caller));
        assert_eq!(budget.unauthenticated.load(Ordering::Relaxed), 0);
        assert_eq!(budget.callers.load(Ordering::Relaxed), 0);
    }
}
