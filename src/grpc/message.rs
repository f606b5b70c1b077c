//! Reads the message of a unary call as bytes, before it is decoded, and passes it on to tonic unchanged.

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::introspect::read_bytes;
use crate::service::{CallPermits, Reason, Result, ServiceError};

/// Bytes of a gRPC frame before the message: a compression flag and the length.
pub(super) const PREFIX_BYTES: usize = 5;
/// Header that names the compression of the message.
const ENCODING: &str = "grpc-encoding";

/// A request's message in its frame: whole, uncompressed and the only one.
#[derive(Clone)]
pub(super) struct FramedMessage(Bytes);

impl FramedMessage {
    /// Returns the message.
    pub(super) fn message(&self) -> Bytes {
        self.0.slice(PREFIX_BYTES..)
    }

    /// Returns the body with which tonic gets it.
    pub(super) fn into_body(self) -> Full<Bytes> {
        Full::new(self.0)
    }
}

/// Memory that one request has reserved for large messages. Small ones are bounded by the number of requests.
pub(super) struct MemoryReservation {
    /// `None` for an unauthenticated request, which may reserve nothing.
    permits: Option<CallPermits>,
    bytes: usize,
}

/// Messages and responses of up to this many bytes are not counted.
pub(super) const UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

impl MemoryReservation {
    /// An empty reservation that cannot grow.
    pub(super) const fn unauthenticated() -> Self {
        Self { permits: None, bytes: 0 }
    }

    /// An empty reservation of a caller's request.
    pub(super) const fn for_caller(permits: CallPermits) -> Self {
        Self { permits: Some(permits), bytes: 0 }
    }

    /// Grows the reservation to `bytes` in total.
    ///
    /// # Errors
    /// `OVERLOADED` if so much memory is not free.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<()> {
        let (had, needed) = (counted(self.bytes), counted(bytes));
        if needed > had {
            let permits = self.permits.as_ref().ok_or(Reason::Overloaded)?;
            permits.reserve_large(needed - had)?;
        }
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    /// Grows the reservation by `bytes`.
    ///
    /// # Errors
    /// `OVERLOADED` if so much memory is not free.
    pub(super) fn grow_by(&mut self, bytes: usize) -> Result<()> {
        self.grow_to(self.bytes.saturating_add(bytes))
    }
}

const fn counted(bytes: usize) -> usize {
    bytes.saturating_sub(UNCOUNTED_BYTES_MAX)
}

/// Whether the request's messages are compressed.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// Returns the message, if all of it has been received already. Bytes taken out of the body are in `read` in any case.
pub(super) fn received_message<'r>(
    body: &mut Incoming,
    read: &'r mut Bytes,
    bytes_max: usize,
) -> Option<&'r [u8]> {
    while !body.is_end_stream() && read.len() <= PREFIX_BYTES + bytes_max {
        let frame = body.frame().now_or_never()??.ok()?;
        if let Ok(data) = frame.into_data() {
            *read = concat(std::mem::take(read), data);
        }
    }
    whole_message(read, bytes_max).filter(|_| body.is_end_stream())
}

/// Receives the rest of a request's body, after the bytes in `buffered`. Memory is reserved for the bytes received, not
/// for the length that the message announces. Nothing of the body is left for later: that would be read without a
/// reservation, and executed for a caller that was authenticated earlier.
///
/// # Errors
/// `MESSAGE_TOO_LARGE`, `OVERLOADED`, `COMPRESSION_UNSUPPORTED`, and `REQUEST_MALFORMED` for no message, a part of one, or
/// more than one.
pub(super) async fn receive(
    headers: &HeaderMap,
    mut buffered: Bytes,
    mut body: Incoming,
    bytes_max: usize,
    reserved: &mut MemoryReservation,
) -> Result<FramedMessage> {
    if is_compressed(headers) {
        return Err(Reason::CompressionUnsupported.into());
    }
    loop {
        check_prefix(&buffered, bytes_max)?;
        reserved.grow_to(buffered.len())?;
        let whole = whole_message(&buffered, bytes_max).is_some();
        if whole && body.is_end_stream() {
            return Ok(FramedMessage(buffered));
        }
        match next_data(&mut body).await {
            Some(more) => buffered = concat(buffered, more),
            None if whole => return Ok(FramedMessage(buffered)),
            None => return Err(Reason::RequestMalformed.into()),
        }
    }
}

