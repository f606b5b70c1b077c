//! How much may be held of headers that are not whole, over all connections of both ports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a connection has without being counted: as much as its buffer takes anyway.
pub(in crate::server) const FREE: usize = 8 * 1024;
/// All that is counted; callers, and strangers, have as much each, so that nobody can use up the callers'.
pub(in crate::server) const BYTES_MAX: usize = 32 * 1024 * 1024;
/// It is counted in these.
const UNIT: usize = 4 * 1024;

/// Bytes that are held of headers which are not whole.
#[derive(Debug, Default)]
pub(in crate::server) struct HeaderRoom {
    of_strangers: AtomicUsize,
    of_callers: AtomicUsize,
}

/// What one connection has of it, until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Reserved {
    room: Arc<HeaderRoom>,
    bytes: usize,
    of_a_caller: bool,
}

impl HeaderRoom {
    /// Nothing yet.
    pub(in crate::server) fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved { room: Arc::clone(self), bytes: 0, of_a_caller: false }
    }
}

impl Reserved {
    /// Room for so many bytes in all; no if there is none.
    pub(in crate::server) fn resize(
        &mut self,
        bytes: usize,
        is_known: impl FnOnce() -> bool,
    ) -> bool {
        let needed = bytes.saturating_sub(FREE).next_multiple_of(UNIT);
        if needed == self.bytes {
            return true;
        }
        if self.bytes == 0 {
            self.of_a_caller = is_known();
        }
        let account =
            if self.of_a_caller { &self.room.of_callers } else { &self.room.of_strangers };
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

impl Drop for Reserved {
    fn drop(&mut self) {
        self.resize(0, || false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::{BYTES_MAX, FREE, HeaderRoom, UNIT};

    #[test]
    fn what_is_beyond_a_connections_own_is_bounded_and_given_back() {
        let room = Arc::<HeaderRoom>::default();
        let (mut first, mut second, mut caller) = (room.reserve(), room.reserve(), room.reserve());
        assert!(first.resize(FREE + BYTES_MAX, || false));
        assert!(second.resize(FREE, || false), "its own it has in any case");
        assert!(!second.resize(FREE + 1, || false));
        assert!(caller.resize(FREE + BYTES_MAX, || true), "strangers leave callers their room");
        assert!(!caller.resize(FREE + BYTES_MAX + 1, || true));
        assert!(first.resize(FREE + BYTES_MAX - UNIT, || false));
        assert!(second.resize(FREE + 1, || false));
        // Whose it was when it was taken, it stays.
        assert!(first.resize(FREE + BYTES_MAX - 2 * UNIT, || true));
        drop(first);
        assert_eq!(room.of_strangers.load(Ordering::Relaxed), UNIT);
        drop((second, caller));
        assert_eq!(room.of_strangers.load(Ordering::Relaxed), 0);
        assert_eq!(room.of_callers.load(Ordering::Relaxed), 0);
    }
}
