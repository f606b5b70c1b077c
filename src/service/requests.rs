//! The requests under way, over all faces: how many there may be, and how much of it is one caller's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::shares::{Full, Share, Shares};
use super::{Limits, Reason, Result};
use crate::model::limits::{LARGE_BYTES_MAX, WATCHES_MAX};
use crate::model::{Caller, CallerId};

/// How often the log says that one caller has all that it may have.
const PAUSE: Duration = Duration::from_mins(1);
/// What is large is counted in so many bytes.
const LARGE_UNIT: usize = 1_024;

/// Requests under way. No caller has more than half of what there may be, whatever it sends, and from wherever.
pub struct Requests {
    /// How much, and how long, in numbers to reckon with.
    pub limits: Limits,
    of_callers: Arc<Shares<CallerId>>,
    /// Those whose caller the store is asked for, by the network that they come from.
    unidentified: Arc<Shares<IpAddr>>,
    large: Arc<Shares<CallerId>>,
    watches: Arc<Shares<CallerId>>,
    told: Mutex<HashMap<(CallerId, What), Told>>,
}

/// What a caller has of what all share.
pub type OfCaller = Share<CallerId>;

/// What may be too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Requests,
    Large,
    Watches,
}

/// What the log has said of a caller.
struct Told {
    at: Instant,
    /// Refused since.
    refused: u64,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests under way",
            Self::Large => "KiB of large messages and answers",
            Self::Watches => "open Watches",
        }
    }
}