/// Checks the bytes of a message that have been received, as far as they show what is wrong.
fn check_prefix(bytes: &[u8], bytes_max: usize) -> Result<()> {
    match (announced_length(bytes), bytes.first()) {
        (Some(length), _) if length > bytes_max => Err(too_large(bytes_max)),
        (Some(length), _) if bytes.len() > PREFIX_BYTES + length => {
            Err(Reason::RequestMalformed.into())
        }
        (None, Some(1)) => Err(Reason::CompressionUnsupported.into()),
        (None, Some(2..)) => Err(Reason::RequestMalformed.into()),
        (Some(_), _) | (None, None | Some(0)) => Ok(()),
    }
}

/// Reads the first bytes of a stream.
///
/// # Errors
/// `MESSAGE_TOO_LARGE` if its first message announces more than `bytes_max`, `COMPRESSION_UNSUPPORTED` and
/// `REQUEST_MALFORMED` if its frame is compressed or begins with another flag.
pub(super) async fn read_stream_start(
    headers: &HeaderMap,
    body: &mut Incoming,
    bytes_max: usize,
) -> Result<Bytes> {
    if is_compressed(headers) {
        return Err(Reason::CompressionUnsupported.into());
    }
    let mut read = Bytes::new();
    while read.len() < PREFIX_BYTES {
        let Some(more) = next_data(body).await else { break };
        read = concat(read, more);
    }
    match (announced_length(&read), read.first()) {
        (Some(length), _) if length > bytes_max => Err(too_large(bytes_max)),
        (None, Some(1)) => Err(Reason::CompressionUnsupported.into()),
        (None, Some(_)) => Err(Reason::RequestMalformed.into()),
        (Some(_), _) | (None, None) => Ok(read),
    }
}

fn too_large(bytes_max: usize) -> ServiceError {
    ServiceError::from(Reason::MessageTooLarge).with("bytes_max", bytes_max.to_string())
}

async fn next_data(body: &mut Incoming) -> Option<Bytes> {
    loop {
        // A broken body ends here. The bytes read so far are not a whole message then.
        let frame = body.frame().await?.ok()?;
        if let Ok(data) = frame.into_data() {
            return Some(data);
        }
    }
}

/// Appends `more`. Nearly always the message is in one frame of the connection, and nothing is copied.
fn concat(read: Bytes, more: Bytes) -> Bytes {
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

/// Returns the announced length of an uncompressed message.
fn announced_length(bytes: &[u8]) -> Option<usize> {
    let (prefix, _) = bytes.split_at_checked(PREFIX_BYTES)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    (prefix[0] == 0).then_some(length as usize)
}

/// Returns the message, if these bytes are exactly one uncompressed frame.
fn whole_message(bytes: &[u8], bytes_max: usize) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_at_checked(PREFIX_BYTES)?;
    (announced_length(prefix) == Some(message.len()) && message.len() <= bytes_max)
        .then_some(message)
}

/// Reads a string field without decoding the rest of the message. `None` if it is not set or the message is malformed.
pub(super) fn string_field(message: &[u8], field: u32) -> Option<&str> {
    let (mut rest, mut found) = (message, None);
    while !rest.is_empty() {
        match decode_key(&mut rest).ok()? {
            (number, WireType::LengthDelimited) if number == field => {
                found = Some(std::str::from_utf8(read_bytes(&mut rest)?).ok()?);
            }
            (number, wire) => {
                skip_field(wire, number, &mut rest, DecodeContext::default()).ok()?;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1_024;

    #[test]
    fn only_one_whole_uncompressed_frame_is_a_message() {
        assert_eq!(whole_message(&[0, 0, 0, 0, 2, 7, 8], BYTES_MAX), Some(&[7, 8][..]));
        for frame in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 7, 8],
            &[0, 0, 0, 0, 3, 7, 8],
            &[0, 0, 0, 0, 1, 7, 8],
            &[0, 255, 255, 255, 255, 7, 8],
        ] {
            assert_eq!(whole_message(frame, BYTES_MAX), None, "{frame:?}");
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
        assert_eq!(string_field(&message, 8), None, "not UTF-8");
    }

    #[test]
    fn an_unauthenticated_request_reserves_no_memory() {
        let mut reservation = MemoryReservation::unauthenticated();
        assert!(reservation.grow_to(UNCOUNTED_BYTES_MAX).is_ok());
        assert!(reservation.grow_by(1).is_err());
    }
}
