//! The body of a response: tonic's, or the unboxed one of the hot path.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::introspect::UnaryBody;
use super::message::{MemoryReservation, UNCOUNTED_BYTES_MAX};
use super::status::replace_status_of_tonic;
use super::unauthenticated::UnauthenticatedPermit;
use crate::service::{CallPermits, CallerPermit, InFlightGuard, ServiceError};

/// A response body, with the permits that its request holds until the body has been sent.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Inner,
    guard: Option<Box<RequestGuard>>,
}

#[derive(Debug)]
enum Inner {
    Tonic(tonic::body::Body),
    Unary(UnaryBody),
}

/// Everything that a request holds until its response has been sent.
pub(super) struct RequestGuard {
    pub(super) in_flight: InFlightGuard,
    /// Memory reserved for a large request and response.
    pub(super) memory: MemoryReservation,
    /// Permit of an RPC that needs no caller.
    pub(super) unauthenticated_permit: Option<UnauthenticatedPermit>,
    /// Permits of a caller's unary call. The client must read the response in time.
    pub(super) caller_permit: Option<CallPermits>,
    /// Permit of a Watch, which the caller may read at any pace.
    pub(super) watch_permit: Option<CallerPermit>,
    /// Next frame of the body, already taken out of it.
    pub(super) next_frame: Option<Frame<Bytes>>,
}

impl RequestGuard {
    pub(super) const fn new(in_flight: InFlightGuard) -> Self {
        let memory = MemoryReservation::unauthenticated();
        Self {
            in_flight,
            memory,
            unauthenticated_permit: None,
            caller_permit: None,
            watch_permit: None,
            next_frame: None,
        }
    }

    /// Returns the first part of a frame and keeps the rest as the next frame. A part has at most
    /// [`UNCOUNTED_BYTES_MAX`] bytes, and the last byte of a frame is sent as a separate part.
    ///
    /// hyper polls for the next part only when it can send nearly all that it has. Unread data therefore stays here,
    /// where it is counted, down to its last byte.
    fn split(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return frame,
        };
        if data.len() > 1 {
            let rest = data.split_off(UNCOUNTED_BYTES_MAX.min(data.len() - 1));
            self.next_frame = Some(Frame::data(rest));
        }
        Frame::data(data)
    }
}

impl std::fmt::Debug for RequestGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestGuard").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// Wraps the body of a response that tonic made. No other function does, and a status that tonic made itself, in
    /// the headers or in the trailers, is replaced here by one with `ErrorInfo`. So none is sent without.
    pub(super) fn from_tonic(mut response: Response<tonic::body::Body>) -> Response<Self> {
        replace_status_of_tonic(response.headers_mut());
        response.map(|body| Self { inner: Inner::Tonic(body), guard: None })
    }

    /// Returns the response to a request that is refused.
    pub(super) fn refusal(error: ServiceError) -> Response<Self> {
        Self::from_tonic(Status::from(error).into_http())
    }

    /// Wraps the body of a response of the hot path.
    pub(super) const fn unary(body: UnaryBody) -> Self {
        Self { inner: Inner::Unary(body), guard: None }
    }

    /// Adds the guard, which is dropped with the body.
    pub(super) fn with_guard(self, guard: RequestGuard) -> Self {
        if guard.caller_permit.is_some() {
            guard.in_flight.mark_unread();
        }
        Self { guard: Some(Box::new(guard)), ..self }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, guard } = self.get_mut();
        let Some(guard) = guard else { return inner.poll_frame(context) };
        if guard.caller_permit.is_some() {
            guard.in_flight.mark_unread();
        }
        let frame = match guard.next_frame.take() {
            Some(frame) => frame,
            None => match ready!(inner.poll_frame(context)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            },
        };
        Poll::Ready(Some(Ok(guard.split(frame))))
    }

    fn is_end_stream(&self) -> bool {
        let more = self.guard.as_ref().is_some_and(|guard| guard.next_frame.is_some());
        !more && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Neither body has a size hint, so the frame in the guard cannot contradict one.
        self.inner.size_hint()
    }
}

impl Inner {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self {
            Self::Tonic(body) => Pin::new(body).poll_frame(context).map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    replace_status_of_tonic(trailers);
                }
                frame
            }),
            Self::Unary(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tonic(body) => body.is_end_stream(),
            Self::Unary(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tonic(body) => body.size_hint(),
            Self::Unary(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Response;
    use http_body_util::{BodyExt as _, Full};
    use tonic::body::Body;

    use super::{RequestGuard, ResponseBody, UNCOUNTED_BYTES_MAX};
    use crate::service::Activity;

    #[tokio::test]
    async fn a_guarded_body_is_sent_in_parts_and_its_last_byte_alone() {
        let sizes = async |length: usize| {
            let all = Bytes::from((0..length).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>());
            let full = Full::new(all.clone()).map_err(|never| match never {});
            let guard = RequestGuard::new(Arc::new(Activity::default()).begin_request());
            let response = ResponseBody::from_tonic(Response::new(Body::new(full)));
            let mut answer = response.into_body().with_guard(guard);
            let (mut sizes, mut came) = (Vec::new(), Vec::new());
            while let Some(frame) = answer.frame().await {
                let data = frame.expect("no error").into_data().expect("data");
                sizes.push(data.len());
                came.extend(data);
            }
            assert_eq!(came, all);
            sizes
        };
        assert_eq!(sizes(1).await, [1]);
        assert_eq!(sizes(2).await, [1, 1]);
        assert_eq!(sizes(UNCOUNTED_BYTES_MAX).await, [UNCOUNTED_BYTES_MAX - 1, 1]);
        assert_eq!(sizes(UNCOUNTED_BYTES_MAX + 1).await, [UNCOUNTED_BYTES_MAX, 1]);
        assert_eq!(
            sizes(2 * UNCOUNTED_BYTES_MAX + 9).await,
            [UNCOUNTED_BYTES_MAX, UNCOUNTED_BYTES_MAX, 8, 1]
        );
    }
}
