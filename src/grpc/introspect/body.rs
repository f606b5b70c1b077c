//! The body of an answer that is whole: its bytes, then the trailers of a call that went well.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Bytes, then `grpc-status: 0`.
#[derive(Debug)]
pub(in crate::grpc) struct Once {
    data: Option<Bytes>,
    ended: bool,
}

impl Once {
    pub(super) const fn new(data: Bytes) -> Self {
        Self { data: Some(data), ended: false }
    }

    /// How long it is.
    pub(in crate::grpc) fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Bytes::len)
    }
}

impl Body for Once {
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

    /// None, though the size is known: hyper would send `content-length`, which nobody who speaks gRPC looks at.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
