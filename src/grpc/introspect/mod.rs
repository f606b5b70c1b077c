//! The hot path: Introspect from the bytes of the request to the bytes of the answer, past tonic's router and codecs.
//!
//! The common case touches memory only, waits for nothing, and allocates the answer's buffer and what hyper itself
//! needs. What is out of the ordinary (a broken frame, a field of the wrong kind, compression) takes the way of all other
//! RPCs: [`Read::Other`] hands the bytes on. `batch.rs` does the same for many at once.

pub(super) mod batch;
mod body;
mod request;
mod response;

#[cfg(test)]
mod tests;

pub(super) use body::{Once, Replay};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::cache::Term;
use crate::model::CallerId;
use crate::service::{Introspection, IntrospectionRequest, Result, Service};

/// The path.
pub(super) const PATH: &str = "/sophic.auth.v1.AuthService/Introspect";
/// Bytes of a message; a token and a workspace's name are much shorter.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// How a message is compressed, if it is.
const ENCODING: &str = "grpc-encoding";
/// Bytes of gRPC's frame before the message: a flag and the length.
const PREFIX: usize = 5;
/// What most answers fit into.
const ANSWER_BYTES: usize = 512;

/// What came.
pub(super) enum Read {
    /// One whole message in the clear.
    Message(Bytes),
    /// Anything else, as far as it was read: for tonic to tell what is wrong with it.
    Other(Bytes, Option<Incoming>),
}

/// Whether messages may be compressed: for others to decompress.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.contains_key(ENCODING)
}

/// Answers from what has come already and from memory, or refuses, without waiting for anything. If that cannot be, `read`
/// is what was taken out of the body.
pub(super) fn answer_at_once(
    service: &Service,
    asker: CallerId,
    term: Term,
    body: &mut Incoming,
    read: &mut Bytes,
) -> Option<Result<Response<Once>>> {
    take_what_is_there(body, read);
    let message = message_of(read, MESSAGE_BYTES_MAX).filter(|_| body.is_end_stream())?;
    let request = request::read(message, asker)?;
    let answer = service.introspect_from_memory(&request, term).transpose()?;
    Some(answer.map(|answer| respond(&answer)))
}

/// Nearly always one frame holds it all, and is not copied.
fn take_what_is_there(body: &mut Incoming, read: &mut Bytes) {
    while !body.is_end_stream() && read.len() <= PREFIX + MESSAGE_BYTES_MAX {
        let Some(Some(Ok(frame))) = body.frame().now_or_never() else { return };
        match frame.into_data() {
            Ok(data) if read.is_empty() => *read = data,
            Ok(data) if data.is_empty() => {}
            Ok(data) => *read = [&read[..], &data[..]].concat().into(),
            Err(_trailers) => {}
        }
    }
}

/// Reads the rest of the request's body, of which `read` was read already.
pub(super) async fn read(
    headers: &HeaderMap,
    read: Bytes,
    mut body: Incoming,
    bytes_max: usize,
) -> Read {
    if is_encoded(headers) {
        return Read::Other(read, Some(body));
    }
    let mut gathered = read;
    while gathered.len() <= PREFIX + bytes_max {
        let whole = message_of(&gathered, bytes_max).is_some();
        if whole && body.is_end_stream() {
            return Read::Message(gathered.slice(PREFIX..));
        }
        match data(&mut body).await {
            Some(more) if gathered.is_empty() => gathered = more,
            Some(more) => gathered = append(gathered, &more),
            None if whole => return Read::Message(gathered.slice(PREFIX..)),
            None => return Read::Other(gathered, None),
        }
    }
    Read::Other(gathered, Some(body))
}

/// In place, but for the first time.
fn append(gathered: Bytes, more: &[u8]) -> Bytes {
    let mut buffer = BytesMut::from(gathered);
    buffer.extend_from_slice(more);
    buffer.freeze()
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

/// The message, if these bytes are one frame, not compressed, and nothing else.
fn message_of(bytes: &[u8], bytes_max: usize) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let whole = prefix[0] == 0 && length as usize == message.len();
    (whole && message.len() <= bytes_max).then_some(message)
}

/// The request; nothing if it is for others to say what is wrong with it.
pub(super) fn parse(message: &[u8], asker: CallerId) -> Option<IntrospectionRequest<'_>> {
    request::read(message, asker)
}

/// The answer, from memory if memory knows.
pub(super) async fn answer(
    service: &Service,
    request: &IntrospectionRequest<'_>,
) -> Result<Response<Once>> {
    Ok(respond(&service.introspect(request).await?))
}

fn respond(answer: &Introspection) -> Response<Once> {
    let mut buffer = begun(ANSWER_BYTES);
    response::write(answer, &mut buffer);
    sent(buffer)
}

/// Room for a frame's prefix, and for about so many bytes of a message.
fn begun(bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(PREFIX + bytes);
    buffer.extend_from_slice(&[0; PREFIX]);
    buffer
}

/// The response whose message stands behind the room for its prefix.
fn sent(mut buffer: BytesMut) -> Response<Once> {
    // A thousand answers are some hundred thousand bytes.
    let length = u32::try_from(buffer.len() - PREFIX).unwrap_or(u32::MAX);
    buffer[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    let mut response = Response::new(Once::new(buffer.freeze()));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The message as it came, in its frame.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}