impl Requests {
    /// Within these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        let limits = limits.in_effect();
        Arc::new(Self {
            limits,
            of_callers: Shares::halved(limits.requests_max),
            unidentified: Shares::halved(limits.requests_max),
            large: Shares::halved(LARGE_BYTES_MAX / LARGE_UNIT),
            watches: Shares::for_each(WATCHES_MAX),
            told: Mutex::default(),
        })
    }

    /// Whether none is under way; streams do not count.
    fn is_idle(&self) -> bool {
        self.of_callers.is_idle() && self.unidentified.is_idle()
    }

    /// When none has been under way for a moment: what was the last one's has left.
    pub async fn idle(&self) {
        let moment = Duration::from_millis(50);
        loop {
            tokio::time::sleep(moment).await;
            if self.is_idle() {
                tokio::time::sleep(moment).await;
                if self.is_idle() {
                    return;
                }
            }
        }
    }

    /// Waits for what finds out who calls. Who is in memory is known at once; those for whom the store is asked take
    /// nothing of what callers have, and there may be as many of them, of one network half.
    ///
    /// # Errors
    /// Those of what is waited for, and if there are too many.
    pub async fn identify<T>(
        &self,
        network: IpAddr,
        caller: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut caller = pin!(caller);
        let at_once =
            std::future::poll_fn(|context| Poll::Ready(caller.as_mut().poll(context))).await;
        if let Poll::Ready(known) = at_once {
            return known;
        }
        let _place = self.unidentified.take(network, 1).map_err(|_| Reason::Overloaded)?;
        caller.await
    }

    /// A place for a request of this caller.
    ///
    /// # Errors
    /// If all are taken, or half of them by this caller.
    pub fn enter(&self, caller: &Caller) -> Result<OfCaller> {
        self.told_if_full(caller, What::Requests, self.of_callers.take(caller.id, 1))
    }

    /// A place for a Watch of this caller, which is under way for as long as it likes.
    ///
    /// # Errors
    /// If it has as many as it may have.
    pub fn watch(&self, caller: &Caller) -> Result<OfCaller> {
        self.told_if_full(caller, What::Watches, self.watches.take(caller.id, 1))
    }

    /// Room for as many bytes more of what is large, beside what this caller's request has already.
    ///
    /// # Errors
    /// If all of it is taken, or half of it by this caller.
    pub fn large(&self, caller: &Caller, has: &mut Option<OfCaller>, bytes: usize) -> Result<()> {
        let units = bytes.div_ceil(LARGE_UNIT);
        let taken = match has {
            Some(has) => has.grow(units),
            None => self.large.take(caller.id, units).map(|taken| *has = Some(taken)),
        };
        self.told_if_full(caller, What::Large, taken)
    }

    fn told_if_full<T>(
        &self,
        caller: &Caller,
        what: What,
        taken: std::result::Result<T, Full<CallerId>>,
    ) -> Result<T> {
        taken.map_err(|full| {
            self.tell(caller, what, full, Instant::now());
            Reason::Overloaded.into()
        })
    }

    /// Tells the log of one that is refused, if it is time to.
    fn tell(&self, caller: &Caller, what: What, full: Full<CallerId>, now: Instant) {
        let Some(refused) = self.note((caller.id, what), now) else { return };
        let (name, what_of) = (caller.name.as_str(), what.name());
        match full {
            Full::One => {
                let most = match what {
                    What::Requests => self.of_callers.one_max(),
                    What::Large => self.large.one_max(),
                    What::Watches => self.watches.one_max(),
                };
                tracing::warn!(
                    caller = name,
                    what = what_of,
                    most,
                    refused,
                    "a caller has as much as one caller may have, and more is refused it: does something hold its \
                     requests up, or does it leave answers unread?"
                );
            }
            Full::All(most) => {
                let most = most.map(tracing::field::display);
                tracing::warn!(
                    caller = name,
                    what = what_of,
                    refused,
                    most_has = most,
                    "a caller is refused, since callers together have as much as there may be"
                );
            }
        }
    }

    /// Counts one that is refused; how many there are to tell of, if it is time to.
    fn note(&self, of: (CallerId, What), now: Instant) -> Option<u64> {
        let mut told = self.told.lock();
        // Of each there is one line a minute; what is older than two is not missed.
        told.retain(|_, told| now.saturating_duration_since(told.at) < 2 * PAUSE);
        let Some(told) = told.get_mut(&of) else {
            told.insert(of, Told { at: now, refused: 0 });
            return Some(1);
        };
        told.refused += 1;
        if now.saturating_duration_since(told.at) < PAUSE {
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.refused))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use futures::FutureExt as _;

    use super::{LARGE_BYTES_MAX, Limits, Reason, Requests, Result, What};
    use crate::model::{
        Caller, CallerId, CallerIdentity, CallerName, Digest, PermissionSet, Timestamp,
    };

    fn caller(byte: u8) -> Caller {
        Caller {
            id: CallerId(uuid::Uuid::from_bytes([byte; 16])),
            name: CallerName::parse(&format!("caller-{byte}")).expect("a name"),
            permissions: PermissionSet::default(),
            identity: CallerIdentity::Token(Digest::of("a token")),
            hint: String::new(),
            create_time: Timestamp::from_unix_micros(0).expect("a time"),
            revoke_time: None,
            previous: None,
            rotation: None,
        }
    }

    fn requests(requests_max: usize) -> Arc<Requests> {
        Requests::new(Limits { requests_max, request_timeout: Duration::ZERO })
    }

    #[test]
    fn half_of_what_is_large_is_left_to_others() {
        let (requests, first, second) = (requests(0), caller(1), caller(2));
        let half = LARGE_BYTES_MAX / 2;
        let (mut one, mut more, mut other) = (None, None, None);
        requests.large(&first, &mut one, half - 1_024).expect("it is there");
        requests.large(&first, &mut one, 1_024).expect("it is there");
        assert!(requests.large(&first, &mut more, 1).is_err());
        requests.large(&second, &mut other, half).expect("it is there");
        assert!(requests.large(&second, &mut one, 1).is_err());
        drop(one);
        requests.large(&first, &mut more, half).expect("it has come back");
    }

    #[test]
    fn those_for_whom_the_store_is_asked_take_nothing_of_what_callers_have() {
        let requests = requests(4);
        let [here, there, elsewhere] = [1, 2, 3].map(|byte| IpAddr::from([192, 0, 2, byte]));
        let never = || std::future::pending::<Result<()>>();
        let mut waiting: Vec<_> = [here, here, there, there, elsewhere, here]
            .map(|from| Box::pin(requests.identify(from, never())))
            .into();
        let refused = waiting.iter_mut().map(|one| one.as_mut().now_or_never().is_some());
        assert_eq!(refused.collect::<Vec<_>>(), [false, false, false, false, true, true]);
        assert!(!requests.is_idle());
        // Who is in memory is known all the same.
        let known = requests.identify(here, std::future::ready(Ok(caller(1)))).now_or_never();
        let known = known.expect("at once").expect("it is known");
        let _place = requests.enter(&known).expect("there is room");
        let refusal =
            requests.identify(here, std::future::ready(Err::<(), _>(Reason::CallerUnknown.into())));
        assert!(refusal.now_or_never().is_some_and(|refused| refused.is_err()));
    }

    #[test]
    fn the_log_says_it_once_a_minute_of_each() {
        let requests = requests(1);
        let [first, second] = [caller(1).id, caller(2).id];
        let begun = Instant::now();
        let note = |caller, what, seconds| {
            requests.note((caller, what), begun + Duration::from_secs(seconds))
        };
        assert_eq!(note(first, What::Requests, 0), Some(1));
        assert_eq!(note(first, What::Requests, 1), None);
        assert_eq!(note(first, What::Watches, 1), Some(1));
        assert_eq!(note(second, What::Requests, 2), Some(1));
        assert_eq!(note(first, What::Requests, 59), None);
        assert_eq!(note(first, What::Requests, 60), Some(3));
        assert_eq!(note(first, What::Requests, 61), None);
        assert_eq!(note(first, What::Requests, 1_000), Some(1));
        assert_eq!(requests.told.lock().len(), 1, "what is over is forgotten");
    }
}
