//! Token buckets for every rate limit of the service, by the generic cell rate algorithm.
//!
//! The crate `governor` has them too, but takes from a bucket whenever it looks at one: an unknown token is paid for after
//! its look-up. Nor does it bound the number of keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How fast a bucket refills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// After how long there is room for one more; zero: there is no limit.
    pub(super) interval: Duration,
    /// How far ahead of its rate a key may be: a full bucket holds `burst / interval + 1`.
    pub(super) burst: Duration,
}

impl Rate {
    fn debt_max(self) -> u64 {
        nanos(2 * self.burst)
    }

    /// What is missing, as the time that it takes to come back. A clock that was set back makes that no longer than a debt
    /// may be.
    fn debt(self, full_at: u64, now: Duration) -> u64 {
        full_at.saturating_sub(nanos(now)).min(self.debt_max())
    }
}

/// The bucket of one key: the time at which it is full again, in nanoseconds on the clock of whoever asks.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Whether there is room for one more. Takes nothing.
    pub(super) fn has_room(&self, now: Duration, rate: Rate) -> bool {
        rate.debt(self.0.load(Ordering::Relaxed), now) <= nanos(rate.burst)
    }

    /// Takes one. Many may have looked before any has taken, so a key may go into debt, but only by one more burst: nobody
    /// waits long for that.
    pub(super) fn take(&self, now: Duration, rate: Rate) {
        let more = nanos(rate.interval);
        let update = |at| Some(nanos(now) + (rate.debt(at, now) + more).min(rate.debt_max()));
        // The update always gives a value, so it cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Whether nothing is missing.
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
    fn debt_is_bounded_whatever_is_taken_and_whatever_the_clock_says() {
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
