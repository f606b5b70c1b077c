//! The hot path: Introspect from the bytes of the request to the bytes of the answer, past tonic's router and codecs.
//!
//! The common case touches memory only, waits for nothing, and allocates the answer's buffer and what hyper itself
//! needs. What is out of the ordinary (a broken frame, a field of the wrong kind, compression) takes the way of all other
//! RPCs: `message.rs` hands the bytes on. `batch.rs` does the same for many at once.

pub(super) mod batch;
mod body;
pub(super) mod decoded;
mod request;
mod response;

#[cfg(test)]
mod tests;

pub(super) use body::Once;
pub(super) use request::bytes;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response};
use hyper::body::Incoming;

use super::message::{self, PREFIX};
use crate::cache::Term;
use crate::model::CallerId;
use crate::service::{Introspection, Result, Rpc, Service};

/// What most answers fit into.
const ANSWER_BYTES: usize = 512;

/// Answers from what has come already and from memory, or refuses, without waiting for anything. If that cannot be, `read`
/// is what was taken out of the body.
pub(super) fn answer_at_once(
    service: &Service,
    asker: CallerId,
    term: Term,
    body: &mut Incoming,
    read: &mut Bytes,
) -> Option<Result<Response<Once>>> {
    let message = message::at_once(body, read, Rpc::Introspect.row().request_bytes_max)?;
    let request = request::read(message, asker)?;
    let answer = service.introspect_from_memory(&request, term).transpose()?;
    Some(answer.map(|answer| respond(&answer)))
}

/// The answer to a message, from memory if memory knows; nothing if it is for others to say what is wrong with it.
pub(super) async fn answer(
    service: &Service,
    message: &[u8],
    asker: CallerId,
) -> Option<Result<Response<Once>>> {
    let request = request::read(message, asker)?;
    Some(service.introspect(&request).await.map(|answer| respond(&answer)))
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
