//! Limits on requests in flight over all faces, in total and per caller.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::shared_quota::{QuotaExceeded, QuotaPermit, SharedQuota};
use super::{Reason, RequestLimits, Result};
use crate::cache;
use crate::model::limits::{LARGE_BYTES_MAX, WATCHES_MAX};
use crate::model::{Caller, CallerId};

/// Pause between two log lines about the same caller and resource.
const PAUSE: Duration = Duration::from_mins(1);
/// Size of the unit in which large messages are counted, in bytes.
const LARGE_UNIT: usize = 1_024;

/// Requests in flight. No caller has more than half of the requests, or of the memory for large messages, over all its
/// connections.
pub struct RequestsInFlight {
    /// The limits in effect.
    pub limits: RequestLimits,
    of_callers: Arc<SharedQuota<CallerId>>,
    /// Requests whose caller is being looked up in the store, by the network that they come from.
    unidentified: Arc<SharedQuota<IpAddr>>,
    large: Arc<SharedQuota<CallerId>>,
    watches: Arc<SharedQuota<CallerId>>,
    logged: Mutex<HashMap<(CallerId, Resource), LoggedRefusals>>,
}

/// A caller's permit for a part of a shared resource. Dropping it gives the part back.
pub type CallerPermit = QuotaPermit<CallerId>;

/// What one request of a caller takes: a permit for a request in flight, and memory for large messages. It is given back
/// when the last clone is dropped, and the tasks that the request has started hold one (`cache/request_tasks.rs`).
#[derive(Clone)]
pub struct CallPermits(Arc<Held>);

struct Held {
    requests: Arc<RequestsInFlight>,
    caller: Arc<Caller>,
    _request: CallerPermit,
    large: Mutex<Option<CallerPermit>>,
}

impl CallPermits {
    /// Reserves `bytes` more for large messages.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] if the total is used up, or the caller already has half of it.
    pub fn reserve_large(&self, bytes: usize) -> Result<()> {
        let Held { requests, caller, large, .. } = &*self.0;
        requests.reserve_large(caller, &mut large.lock(), bytes)
    }

    /// Returns a permit for a Watch of the same caller. A Watch has no time limit.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] if the caller has reached its maximum.
    pub fn watch(&self) -> Result<CallerPermit> {
        let Held { requests, caller, .. } = &*self.0;
        let taken = requests.watches.take(caller.id, 1);
        requests.log_if_exceeded(caller, Resource::Watches, taken)
    }

    /// Runs the request. Whatever it starts that outlives it holds the permits too.
    pub async fn run<F: Future>(&self, request: F) -> F::Output {
        cache::with_share(Arc::clone(&self.0) as cache::Share, request).await
    }
}

/// A resource that callers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Resource {
    Requests,
    Large,
    Watches,
}

/// Log state of one caller and resource.
struct LoggedRefusals {
    /// Time of the last log line.
    at: Instant,
    /// Number of requests refused since the last log line.
    refused: u64,
}

impl Resource {
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests in flight",
            Self::Large => "KiB of large messages and answers",
            Self::Watches => "open Watches",
        }
    }
}

impl RequestsInFlight {
    /// Creates the quotas for these limits.
    pub fn new(limits: RequestLimits) -> Arc<Self> {
        let limits = limits.in_effect();
        Arc::new(Self {
            limits,
            of_callers: SharedQuota::halved(limits.requests_max),
            unidentified: SharedQuota::halved(limits.requests_max),
            large: SharedQuota::halved(LARGE_BYTES_MAX / LARGE_UNIT),
            watches: SharedQuota::for_each(WATCHES_MAX),
            logged: Mutex::default(),
        })
    }

    /// Whether no request is in flight. Streams do not count.
    fn is_idle(&self) -> bool {
        self.of_callers.is_idle() && self.unidentified.is_idle()
    }

    /// Waits until no request has been in flight for a moment, so that the last answer has been sent.
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

