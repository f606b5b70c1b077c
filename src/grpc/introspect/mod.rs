//! The hot path: Introspect from the bytes of the request to the bytes of the answer, without tonic's router and
//! codecs.
//!
//! The common case reads only memory, never waits, and allocates only the buffer of the answer and what hyper needs.
//! Unusual requests (a broken frame, a field of the wrong type, compression) go through tonic like all other RPCs:
//! `message.rs` passes their bytes on. `batch.rs` does the same for `BatchIntrospect`.

pub(super) mod batch;
pub(super) mod decoded;
mod request;
mod response;
mod unary_body;

#[cfg(test)]
mod tests;

pub(super) use request::read_bytes;
pub(super) use unary_body::UnaryBody;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response};
use hyper::body::Incoming;

use super::message::{self, PREFIX_BYTES};
use crate::cache::LeaseSnapshot;
use crate::model::CallerId;
use crate::service::{Introspection, Result, Rpc, Service};

/// Size that most answers fit into.
const ANSWER_BYTES: usize = 512;

/// Answers or refuses a request without waiting, from the bytes received so far and from memory. `None` if that is not
/// possible. Bytes taken out of the body are in `read`.
pub(super) fn try_answer_from_memory(
    service: &Service,
    caller_id: CallerId,
    snapshot: LeaseSnapshot,
    body: &mut Incoming,
    read: &mut Bytes,
) -> Option<Result<Response<UnaryBody>>> {
    let message = message::received_message(body, read, Rpc::Introspect.row().request_bytes_max)?;
    let request = request::read(message, caller_id)?;
    let answer = service.introspect_from_memory(&request, snapshot).transpose()?;
    Some(answer.map(|answer| encode_response(&answer)))
}

/// Answers a message, from memory if possible. `None` if it is unusual or invalid, and `decoded.rs` has to answer.
pub(super) async fn answer(
    service: &Service,
    message: &[u8],
    caller_id: CallerId,
) -> Option<Result<Response<UnaryBody>>> {
    let request = request::read(message, caller_id)?;
    Some(service.introspect(&request).await.map(|answer| encode_response(&answer)))
}

fn encode_response(answer: &Introspection) -> Response<UnaryBody> {
    let mut buffer = start_frame(ANSWER_BYTES);
    response::write(answer, &mut buffer);
    finish_frame(buffer)
}

/// Returns a buffer that begins with space for the frame's prefix and has capacity for a message of `bytes`.
fn start_frame(bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    buffer.extend_from_slice(&[0; PREFIX_BYTES]);
    buffer
}

/// Fills in the prefix of the frame, and makes it the response.
fn finish_frame(mut buffer: BytesMut) -> Response<UnaryBody> {
    // 1,000 answers, the most, are some hundred thousand bytes.
    let length = u32::try_from(buffer.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    buffer[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    let mut response = Response::new(UnaryBody::new(buffer.freeze()));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
