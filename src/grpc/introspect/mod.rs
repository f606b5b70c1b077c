//! The hot path: Introspect from the bytes of the request to the bytes of the answer, past tonic's router and codecs.
//!
//! The common case touches memory only, waits for nothing, and allocates the answer's buffer and what hyper itself
//! needs. What is out of the ordinary (a broken frame, a field of the wrong kind, compression) takes the way of all other
//! RPCs: [`Read::Other`] hands the bytes on.

mod body;
mod request;
mod response;

#[cfg(test)]
mod tests;

pub(super) use body::{Once, Replay};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::model::CallerId;
use crate::service::{Introspection, IntrospectionRequest, Result, Service};

/// The path.
pub(super) const PATH: &str = "/sophic.auth.v1.AuthService/Introspect";
/// Bytes of a message; a token and a workspace's name are much shorter.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of gRPC's frame before the message: a flag and the length.
const PREFIX: usize = 5;
/// What most answers fit into.
const ANSWER_BYTES: usize = 512;

/// What came.
pub(super) enum Read {
    /// One whole message in the clear.
    Message(Bytes),
    /// Anything else, as far as it was read: for tonic to tell what is wrong with it.
    Other(BytesMut, Option<Incoming>),
}

/// Reads the request's body.
pub(super) async fn read(headers: &HeaderMap, mut body: Incoming) -> Read {
    let mut gathered = BytesMut::new();
    if headers.contains_key("grpc-encoding") {
        return Read::Other(gathered, Some(body));
    }
    // Nearly always one frame holds it all, and is not copied.
    let first = match data(&mut body).await {
        Some(first) if message_of(&first).is_some() && http_body::Body::is_end_stream(&body) => {
            return Read::Message(first.slice(PREFIX..));
        }
        Some(first) => first,
        None => return Read::Other(gathered, Some(body)),
    };
    gathered.extend_from_slice(&first);
    while gathered.len() <= PREFIX + MESSAGE_BYTES_MAX {
        match data(&mut body).await {
            Some(more) => gathered.extend_from_slice(&more),
            None if message_of(&gathered).is_some() => {
                return Read::Message(gathered.freeze().slice(PREFIX..));
            }
            None => return Read::Other(gathered, None),
        }
    }
    Read::Other(gathered, Some(body))
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
fn message_of(bytes: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = bytes.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    let whole = prefix[0] == 0 && length as usize == message.len();
    (whole && message.len() <= MESSAGE_BYTES_MAX).then_some(message)
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
    let mut buffer = BytesMut::with_capacity(ANSWER_BYTES);
    buffer.extend_from_slice(&[0; PREFIX]);
    response::write(answer, &mut buffer);
    // An answer is some hundred bytes.
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
