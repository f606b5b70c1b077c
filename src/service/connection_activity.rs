//! Activity of a connection, by which the server decides which connection to close when there are too many.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Activity of one connection. The counters take no lock, and an answer on the hot path reads the clock once.
#[derive(Debug)]
pub struct Activity {
    since: Instant,
    /// Time of the last request or answer, in nanoseconds after `since`.
    last: AtomicU64,
    /// Time of the first byte of incomplete headers, in nanoseconds after `since`. 0 if all headers are complete.
    headers_started: AtomicU64,
    /// Notified when incomplete headers begin.
    headers: Notify,
    established: AtomicBool,
    authenticated: AtomicBool,
    evicted: CancellationToken,
    in_flight: AtomicU32,
    in_flight_of_callers: AtomicU32,
    public_requests: AtomicU32,
    next_number: AtomicU64,
    /// Answers that the client has not read yet: their request's number, and since when they wait.
    unread: Mutex<HashMap<u64, Instant>>,
    /// Notified when a busy connection becomes one that may be evicted.
    freed: Arc<Notify>,
}

/// Rank of a connection for eviction. The server closes connections of the lowest rank first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionRank {
    /// No caller has authenticated on it. It may still have requests in flight, such as a health watch.
    Unauthenticated,
    /// A caller has authenticated on it, and has no request in flight.
    Idle,
    /// A caller waits for an answer or follows a stream.
    Busy,
}

impl Default for Activity {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Activity {
    /// Creates the activity of a new connection. `freed` is notified when a caller's request on it ends.
    pub fn new(freed: Arc<Notify>) -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            headers_started: AtomicU64::new(0),
            headers: Notify::new(),
            established: AtomicBool::new(false),
            authenticated: AtomicBool::new(false),
            evicted: CancellationToken::new(),
            in_flight: AtomicU32::new(0),
            in_flight_of_callers: AtomicU32::new(0),
            public_requests: AtomicU32::new(0),
            next_number: AtomicU64::new(0),
            unread: Mutex::default(),
            freed,
        }
    }

    /// Notes that the peer has completed the handshake of its protocol.
    pub fn establish(&self) {
        self.established.store(true, Ordering::Relaxed);
    }

    /// Whether the peer has completed the handshake of its protocol.
    pub fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// Whether a caller has authenticated on this connection.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Whether any request is in flight.
    pub fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Counts a request to an RPC that needs no caller. Returns how many of them are now in flight.
    pub fn begin_public_request(&self) -> u32 {
        self.public_requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts the end of such a request.
    pub fn end_public_request(&self) {
        self.public_requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Closes the connection to make room for another one.
    pub fn evict(&self) {
        self.evicted.cancel();
    }

    /// Whether the connection has been evicted.
    #[cfg(test)]
    pub fn is_evicted(&self) -> bool {
        self.evicted.is_cancelled()
    }

    /// Waits until the connection is evicted.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes a request that was answered at once.
    pub fn touch(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Notes the first byte of incomplete headers.
    pub fn begin_headers(&self) {
        self.headers_started.store(self.now().max(1), Ordering::Relaxed);
        self.headers.notify_one();
    }

    /// Notes that the headers are complete.
    pub fn end_headers(&self) {
        self.headers_started.store(0, Ordering::Relaxed);
    }

    /// Waits until headers have been incomplete for `patience`. Sleeps until their deadline and checks then, instead of
    /// resetting a timer for each request.
    pub async fn headers_are_late(&self, patience: Duration) {
        loop {
            let started = self.headers_started.load(Ordering::Relaxed);
            if started == 0 {
                self.headers.notified().await;
                continue;
            }
            let over = self.since + Duration::from_nanos(started) + patience;
            tokio::time::sleep_until(over.into()).await;
            if self.headers_started.load(Ordering::Relaxed) == started {
                return;
            }
        }
    }

    /// Begins a request, which is in flight until the guard is dropped.
    pub fn begin_request(self: &Arc<Self>) -> InFlightGuard {
        self.establish();
        self.touch();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        InFlightGuard { activity: Arc::clone(self), number, of_caller: AtomicBool::new(false) }
    }

    /// Time of the last request or answer, or of the connection's start if there was none.
    pub fn last_active(&self) -> Instant {
        self.since + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    /// The connection's rank for eviction.
    pub fn rank(&self) -> ConnectionRank {
        if self.in_flight_of_callers.load(Ordering::Relaxed) > 0 {
            ConnectionRank::Busy
        } else if self.is_authenticated() {
            ConnectionRank::Idle
        } else {
            ConnectionRank::Unauthenticated
        }
    }

    /// Whether the client has left an answer unread for `longest`.
    pub fn has_unread_answer_for(&self, longest: Duration) -> bool {
        self.unread.lock().values().any(|since| since.elapsed() >= longest)
    }
}

/// Guard of a request in flight.
#[derive(Debug)]
pub struct InFlightGuard {
    activity: Arc<Activity>,
    number: u64,
    of_caller: AtomicBool,
}

impl InFlightGuard {
    /// The connection's activity.
    pub const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Marks the request, and with it the connection, as an authenticated caller's.
    pub fn mark_authenticated(&self) {
        if !self.of_caller.swap(true, Ordering::Relaxed) {
            self.activity.authenticated.store(true, Ordering::Relaxed);
            self.activity.in_flight_of_callers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that the answer waits for the client from now on. Called again each time the client has read a part.
    pub fn mark_unread(&self) {
        self.activity.unread.lock().insert(self.number, Instant::now());
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.activity.touch();
        self.activity.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.activity.unread.lock().remove(&self.number);
        if *self.of_caller.get_mut() {
            self.activity.in_flight_of_callers.fetch_sub(1, Ordering::Relaxed);
            self.activity.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Activity, ConnectionRank};

    #[test]
    fn a_connection_stays_authenticated_after_the_callers_last_request() {
        let activity = Arc::new(Activity::default());
        let open = activity.begin_request();
        assert_eq!(activity.rank(), ConnectionRank::Unauthenticated);
        let asking = activity.begin_request();
        asking.mark_authenticated();
        assert_eq!(activity.rank(), ConnectionRank::Busy);
        drop(asking);
        assert_eq!(activity.rank(), ConnectionRank::Idle);
        drop(open);
        assert_eq!(activity.rank(), ConnectionRank::Idle);
    }

    #[test]
    fn an_answer_counts_as_unread_until_its_request_is_dropped() {
        let activity = Arc::new(Activity::default());
        let (first, second) = (activity.begin_request(), activity.begin_request());
        assert!(!activity.has_unread_answer_for(Duration::ZERO));
        first.mark_unread();
        assert!(activity.has_unread_answer_for(Duration::ZERO));
        assert!(!activity.has_unread_answer_for(Duration::from_hours(1)));
        drop(second);
        assert!(activity.has_unread_answer_for(Duration::ZERO));
        drop(first);
        assert!(!activity.has_unread_answer_for(Duration::ZERO));
    }
}
