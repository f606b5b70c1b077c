//! Limits on the RPCs that need no caller, health and reflection: few bytes, little time, and a bounded number of
//! requests in flight. At the limit, a new request closes the connection with the oldest one, so that no peer can block
//! the health checks of others with requests that do not end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::service::{Activity, Reason, ServiceError};

/// Longest time for a message to arrive, and for a reflection stream to end.
pub(super) const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of requests in flight on one connection, with or without a known caller.
const PER_CONNECTION_MAX: u32 = 32;
/// Maximum number of health requests in flight on all connections without a known caller. Some are watches, which stay open.
const HEALTH_MAX: usize = 1_024;
/// Maximum number of reflection requests in flight on all connections without a known caller. Their responses are long.
const REFLECTION_MAX: usize = 64;

/// Request headers that tonic reads.
const READ_HEADERS: [HeaderName; 4] = [
    CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];
/// Longest value of such a header, in bytes. No valid one is longer.
const VALUE_BYTES_MAX: usize = 256;

/// Drops all headers that tonic does not read, since the request may stay open. Headers are up to 64 KiB, and several
/// times that as a map.
pub(super) fn drop_unread_headers(parts: &mut Parts) {
    let headers = std::mem::take(&mut parts.headers);
    for name in READ_HEADERS {
        if let Some(value) = headers.get(&name).filter(|value| value.len() <= VALUE_BYTES_MAX) {
            parts.headers.insert(name, value.clone());
        }
    }
    // Keep only the path, which is one of a few. The query and the authority may be as long as the headers.
    if let Ok(uri) = parts.uri.path().parse() {
        parts.uri = uri;
    }
}

/// Health and reflection requests in flight. Those on a connection with a known caller count only for that connection.
pub(super) struct UnauthenticatedRequests {
    health: Arc<RequestLimit>,
    reflection: Arc<RequestLimit>,
}

/// Requests in flight of one kind, at most `max`.
#[derive(Debug)]
struct RequestLimit {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    by_age: BTreeMap<u64, Arc<Activity>>,
}

/// Permit of one request, until it ends.
#[derive(Debug)]
pub(super) struct UnauthenticatedPermit {
    activity: Arc<Activity>,
    /// The limit that the request counts for, and its number there. `None` on a connection with a known caller.
    slot: Option<(Arc<RequestLimit>, u64)>,
}

impl Default for UnauthenticatedRequests {
    fn default() -> Self {
        let limit = |max| Arc::new(RequestLimit { max, state: Mutex::default() });
        Self { health: limit(HEALTH_MAX), reflection: limit(REFLECTION_MAX) }
    }
}

impl UnauthenticatedRequests {
    /// Lets a request in.
    ///
    /// # Errors
    /// `OVERLOADED` if the connection has too many requests in flight.
    pub(super) fn enter(
        &self,
        activity: &Arc<Activity>,
        reflection: bool,
    ) -> Result<UnauthenticatedPermit, ServiceError> {
        let on_this_connection = activity.begin_public_request();
        let mut permit = UnauthenticatedPermit { activity: Arc::clone(activity), slot: None };
        if on_this_connection > PER_CONNECTION_MAX {
            return Err(Reason::Overloaded.into());
        }
        if !activity.is_authenticated() {
            let limit = if reflection { &self.reflection } else { &self.health };
            permit.slot = Some((Arc::clone(limit), limit.insert(activity)));
        }
        Ok(permit)
    }
}

impl RequestLimit {
    /// Adds a request, and returns its number. At the limit, closes the connection with the oldest request.
    fn insert(&self, activity: &Arc<Activity>) -> u64 {
        let mut state = self.state.lock();
        while state.by_age.len() >= self.max {
            let Some((_, oldest)) = state.by_age.pop_first() else { break };
            if !oldest.is_authenticated() {
                oldest.evict();
            }
        }
        let number = state.next;
        state.next += 1;
        state.by_age.insert(number, Arc::clone(activity));
        number
    }
}

impl Drop for UnauthenticatedPermit {
    fn drop(&mut self) {
        self.activity.end_public_request();
        if let Some((limit, number)) = &self.slot {
            limit.state.lock().by_age.remove(number);
        }
    }
}

/// A request body that must arrive before a deadline, and whose first bytes were read already.
pub(super) struct DeadlineBody {
    first: Option<Bytes>,
    body: Incoming,
    timeout: Pin<Box<Sleep>>,
}

impl DeadlineBody {
    pub(super) fn new(first: Bytes, body: Incoming, deadline: Instant) -> Self {
        let first = Some(first).filter(|first| !first.is_empty());
        Self { first, body, timeout: Box::pin(tokio::time::sleep_until(deadline)) }
    }
}

impl Body for DeadlineBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| Status::from_error(error.into()))),
            );
        }
        self.timeout
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(ServiceError::from(Reason::DeadlineExceeded).into())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{HEALTH_MAX, PER_CONNECTION_MAX, UnauthenticatedRequests, drop_unread_headers};
    use crate::service::Activity;

    #[test]
    fn one_request_too_many_closes_the_unauthenticated_connection_with_the_oldest() {
        let requests = UnauthenticatedRequests::default();
        let caller = Arc::new(Activity::default());
        let kept = requests.enter(&caller, false).expect("there is room");
        caller.begin_request().mark_authenticated();
        let (mut activities, mut permits) = (Vec::new(), vec![kept]);
        for _ in 0..HEALTH_MAX {
            let activity = Arc::new(Activity::default());
            permits.push(requests.enter(&activity, false).expect("there is room"));
            activities.push(activity);
        }
        assert!(activities.iter().all(|activity| !activity.is_evicted()), "a caller takes no slot");
        permits.push(requests.enter(&Arc::new(Activity::default()), false).expect("room is made"));
        let ended = activities.iter().map(|activity| activity.is_evicted());
        let ended: Vec<_> = ended.enumerate().filter(|(_, ended)| *ended).collect();
        assert_eq!(ended, [(0, true)]);
        assert!(!caller.is_evicted());
        drop(permits);
        assert!(requests.health.state.lock().by_age.is_empty());
    }

    #[test]
    fn a_connection_has_a_limit_with_or_without_a_caller() {
        for known in [false, true] {
            let (requests, activity) =
                (UnauthenticatedRequests::default(), Arc::new(Activity::default()));
            if known {
                activity.begin_request().mark_authenticated();
            }
            let enter = || requests.enter(&activity, false);
            let permits: Vec<_> = (0..PER_CONNECTION_MAX).map(|_| enter()).collect();
            assert!(permits.iter().all(Result::is_ok));
            assert!(enter().is_err() && enter().is_err());
            drop(permits);
            assert!(enter().is_ok(), "a request that ended frees its permit");
        }
    }

    #[test]
    fn only_headers_that_tonic_reads_are_kept() {
        let long = "x".repeat(10_000);
        let request = http::Request::post(format!("http://{long}/a.B/C?{long}"))
            .header("content-type", "application/grpc+proto")
            .header("grpc-timeout", "1S")
            .header("grpc-encoding", &long)
            .header("x-long", &long);
        let mut parts = request.body(()).expect("a request").into_parts().0;
        drop_unread_headers(&mut parts);
        assert_eq!(parts.uri, "/a.B/C");
        let names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "grpc-timeout"]);
    }
}
