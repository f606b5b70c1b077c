//! What anybody may ask, health and reflection, and what that may cost: few bytes, little time, and a bounded number of
//! requests that are not over. Where there is no room for one more, the connection whose request is the oldest ends, so that
//! nobody can keep the others' health checks out by holding on.

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

/// How long a message may take to come, and a stream of reflection to end.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that are not over, on one connection, whoever else speaks on it.
const ON_ONE_CONNECTION_MAX: u32 = 32;
/// The same over all connections: of health, which may be watched, and of reflection, whose answers are long.
const HEALTH_MAX: usize = 1_024;
const REFLECTION_MAX: usize = 64;

/// What tonic reads of a request's headers.
const READ: [HeaderName; 4] = [
    CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];
/// The longest that means something to it.
const VALUE_BYTES_MAX: usize = 256;

/// Drops all else of a request that may stay open: headers are up to 64 KiB, and several times that in a map.
pub(super) fn only_what_is_read(parts: &mut Parts) {
    let headers = std::mem::take(&mut parts.headers);
    for name in READ {
        if let Some(value) = headers.get(&name).filter(|value| value.len() <= VALUE_BYTES_MAX) {
            parts.headers.insert(name, value.clone());
        }
    }
    // Without its query and its authority, which may be as long. The path is of the few that anybody may ask for.
    if let Ok(uri) = parts.uri.path().parse() {
        parts.uri = uri;
    }
}

/// Requests of strangers that are not over. A connection on which a caller has made itself known is no stranger's.
pub(super) struct Strangers {
    health: Arc<Seats>,
    reflection: Arc<Seats>,
}

#[derive(Debug)]
struct Seats {
    max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by_age: BTreeMap<u64, Arc<Activity>>,
}

/// A request's seat, until it is over.
#[derive(Debug)]
pub(super) struct Seat {
    activity: Arc<Activity>,
    /// On a connection that is nobody's: its number among all of these.
    numbered: Option<(Arc<Seats>, u64)>,
}

impl Default for Strangers {
    fn default() -> Self {
        let seats = |max| Arc::new(Seats { max, taken: Mutex::default() });
        Self { health: seats(HEALTH_MAX), reflection: seats(REFLECTION_MAX) }
    }
}

impl Strangers {
    /// Lets a request in. On a connection of a caller it does not count among those of strangers, and is not their matter.
    pub(super) fn enter(
        &self,
        activity: &Arc<Activity>,
        reflection: bool,
    ) -> Result<Seat, ServiceError> {
        let on_this_one = activity.begin_public_request();
        let mut seat = Seat { activity: Arc::clone(activity), numbered: None };
        if on_this_one > ON_ONE_CONNECTION_MAX {
            return Err(Reason::Overloaded.into());
        }
        if !activity.is_authenticated() {
            let seats = if reflection { &self.reflection } else { &self.health };
            seat.numbered = Some((Arc::clone(seats), seats.enter(activity)));
        }
        Ok(seat)
    }
}

impl Seats {
    fn enter(&self, activity: &Arc<Activity>) -> u64 {
        let mut taken = self.taken.lock();
        while taken.by_age.len() >= self.max {
            let Some((_, oldest)) = taken.by_age.pop_first() else { break };
            if !oldest.is_authenticated() {
                oldest.evict();
            }
        }
        let number = taken.next;
        taken.next += 1;
        taken.by_age.insert(number, Arc::clone(activity));
        number
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.activity.end_public_request();
        if let Some((seats, number)) = &self.numbered {
            seats.taken.lock().by_age.remove(number);
        }
    }
}

/// A request's body that has to come in time, of which something was read.
pub(super) struct InTime {
    begun: Option<Bytes>,
    body: Incoming,
    over: Pin<Box<Sleep>>,
}

impl InTime {
    pub(super) fn new(begun: Bytes, body: Incoming, deadline: Instant) -> Self {
        let begun = Some(begun).filter(|begun| !begun.is_empty());
        Self { begun, body, over: Box::pin(tokio::time::sleep_until(deadline)) }
    }
}

impl Body for InTime {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(begun) = self.begun.take() {
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| Status::from_error(error.into()))),
            );
        }
        self.over
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(ServiceError::from(Reason::DeadlineExceeded).into())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{HEALTH_MAX, ON_ONE_CONNECTION_MAX, Strangers, only_what_is_read};
    use crate::service::Activity;

    #[test]
    fn one_too_many_ends_the_connection_of_the_oldest_that_is_nobodys() {
        let strangers = Strangers::default();
        let caller = Arc::new(Activity::default());
        let kept = strangers.enter(&caller, false).expect("there is room");
        caller.begin_request().mark_authenticated();
        let (mut activities, mut seats) = (Vec::new(), vec![kept]);
        for _ in 0..HEALTH_MAX {
            let activity = Arc::new(Activity::default());
            seats.push(strangers.enter(&activity, false).expect("there is room"));
            activities.push(activity);
        }
        assert!(activities.iter().all(|activity| !activity.is_evicted()), "a caller needs no seat");
        seats.push(strangers.enter(&Arc::new(Activity::default()), false).expect("room is made"));
        let ended = activities.iter().map(|activity| activity.is_evicted());
        let ended: Vec<_> = ended.enumerate().filter(|(_, ended)| *ended).collect();
        assert_eq!(ended, [(0, true)]);
        assert!(!caller.is_evicted());
        drop(seats);
        assert!(strangers.health.taken.lock().by_age.is_empty());
    }

    #[test]
    fn one_connection_has_so_many_and_no_more_whose_ever_it_is() {
        for known in [false, true] {
            let (strangers, activity) = (Strangers::default(), Arc::new(Activity::default()));
            if known {
                activity.begin_request().mark_authenticated();
            }
            let enter = || strangers.enter(&activity, false);
            let seats: Vec<_> = (0..ON_ONE_CONNECTION_MAX).map(|_| enter()).collect();
            assert!(seats.iter().all(Result::is_ok));
            assert!(enter().is_err() && enter().is_err());
            drop(seats);
            assert!(enter().is_ok(), "what is over is free");
        }
    }

    #[test]
    fn of_a_long_head_only_what_is_read_is_kept() {
        let long = "x".repeat(10_000);
        let request = http::Request::post(format!("http://{long}/a.B/C?{long}"))
            .header("content-type", "application/grpc+proto")
            .header("grpc-timeout", "1S")
            .header("grpc-encoding", &long)
            .header("x-long", &long);
        let mut parts = request.body(()).expect("a request").into_parts().0;
        only_what_is_read(&mut parts);
        assert_eq!(parts.uri, "/a.B/C");
        let names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "grpc-timeout"]);
    }
}