    /// Awaits the authentication of a caller. A caller in memory is found at once. Requests that need the store do not
    /// count against the callers' quota: they have another one of the same size, of which one network may have half.
    ///
    /// # Errors
    /// The error of `caller`, or [`Reason::Overloaded`] if the quota is exceeded.
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
        let _permit = self.unidentified.take(network, 1).map_err(|_| Reason::Overloaded)?;
        caller.await
    }

    /// Returns the permits of a request of this caller.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] if the total is used up, or the caller already has half of it.
    pub fn enter(self: &Arc<Self>, caller: &Arc<Caller>) -> Result<CallPermits> {
        let taken = self.of_callers.take(caller.id, 1);
        let permit = self.log_if_exceeded(caller, Resource::Requests, taken)?;
        let (requests, caller) = (Arc::clone(self), Arc::clone(caller));
        let held = Held { requests, caller, _request: permit, large: Mutex::default() };
        Ok(CallPermits(Arc::new(held)))
    }

    /// Reserves `bytes` more for large messages, in addition to the permit that this request already has.
    ///
    /// # Errors
    /// [`Reason::Overloaded`] if the total is used up, or the caller already has half of it.
    fn reserve_large(
        &self,
        caller: &Caller,
        has: &mut Option<CallerPermit>,
        bytes: usize,
    ) -> Result<()> {
        let units = bytes.div_ceil(LARGE_UNIT);
        let taken = match has {
            Some(has) => has.grow(units),
            None => self.large.take(caller.id, units).map(|taken| *has = Some(taken)),
        };
        self.log_if_exceeded(caller, Resource::Large, taken)
    }

    fn log_if_exceeded<T>(
        &self,
        caller: &Caller,
        resource: Resource,
        taken: std::result::Result<T, QuotaExceeded<CallerId>>,
    ) -> Result<T> {
        taken.map_err(|full| {
            self.log_refusal(caller, resource, full, Instant::now());
            Reason::Overloaded.into()
        })
    }

    /// Counts a refusal, and logs it if the last log line is old enough.
    fn log_refusal(
        &self,
        caller: &Caller,
        resource: Resource,
        full: QuotaExceeded<CallerId>,
        now: Instant,
    ) {
        let Some(refused) = self.count_refusal((caller.id, resource), now) else { return };
        let (name, what_of) = (caller.name.as_str(), resource.name());
        match full {
            QuotaExceeded::Own => {
                let most = match resource {
                    Resource::Requests => self.of_callers.per_key_max(),
                    Resource::Large => self.large.per_key_max(),
                    Resource::Watches => self.watches.per_key_max(),
                };
                tracing::warn!(
                    caller = name,
                    what = what_of,
                    most,
                    refused,
                    "a caller has reached its maximum, and further requests are refused: does something hold its \
                     requests up, or does it leave answers unread?"
                );
            }
            QuotaExceeded::Total(most) => {
                let most = most.map(tracing::field::display);
                tracing::warn!(
                    caller = name,
                    what = what_of,
                    refused,
                    most_has = most,
                    "a caller is refused because all callers together have reached the maximum"
                );
            }
        }
    }

    /// Counts a refusal. Returns the number of refusals to log, if the last log line is old enough.
    fn count_refusal(&self, of: (CallerId, Resource), now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock();
        // One line a minute each. Entries older than two minutes are dropped.
        logged.retain(|_, logged| now.saturating_duration_since(logged.at) < 2 * PAUSE);
        let Some(logged) = logged.get_mut(&of) else {
            logged.insert(of, LoggedRefusals { at: now, refused: 0 });
            return Some(1);
        };
        logged.refused += 1;
        if now.saturating_duration_since(logged.at) < PAUSE {
            return None;
        }
        logged.at = now;
        Some(std::mem::take(&mut logged.refused))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use futures::FutureExt as _;

    use super::{LARGE_BYTES_MAX, Reason, RequestLimits, RequestsInFlight, Resource, Result};
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
            expire_time: None,
            last_use: None,
            creator: String::new(),
            version: 1,
        }
    }

    fn requests(requests_max: usize) -> Arc<RequestsInFlight> {
        RequestsInFlight::new(RequestLimits { requests_max, request_timeout: Duration::ZERO })
    }

    #[test]
    fn one_caller_gets_half_of_the_bytes_for_large_messages() {
        let (requests, first, second) = (requests(0), caller(1), caller(2));
        let half = LARGE_BYTES_MAX / 2;
        let (mut one, mut more, mut other) = (None, None, None);
        requests.reserve_large(&first, &mut one, half - 1_024).expect("the quota suffices");
        requests.reserve_large(&first, &mut one, 1_024).expect("the quota suffices");
        assert!(requests.reserve_large(&first, &mut more, 1).is_err());
        requests.reserve_large(&second, &mut other, half).expect("the quota suffices");
        assert!(requests.reserve_large(&second, &mut one, 1).is_err());
        drop(one);
        requests.reserve_large(&first, &mut more, half).expect("the part was given back");
    }

    #[test]
    fn requests_whose_caller_is_looked_up_do_not_use_the_callers_quota() {
        let requests = requests(4);
        let [here, there, elsewhere] = [1, 2, 3].map(|byte| IpAddr::from([192, 0, 2, byte]));
        let never = || std::future::pending::<Result<()>>();
        let mut waiting: Vec<_> = [here, here, there, there, elsewhere, here]
            .map(|from| Box::pin(requests.identify(from, never())))
            .into();
        let refused = waiting.iter_mut().map(|one| one.as_mut().now_or_never().is_some());
        assert_eq!(refused.collect::<Vec<_>>(), [false, false, false, false, true, true]);
        assert!(!requests.is_idle());
        // A caller in memory is identified nevertheless.
        let known = requests.identify(here, std::future::ready(Ok(caller(1)))).now_or_never();
        let known = known.expect("it completes at once").expect("the caller is known");
        let _permit = requests.enter(&Arc::new(known)).expect("the quota is not used up");
        let refusal =
            requests.identify(here, std::future::ready(Err::<(), _>(Reason::CallerUnknown.into())));
        assert!(refusal.now_or_never().is_some_and(|refused| refused.is_err()));
    }

    #[test]
    fn each_caller_and_resource_is_logged_once_a_minute() {
        let requests = requests(1);
        let [first, second] = [caller(1).id, caller(2).id];
        let started = Instant::now();
        let count_refusal = |caller, what, seconds| {
            requests.count_refusal((caller, what), started + Duration::from_secs(seconds))
        };
        assert_eq!(count_refusal(first, Resource::Requests, 0), Some(1));
        assert_eq!(count_refusal(first, Resource::Requests, 1), None);
        assert_eq!(count_refusal(first, Resource::Watches, 1), Some(1));
        assert_eq!(count_refusal(second, Resource::Requests, 2), Some(1));
        assert_eq!(count_refusal(first, Resource::Requests, 59), None);
        assert_eq!(count_refusal(first, Resource::Requests, 60), Some(3));
        assert_eq!(count_refusal(first, Resource::Requests, 61), None);
        assert_eq!(count_refusal(first, Resource::Requests, 1_000), Some(1));
        assert_eq!(requests.logged.lock().len(), 1, "old entries are dropped");
    }
}
