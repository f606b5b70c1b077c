//! What a connection is doing: what is asked when there are too many, and one has to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// Told whenever a connection that could not be ended may be.
    freed: Arc<Notify>,
}

/// How loath one is to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Nothing is under way.
    Idle,
    /// Nothing but what anybody may ask, as the health that a stranger watches.
    Open,
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

    /// How many requests are under way.
    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
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
        UnderWay { activity: Arc::clone(self), of_caller: AtomicBool::new(false) }
    }

    /// When something was last asked or answered; else, since when the connection is there.
    pub fn last(&self) -> Instant {
        self.since + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    /// What it would be a loss of.
    pub fn worth(&self) -> Worth {
        if self.of_callers.load(Ordering::Relaxed) > 0 {
            Worth::Busy
        } else if self.under_way.load(Ordering::Relaxed) > 0 {
            Worth::Open
        } else {
            Worth::Idle
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct UnderWay {
    activity: Arc<Activity>,
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
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.asked();
        self.activity.under_way.fetch_sub(1, Ordering::Relaxed);
        if *self.of_caller.get_mut() {
            self.activity.of_callers.fetch_sub(1, Ordering::Relaxed);
            self.activity.freed.notify_one();
        }
    }
}
