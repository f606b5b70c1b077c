//! The lease: how long answers from memory are valid. Only a successful sync with the primary extends it, counted from
//! before the sync was sent (`docs/protocol.md`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Clocks of two machines may differ in rate by one part in this many, which is far above what NTP slews.
const DRIFT_PARTS: u32 = 50;
/// Fraction of the lease during which non-durable syncs may follow a durable one.
const NONDURABLE_PARTS: u32 = 20;

/// The end of the lease as it was before memory was read. Only this lease makes the answer valid.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSnapshot {
    /// Nanoseconds since boot. 0 for no lease.
    until: u64,
}

impl LeaseSnapshot {
    /// No lease: nothing in memory is valid.
    pub const NONE: Self = Self { until: 0 };
}

/// The lease of this process.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// Nanoseconds since boot. 0 for no lease.
    until: AtomicU64,
}

impl Lease {
    /// Creates a lease of this length that has not begun.
    pub const fn new(length: Duration) -> Self {
        Self { length, until: AtomicU64::new(0) }
    }

    /// The full length, which other processes wait for.
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Extends the lease after a sync that was sent at `sent`. The extension is less than the full length, in case this
    /// clock runs slow.
    pub fn extend(&self, sent: Duration) {
        let believed = self.length.saturating_sub(self.length / DRIFT_PARTS);
        self.until.store(nanos(sent + believed), Ordering::Release);
    }

    /// Ends the lease at once.
    pub fn end(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Returns the current end of the lease. Take it before reading memory.
    pub fn snapshot(&self) -> LeaseSnapshot {
        LeaseSnapshot { until: self.until.load(Ordering::Acquire) }
    }

    /// Whether the lease has held since `snapshot` was taken. `now` is the time since boot, read after memory was.
    ///
    /// An extension in between does not count: the lease may have run out before it, and memory that was read in
    /// between is then too old.
    pub fn held_since(&self, snapshot: LeaseSnapshot, now: Duration) -> bool {
        nanos(now) < snapshot.until && self.until.load(Ordering::Acquire) != 0
    }

    /// How long ago the lease ended. `None` if it holds or never began.
    pub fn ended_since(&self, now: Duration) -> Option<Duration> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then(|| now.checked_sub(Duration::from_nanos(until))).flatten()
    }
}

/// How long non-durable syncs may follow a durable one. A crash of the store may lose them. The row is then that of a
/// sync sent up to this much earlier than the one that the lease counts from.
pub fn nondurable_window(lease: Duration) -> Duration {
    lease / NONDURABLE_PARTS
}

/// How long a replica's row must stand still before the replica is given up, on the clock of the waiting process: the
/// lease, plus a margin for a fast clock here and for syncs that the store lost in a crash.
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
