//! The message of a unary call as bytes: read before anybody decodes it, and handed on to tonic as it came.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::introspect::bytes;
use crate::model::Caller;
use crate::service::{CallerPermit, Reason, Requests, Result, ServiceError};

/// Bytes of gRPC's frame before the message: a flag and the length.
pub(super) const PREFIX: usize = 5;
/// How a message is compressed, if it is.
const ENCODING: &str = "grpc-encoding";

/// What came.
pub(super) enum Read {
    /// One whole message in the clear, in its frame.
    Message(Bytes),
    /// Anything else, as far as it was read: for tonic to tell what is wrong with it.
    Other(Bytes, Option<Incoming>),
    /// It announces more than these bytes, which are the most.
    TooLarge(usize),
    /// There is no room for it beside what others are sending.
    NoRoom,
}

impl Read {
    /// The message, if it is whole.
    pub(super) fn message(&self) -> Option<Bytes> {
        match self {
            Self::Message(frame) => Some(frame.slice(PREFIX..)),
            Self::Other(..) | Self::TooLarge(_) | Self::NoRoom => None,
        }
    }
}

/// What one request has of what is large, until it is over. What is small is bounded by the number of requests.
pub(super) struct Reserved {
    /// Whose it is; strangers have nothing that is large.
    of: Option<(Arc<Requests>, Arc<Caller>)>,
    bytes: usize,
    large: Option<CallerPermit>,
}

/// Bytes of a message or an answer that is not counted.
pub(super) const SMALL: usize = 16 * 1024;

impl Reserved {
    /// Nothing, of nobody who is known.
    pub(super) const fn of_nobody() -> Self {
        Self { of: None, bytes: 0, large: None }
    }

    /// Nothing yet.
    pub(super) const fn of(requests: Arc<Requests>, caller: Arc<Caller>) -> Self {
        Self { of: Some((requests, caller)), bytes: 0, large: None }
    }

    /// Room for as much in all, beyond what is small.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let (had, needed) = (large(self.bytes), large(bytes));
        if needed > had {
            let (requests, caller) = self.of.as_ref().ok_or(Reason::Overloaded)?;
            requests.reserve_large(caller, &mut self.large, needed - had)?;
        }
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    /// As much more.
    ///
    /// # Errors
    /// As above.
    pub(super) fn grow_by(&mut self, bytes: usize) -> Result<()> {
        self.grow_to(self.bytes.saturating_add(bytes))
    }
}

const fn large(bytes: usize) -> usize {
    bytes.saturating_sub(SMALL)
}

/// Whether messages may be compressed: for others to decompress.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// The message, if all of it has come already; `read` is what was taken out of the body, whatever it is.
pub(super) fn at_once<'r>(
    body: &mut Incoming,
    read: &'r mut Bytes,
    bytes_max: usize,
) -> Option<&'r [u8]> {
    while !body.is_end_stream() && read.len() <= PREFIX + bytes_max {
        let frame = body.frame().now_or_never()??.ok()?;
        if let Ok(data) = frame.into_data() {
            *read = joined(std::mem::take(read), data);
        }
    }
    message_of(read, bytes_max).filter(|_| body.is_end_stream())
}

/// Reads the rest of a request's body, of which `read` was read already. What a message announces makes no room: there is
/// as much as has come.
pub(super) async fn read(
    headers: &HeaderMap,
    mut read: Bytes,
    mut body: Incoming,
    bytes_max: usize,
    reserved: &mut Reserved,
) -> Read {
    if is_encoded(headers) {
        return Read::Other(read, Some(body));
    }
    while read.len() <= PREFIX + bytes_max {
        if announced(&read).is_some_and(|length| length > bytes_max) {
            return Read::TooLarge(bytes_max);
        }
        if reserved.grow_to(read.len()).is_err() {
            return Read::NoRoom;
        }
        let whole = message_of(&read, bytes_max).is_some();
        if whole && body.is_end_stream() {
            return Read::Message(read);
        }
        match data(&mut body).await {
            Some(more) => read = joined(read, more),
            None if whole => return Read::Message(read.slice(PREFIX..)),
            None => return Read::Other(read, None),
        }
    }
    Read::Other(read, Some(body))
}

/// Reads the beginning of a stream, and refuses it if its first message is too large.
pub(super) async fn begin(body: &mut Incoming, bytes_max: usize) -> Result<Bytes> {
    let mut read = Bytes::new();
    while read.len() < PREFIX {
        let Some(more) = data(body).await else { return Ok(read) };
        read = joined(read, more);
    }
    if announced(&read).is_some_and(|length| length > bytes_max) {
        return Err(too_large(bytes_max));
    }
    Ok(read)
}

