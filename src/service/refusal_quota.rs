//! The quota of audit events of calls that changed nothing. It keeps a flood of them from filling the disk.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Bucket, Rate};
use crate::model::Timestamp;

/// Quota of a requester: a hundred events at once, then one a minute.
const RATE: Rate = Rate { interval: Duration::from_mins(1), burst: Duration::from_mins(99) };

/// Quota of recorded refusals, per requester.
#[derive(Debug, Default)]
pub(super) struct RefusalQuota(Mutex<HashMap<String, RequesterRecord>>);

#[derive(Debug, Default)]
struct RequesterRecord {
    bucket: Bucket,
    suppressed: u64,
}

impl RefusalQuota {
    /// Whether one more event of this requester is to be recorded. Otherwise counts it as suppressed.
    pub(super) fn admit(&self, requester: &str, now: Timestamp) -> bool {
        let (mut used, now) = (self.0.lock(), since_epoch(now));
        if !used.contains_key(requester) {
            used.insert(requester.to_owned(), RequesterRecord::default());
        }
        let Some(used) = used.get_mut(requester) else { return true };
        let admitted = used.bucket.has_room(now, RATE);
        if admitted {
            used.bucket.take(now, RATE);
        } else {
            used.suppressed += 1;
        }
        admitted
    }

    /// Returns the requesters with suppressed refusals since the last call, with their number.
    pub(super) fn take_suppressed(&self, now: Timestamp) -> Vec<(String, u64)> {
        let (mut used, now) = (self.0.lock(), since_epoch(now));
        let mut taken = Vec::new();
        used.retain(|requester, used| {
            if used.suppressed > 0 {
                taken.push((requester.clone(), std::mem::take(&mut used.suppressed)));
            }
            !used.bucket.is_full(now)
        });
        taken
    }
}

fn since_epoch(now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.unix_micros()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000).expect("a time")
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_recorded_one_by_one() {
        let quota = RefusalQuota::default();
        let admitted = (0..1_000).filter(|_| quota.admit("gateway", at(0))).count();
        assert_eq!(admitted, 100);
        assert!(quota.admit("dashboard", at(0)), "each requester has its own quota");
        assert_eq!(quota.take_suppressed(at(1)), [("gateway".to_owned(), 900)]);
        assert_eq!(quota.take_suppressed(at(1)), []);
    }

    #[test]
    fn a_minute_restores_one_refusal_and_a_long_pause_the_whole_quota() {
        let quota = RefusalQuota::default();
        for _ in 0..200 {
            quota.admit("gateway", at(0));
        }
        assert!(quota.admit("gateway", at(61)));
        assert!(!quota.admit("gateway", at(62)));
        assert_eq!(quota.take_suppressed(at(100 * 61)).len(), 1);
        assert!(quota.0.lock().is_empty(), "idle requesters are forgotten");
    }

    #[test]
    fn a_clock_that_is_set_back_restores_nothing() {
        let quota = RefusalQuota::default();
        for _ in 0..100 {
            quota.admit("gateway", at(1_000));
        }
        assert!(!quota.admit("gateway", at(0)));
    }
}
