//! Limit on the number of connections of a port. At the limit, a new connection evicts another one: first those of
//! unauthenticated peers, then those of callers without a request in flight. Among equals, the longest idle goes first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::service::{Activity, ConnectionRank};

/// Limits the number of connections of one port.
pub(in crate::server) struct ConnectionLimit {
    max: usize,
    connections: Mutex<OpenConnections>,
    freed: Arc<Notify>,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    by_number: HashMap<u64, Arc<Activity>>,
}

/// Permit of one open connection. Dropping it admits another one.
pub(in crate::server) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    number: u64,
    pub(in crate::server) activity: Arc<Activity>,
}

impl ConnectionLimit {
    /// Creates a limit of `max` connections. 0 means no limit.
    pub(in crate::server) fn new(max: usize) -> Arc<Self> {
        let max = if max == 0 { usize::MAX } else { max };
        Arc::new(Self { max, connections: Mutex::default(), freed: Arc::default() })
    }

    /// Returns a permit. If every connection has a caller's request in flight, waits until one of them is idle or closed.
    pub(in crate::server) async fn acquire(self: &Arc<Self>) -> ConnectionPermit {
        loop {
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            // `Notify` remembers a notification since the attempt above.
            self.freed.notified().await;
        }
    }

    fn try_acquire(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let mut open = self.connections.lock();
        if open.by_number.len() >= self.max {
            let number = open.eviction_candidate()?;
            open.by_number.remove(&number)?.evict();
        }
        let number = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::new(Arc::clone(&self.freed)));
        open.by_number.insert(number, Arc::clone(&activity));
        Some(ConnectionPermit { limit: Arc::clone(self), number, activity })
    }
}

impl OpenConnections {
    fn eviction_candidate(&self) -> Option<u64> {
        let evictable = self.by_number.iter().filter_map(|(number, activity)| {
            let rank = activity.rank();
            let key: (ConnectionRank, Instant, u64) = (rank, activity.last_active(), *number);
            (rank < ConnectionRank::Busy).then_some(key)
        });
        evictable.min().map(|(_, _, number)| number)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limit.connections.lock().by_number.remove(&self.number);
        self.limit.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::{ConnectionLimit, ConnectionPermit};

    fn acquire(limit: &std::sync::Arc<ConnectionLimit>) -> Option<ConnectionPermit> {
        limit.acquire().now_or_never()
    }

    #[test]
    fn the_longest_idle_connection_is_evicted_and_none_with_a_callers_request() {
        let limit = ConnectionLimit::new(3);
        let (first, second, third) = (acquire(&limit), acquire(&limit), acquire(&limit));
        let (first, second, third) = (
            first.expect("there is a free permit"),
            second.expect("there is a free permit"),
            third.expect("there is a free permit"),
        );
        let busy = first.activity.begin_request();
        busy.mark_authenticated();
        third.activity.touch();
        second.activity.touch();
        let fourth = acquire(&limit).expect("the third is evicted");
        assert!(third.activity.is_evicted());
        assert!(!first.activity.is_evicted() && !second.activity.is_evicted());
        // An unauthenticated peer's connection goes before an idle caller's, even with a recent request in flight.
        second.activity.begin_request().mark_authenticated();
        let open = fourth.activity.begin_request();
        let fifth = acquire(&limit).expect("the fourth is evicted, despite its recent request");
        assert!(fourth.activity.is_evicted() && !second.activity.is_evicted());
        let fifth_busy = fifth.activity.begin_request();
        fifth_busy.mark_authenticated();
        let sixth = acquire(&limit).expect("the idle caller is evicted");
        assert!(second.activity.is_evicted());
        let sixth_busy = sixth.activity.begin_request();
        sixth_busy.mark_authenticated();
        assert!(acquire(&limit).is_none(), "all are busy");
        drop(fifth_busy);
        let seventh = acquire(&limit).expect("the fifth is evicted");
        assert!(fifth.activity.is_evicted() && !first.activity.is_evicted());
        drop((open, busy, sixth_busy, seventh));
    }

    #[test]
    fn a_dropped_permit_admits_another_and_an_evicted_one_is_not_released_twice() {
        let limit = ConnectionLimit::new(1);
        let lost = acquire(&limit).expect("there is a free permit");
        let other = acquire(&limit).expect("the first is evicted");
        drop(lost);
        assert_eq!(limit.connections.lock().by_number.len(), 1);
        drop(other);
        assert!(limit.connections.lock().by_number.is_empty());
        let unbounded = ConnectionLimit::new(0);
        let many: Vec<_> =
            (0..100).map(|_| acquire(&unbounded).expect("there is a free permit")).collect();
        assert!(many.iter().all(|permit| !permit.activity.is_evicted()));
    }
}