fn too_large(bytes_max: usize) -> ServiceError {
    ServiceError::from(Reason::MessageTooLarge).with("bytes_max", bytes_max.to_string())
}

async fn data(body: &mut Incoming) -> Option<Bytes> {
    loop {
        // A broken body ends here, and what was read of it is no whole message.
        let frame = body.frame().await?.ok()?;
        if let Ok(data) = frame.into_data() {
            return Some(data);
        }
    }
}

/// Nearly always one frame of the connection holds it all, and is not copied.
fn joined(read: Bytes, more: Bytes) -> Bytes {
    if read.is_empty() {
        return more;
    }
    if more.is_empty() {
        return read;
    }
    let mut buffer = BytesMut::from(read);
    buffer.extend_from_slice(&more);
    buffer.freeze()
}

/// How long a message in the clear says that it is.
fn announced(bytes: &[u8]) -> Option<usize> {
    let (prefix, _) = bytes.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    (prefix[0] == 0).then_some(length as usize)
}

/// The message, if these bytes are one frame, not compressed, and nothing else.
fn message_of(bytes: &[u8], bytes_max: usize) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_at_checked(PREFIX)?;
    (announced(prefix) == Some(message.len()) && message.len() <= bytes_max).then_some(message)
}

/// A string field of the message, read without decoding the rest; nothing if it is not set, or the message is broken.
pub(super) fn string_field(message: &[u8], field: u32) -> Option<&str> {
    let (mut rest, mut found) = (message, None);
    while !rest.is_empty() {
        match decode_key(&mut rest).ok()? {
            (number, WireType::LengthDelimited) if number == field => {
                found = Some(std::str::from_utf8(bytes(&mut rest)?).ok()?);
            }
            (number, wire) => {
                skip_field(wire, number, &mut rest, DecodeContext::default()).ok()?;
            }
        }
    }
    found
}

/// What was read of a request's body already, and what was not.
#[derive(Debug)]
pub(super) struct Replay {
    read: Option<Bytes>,
    rest: Option<Incoming>,
}

impl Replay {
    /// All of it, from its beginning.
    pub(super) fn of(read: Read) -> Result<Self> {
        let (read, rest) = match read {
            Read::Message(frame) => (frame, None),
            Read::Other(read, rest) => (read, rest),
            Read::TooLarge(bytes_max) => return Err(too_large(bytes_max)),
            Read::NoRoom => return Err(Reason::Overloaded.into()),
        };
        Ok(Self { read: Some(read), rest })
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        match self.read.take() {
            Some(read) if !read.is_empty() => Poll::Ready(Some(Ok(Frame::data(read)))),
            _ => match &mut self.rest {
                Some(rest) => Pin::new(rest).poll_frame(context),
                None => Poll::Ready(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1_024;

    #[test]
    fn only_one_whole_frame_in_the_clear_is_a_message() {
        assert_eq!(message_of(&[0, 0, 0, 0, 2, 7, 8], BYTES_MAX), Some(&[7, 8][..]));
        for frame in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 7, 8],
            &[0, 0, 0, 0, 3, 7, 8],
            &[0, 0, 0, 0, 1, 7, 8],
            &[0, 255, 255, 255, 255, 7, 8],
        ] {
            assert_eq!(message_of(frame, BYTES_MAX), None, "{frame:?}");
        }
    }

    #[test]
    fn a_string_field_is_read_as_prost_reads_it_and_not_out_of_a_broken_message() {
        use prost::Message as _;
        let request = crate::grpc::pb::CreateKeyRequest {
            workspace: "acme".to_owned(),
            acting_user: "ada".to_owned(),
            request_id: "1".to_owned(),
            ..Default::default()
        };
        let mut message = request.encode_to_vec();
        assert_eq!(string_field(&message, 8), Some("ada"));
        assert_eq!(string_field(&message, 800), None);
        assert_eq!(string_field(&message[..message.len() - 1], 8), None);
        message.extend([0x42, 1, b'b']);
        assert_eq!(string_field(&message, 8), Some("b"), "the last one counts");
        message.extend([0x42, 1, 0xff]);
        assert_eq!(string_field(&message, 8), None, "no UTF-8");
    }

    #[test]
    fn a_stranger_has_nothing_that_is_large() {
        let mut nobody = Reserved::of_nobody();
        assert!(nobody.grow_to(SMALL).is_ok());
        assert!(nobody.grow_by(1).is_err());
    }
}
