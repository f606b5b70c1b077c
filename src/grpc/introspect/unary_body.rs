//! The body of a successful unary response: one message, then the trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Sends its bytes, then the trailer `grpc-status: 0`.
#[derive(Debug)]
pub(in crate::grpc) struct UnaryBody {
    data: Option<Bytes>,
    ended: bool,
}

impl UnaryBody {
    pub(super) const fn new(data: Bytes) -> Self {
        Self { data: Some(data), ended: false }
    }

    /// Length of the bytes that are not sent yet.
    pub(in crate::grpc) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl Body for UnaryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    /// No hint, although the size is known: hyper would send `content-length`, which gRPC clients ignore.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
