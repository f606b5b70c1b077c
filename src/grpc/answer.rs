//! The body of a response: tonic's, or that of the hot path, which needs no box.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::introspect::Once;
use super::message::{Reserved, SMALL};
use super::strangers::Seat;
use crate::service::{CallerPermit, RequestGuard};

/// Either, and what is held until it is sent.
#[derive(Debug)]
pub struct Answer {
    body: Kind,
    held: Option<Box<Held>>,
}

#[derive(Debug)]
enum Kind {
    Tonic(tonic::body::Body),
    Once(Once),
}

/// What a request holds until its answer has left.
pub(super) struct Held {
    pub(super) in_flight: RequestGuard,
    /// For what is large.
    pub(super) reserved: Reserved,
    /// Of what anybody may ask.
    pub(super) seat: Option<Seat>,
    /// Of a caller's call with one answer, which has to be read in time.
    pub(super) place: Option<CallerPermit>,
    /// Of a Watch, which may be read when the caller likes.
    pub(super) watch: Option<CallerPermit>,
    /// Of the body, what comes next.
    pub(super) ahead: Option<Frame<Bytes>>,
}

impl Held {
    pub(super) const fn new(in_flight: RequestGuard) -> Self {
        let reserved = Reserved::of_nobody();
        Self { in_flight, reserved, seat: None, place: None, watch: None, ahead: None }
    }

    /// So much of it at once as is not counted; and its last byte by itself. hyper asks for more only when all but nothing
    /// of what it has can leave, so what a reader leaves unread is held here, where it is counted, to its last byte.
    fn portion(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return frame,
        };
        if data.len() > 1 {
            let rest = data.split_off(SMALL.min(data.len() - 1));
            self.ahead = Some(Frame::data(rest));
        }
        Frame::data(data)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

impl Answer {
    /// Of a service of tonic's.
    pub(super) const fn tonic(body: tonic::body::Body) -> Self {
        Self { body: Kind::Tonic(body), held: None }
    }

    /// Of the hot path.
    pub(super) const fn once(body: Once) -> Self {
        Self { body: Kind::Once(body), held: None }
    }

    /// The same, with what it holds.
    pub(super) fn holding(self, held: Held) -> Self {
        if held.place.is_some() {
            held.in_flight.mark_unread();
        }
        Self { held: Some(Box::new(held)), ..self }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, held } = self.get_mut();
        let Some(held) = held else { return body.poll_frame(context) };
        if held.place.is_some() {
            held.in_flight.mark_unread();
        }
        let frame = match held.ahead.take() {
            Some(frame) => frame,
            None => match ready!(body.poll_frame(context)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            },
        };
        Poll::Ready(Some(Ok(held.portion(frame))))
    }

    fn is_end_stream(&self) -> bool {
        let more = self.held.as_ref().is_some_and(|held| held.ahead.is_some());
        !more && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Neither says how long it is, nor has anything to say once some of it is held.
        self.body.size_hint()
    }
}

impl Kind {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self {
            Self::Tonic(body) => Pin::new(body).poll_frame(context),
            Self::Once(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tonic(body) => body.is_end_stream(),
            Self::Once(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tonic(body) => body.size_hint(),
            Self::Once(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use tonic::body::Body;

    use super::{Answer, Held, SMALL};
    use crate::service::Activity;

    #[tokio::test]
    async fn what_is_held_leaves_in_portions_and_its_last_byte_by_itself() {
        let sizes = async |length: usize| {
            let all = Bytes::from((0..length).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>());
            let full = Full::new(all.clone()).map_err(|never| match never {});
            let held = Held::new(Arc::new(Activity::default()).begin_request());
            let mut answer = Answer::tonic(Body::new(full)).holding(held);
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
        assert_eq!(sizes(SMALL).await, [SMALL - 1, 1]);
        assert_eq!(sizes(SMALL + 1).await, [SMALL, 1]);
        assert_eq!(sizes(2 * SMALL + 9).await, [SMALL, SMALL, 8, 1]);
    }
}
