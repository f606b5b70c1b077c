//! Token buckets (generic cell rate algorithm) for every rate limit of the service.
//!
//! The crate `governor` does not fit: it checks a bucket and takes from it in one step, but a look-up is counted only
//! after its token turned out to be unknown. It does not bound the number of keys either.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Refill rate and capacity of a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Time in which one unit is refilled. Zero means no limit.
    pub(super) interval: Duration,
    /// How far a key may run ahead of the rate. A full bucket holds `burst / interval + 1` units.
    pub(super) burst: Duration,
}

impl Rate {
    fn debt_max(self) -> u64 {
        nanos(2 * self.burst)
    }

    /// Returns the time until the bucket is full again. It is capped at `debt_max`, in case the clock was set back.
    fn debt(self, full_at: u64, now: Duration) -> u64 {
        full_at.saturating_sub(nanos(now)).min(self.debt_max())
    }
}

/// Bucket of one key: the time at which it is full again, in nanoseconds on the clock that the user of the bucket
/// passes in.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Whether a unit is left. Takes nothing.
    pub(super) fn has_room(&self, now: Duration, rate: Rate) -> bool {
        rate.debt(self.0.load(Ordering::Relaxed), now) <= nanos(rate.burst)
    }

    /// Takes a unit. Concurrent users may all check before the first of them takes, so a key can go into debt. The debt
    /// is capped at one more burst, which keeps the wait short.
    pub(super) fn take(&self, now: Duration, rate: Rate) {
        let more = nanos(rate.interval);
        let update = |at| Some(nanos(now) + (rate.debt(at, now) + more).min(rate.debt_max()));
        // Cannot fail: the closure always returns a value.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Whether the bucket is full.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.0.load(Ordering::Relaxed) <= nanos(now)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Rate};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);
    const TEN_AND_ONE_A_SECOND: Rate = Rate { interval: SECOND, burst: Duration::from_secs(9) };

    #[test]
    fn a_full_bucket_has_room_for_a_burst_and_then_for_one_each_interval() {
        let (bucket, rate, now) =
            (Bucket::default(), TEN_AND_ONE_A_SECOND, Duration::from_secs(100));
        let mut took = 0;
        while bucket.has_room(now, rate) {
            bucket.take(now, rate);
            took += 1;
        }
        assert_eq!(took, 10);
        assert!(bucket.has_room(now + SECOND, rate));
        bucket.take(now + SECOND, rate);
        assert!(!bucket.has_room(now + SECOND, rate) && !bucket.is_full(now + SECOND));
        assert!(bucket.is_full(now + 11 * SECOND));
    }

    #[test]
    fn debt_stays_bounded_after_a_flood_and_after_the_clock_is_set_back() {
        let (bucket, rate, now) =
            (Bucket::default(), TEN_AND_ONE_A_SECOND, Duration::from_secs(100));
        for _ in 0..1_000 {
            bucket.take(now, rate);
        }
        assert!(
            !bucket.has_room(now + 8 * SECOND, rate) && bucket.has_room(now + 9 * SECOND, rate)
        );
        assert!(!bucket.has_room(Duration::ZERO, rate));
        bucket.take(Duration::ZERO, rate);
        assert!(
            bucket.has_room(9 * SECOND, rate),
            "the time before the clock was set back is not waited for"
        );
    }
}
