//! What a connection is doing: what is asked when there are too many, and one has to go.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What one connection is doing. Counted without a lock; an answer of the hot path costs one reading of the clock.
#[derive(Debug)]
pub struct Activity {
    since: Instant,
    /// Nanoseconds after `since` at which it asked, or was answered, last.
    last: AtomicU64,
    /// The same for the first byte of headers that are not whole; 0: all are.
    headers_begun: AtomicU64,
    /// Told of that.
    headers: Notify,
    established: AtomicBool,
    known: AtomicBool,
    ended: CancellationToken,
    under_way: AtomicU32,
    of_callers: AtomicU32,
    open: AtomicU32,
    next: AtomicU64,
    /// Answers that wait for their reader, by number, and since when.
    unread: Mutex<HashMap<u64, Instant>>,
    /// Told whenever a connection that could not be ended may be.
    freed: Arc<Notify>,
}

/// How loath one is to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// No caller has made itself known on it, whatever is under way, as the health that a stranger watches.
    Stranger,
    /// A caller has, and asks nothing at the moment.
    Known,
    /// A caller waits for an answer, or follows a stream.
    Busy,
}

impl Default for Activity {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Activity {
    /// Of a new connection; `freed` is told when one is no longer [`Worth::Busy`].
    pub fn new(freed: Arc<Notify>) -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            headers_begun: AtomicU64::new(0),
            headers: Notify::new(),
            established: AtomicBool::new(false),
            known: AtomicBool::new(false),
            ended: CancellationToken::new(),
            under_way: AtomicU32::new(0),
            of_callers: AtomicU32::new(0),
            open: AtomicU32::new(0),
            next: AtomicU64::new(0),
            unread: Mutex::default(),
            freed,
        }
    }

    /// The peer has said what a client must say first.
    pub fn establish(&self) {
        self.established.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// Whether a caller has made itself known on it.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Whether any request is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// One more request under way of those that anybody may send; how many there are with it.
    pub fn open(&self) -> u32 {
        self.open.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// One of them is over.
    pub fn close(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its place is needed for another: the connection ends.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Whether that was said.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// When that is said.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Something was asked, and answered at once.
    pub fn asked(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// The first byte of headers has come that are not whole.
    pub fn begin_headers(&self) {
        self.headers_begun.store(self.now().max(1), Ordering::Relaxed);
        self.headers.notify_one();
    }

    /// They are whole.
    pub fn end_headers(&self) {
        self.headers_begun.store(0, Ordering::Relaxed);
    }

    /// When headers have been coming for so long. Looked at when their time is over, not each time that some are whole.
    pub async fn headers_are_late(&self, patience: Duration) {
        loop {
            let begun = self.headers_begun.load(Ordering::Relaxed);
            if begun == 0 {
                self.headers.notified().await;
                continue;
            }
            let over = self.since + Duration::from_nanos(begun) + patience;
            tokio::time::sleep_until(over.into()).await;
            if self.headers_begun.load(Ordering::Relaxed) == begun {
                return;
            }
        }
    }

    /// Something is asked, which is under way until what this gives is dropped.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.establish();
        self.asked();
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        UnderWay { activity: Arc::clone(self), number, of_caller: AtomicBool::new(false) }
    }

    /// When something was last asked or answered; else, since when the connection is there.
    pub fn last(&self) -> Instant {
        self.since + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    /// What it would be a loss of.
    pub fn worth(&self) -> Worth {
        if self.of_callers.load(Ordering::Relaxed) > 0 {
            Worth::Busy
        } else if self.is_known() {
            Worth::Known
        } else {
            Worth::Stranger
        }
    }

    /// Whether an answer has waited for its reader for so long.
    pub fn is_unread_for(&self, longest: Duration) -> bool {
        self.unread.lock().values().any(|since| since.elapsed() >= longest)
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay {
    activity: Arc<Activity>,
    number: u64,
    of_caller: AtomicBool,
}

impl UnderWay {
    /// The connection's.
    pub const fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// It is that of a caller who is known.
    pub fn of_a_caller(&self) {
        if !self.of_caller.swap(true, Ordering::Relaxed) {
            self.activity.known.store(true, Ordering::Relaxed);
            self.activity.of_callers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From now on its answer waits for its reader, who has just taken something of it, or nothing yet.
    pub fn wait_for_reader(&self) {
        self.activity.unread.lock().insert(self.number, Instant::now());
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.asked();
        self.activity.under_way.fetch_sub(1, Ordering::Relaxed);
        self.activity.unread.lock().remove(&self.number);
        if *self.of_caller.get_mut() {
            self.activity.of_callers.fetch_sub(1, Ordering::Relaxed);
            self.activity.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Activity, Worth};

    #[test]
    fn who_has_been_a_caller_stays_one() {
        let activity = Arc::new(Activity::default());
        let open = activity.begin();
        assert_eq!(activity.worth(), Worth::Stranger);
        let asking = activity.begin();
        asking.of_a_caller();
        assert_eq!(activity.worth(), Worth::Busy);
        drop(asking);
        assert_eq!(activity.worth(), Worth::Known);
        drop(open);
        assert_eq!(activity.worth(), Worth::Known);
    }

    #[test]
    fn an_answer_waits_until_it_is_dropped() {
        let activity = Arc::new(Activity::default());
        let (first, second) = (activity.begin(), activity.begin());
        assert!(!activity.is_unread_for(Duration::ZERO));
        first.wait_for_reader();
        assert!(activity.is_unread_for(Duration::ZERO));
        assert!(!activity.is_unread_for(Duration::from_hours(1)));
        drop(second);
        assert!(activity.is_unread_for(Duration::ZERO));
        drop(first);
        assert!(!activity.is_unread_for(Duration::ZERO));
    }
}
