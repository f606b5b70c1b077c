//! How long answers from memory may be believed: a lease that only a successful sync with the primary extends, counted
//! from before the sync was sent (CATALOGUE E-SPEC 2, E2, E3).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Clocks of two machines may differ in rate by this much: one part in fifty, far above what NTP slews.
const DRIFT_PARTS: u32 = 50;
/// For so long after a sync that the store keeps for certain, syncs may follow that a crash of it loses.
const NONDURABLE_PARTS: u32 = 20;

/// The lease as it was before memory was read: what is read afterwards rests on this very one.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSnapshot {
    /// Nanoseconds since boot; 0: none.
    until: u64,
}

impl LeaseSnapshot {
    /// None: nothing may be believed.
    pub const NONE: Self = Self { until: 0 };
}

/// The lease of this process.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// Nanoseconds since boot; 0: none.
    until: AtomicU64,
}

impl Lease {
    /// None yet, of this length once there is one.
    pub const fn new(length: Duration) -> Self {
        Self { length, until: AtomicU64::new(0) }
    }

    /// Its length, as others may count on it.
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Extends it after a sync that was sent at `sent`: less than its length, for a clock that runs slow.
    pub fn extend(&self, sent: Duration) {
        let believed = self.length.saturating_sub(self.length / DRIFT_PARTS);
        self.until.store(nanos(sent + believed), Ordering::Release);
    }

    /// Ends it at once.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// As it is, to be taken before memory is read.
    pub fn snapshot(&self) -> LeaseSnapshot {
        LeaseSnapshot { until: self.until.load(Ordering::Acquire) }
    }

    /// Whether it has held ever since `term` was taken; `now`, the time since boot, was read after memory was.
    ///
    /// A lease that was extended since then counts for nothing: it may have run out before that, and what was read in
    /// between is as old as the one that ran out.
    pub fn held_since(&self, snapshot: LeaseSnapshot, now: Duration) -> bool {
        nanos(now) < snapshot.until && self.until.load(Ordering::Acquire) != 0
    }

    /// How long ago it ended; nothing if it holds, or never was.
    pub fn ended_since(&self, now: Duration) -> Option<Duration> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then(|| now.checked_sub(Duration::from_nanos(until))).flatten()
    }
}

/// How long after a durable sync others may follow that need not be. A crash of the store may lose those: what is left
/// of the row is then of a sync that was sent so much earlier than the one that the lease counts from.
pub fn nondurable_window(lease: Duration) -> Duration {
    lease / NONDURABLE_PARTS
}

/// How long a replica whose row stands still has to be waited for, on the clock of whoever waits: its lease, and more,
/// for a clock here that runs fast, and for syncs that the store forgot.
pub fn stall_timeout(lease: Duration) -> Duration {
    lease + lease / DRIFT_PARTS + nondurable_window(lease)
}

/// 584 years fit.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[test]
    fn it_holds_from_the_first_sync_for_less_than_its_length() {
        let lease = Lease::new(LEASE);
        assert!(!lease.held_since(lease.snapshot(), Duration::ZERO));
        lease.extend(Duration::from_secs(100));
        assert!(lease.held_since(lease.snapshot(), Duration::from_millis(109_799)));
        assert!(!lease.held_since(lease.snapshot(), Duration::from_millis(109_800)));
    }

    #[test]
    fn an_extension_does_not_apply_to_an_earlier_snapshot() {
        let lease = Lease::new(LEASE);
        lease.extend(Duration::from_secs(100));
        let snapshot = lease.snapshot();
        lease.extend(Duration::from_mins(2));
        assert!(lease.held_since(snapshot, Duration::from_secs(109)));
        assert!(!lease.held_since(snapshot, Duration::from_secs(121)));
    }

    #[test]
    fn the_stall_timeout_outlasts_the_lease_with_clocks_two_percent_off() {
        let held = LEASE.saturating_sub(LEASE / DRIFT_PARTS);
        assert!(stall_timeout(LEASE).as_secs_f64() / 1.019 > held.as_secs_f64() * 1.019);
    }

    #[test]
    fn an_ended_lease_does_not_hold() {
        let lease = Lease::new(LEASE);
        lease.extend(Duration::from_secs(1));
        let snapshot = lease.snapshot();
        lease.end();
        assert!(!lease.held_since(snapshot, Duration::from_secs(1)));
        assert!(!lease.held_since(lease.snapshot(), Duration::from_secs(1)));
    }
}
