//! `BatchIntrospect` from bytes to bytes: a sequence of the messages of `Introspect`.

use bytes::BytesMut;
use http::Response;
use prost::encoding::{WireType, decode_key};

use super::unary_body::UnaryBody;
use super::{ANSWER_BYTES, finish_frame, request, response, start_frame};
use crate::model::CallerId;
use crate::model::limits::BATCH_INTROSPECTIONS_MAX;
use crate::service::{Introspection, IntrospectionRequest, Result, Service};

/// Answers a batch like [`super::answer`]. The answers are in the order of the requests.
pub(in crate::grpc) async fn answer(
    service: &Service,
    message: &[u8],
    caller_id: CallerId,
) -> Option<Result<Response<UnaryBody>>> {
    let requests = read(message, caller_id)?;
    let answers = service.introspect_many(&requests).await;
    Some(answers.map(|answers| {
        // Most answers are half as long as `ANSWER_BYTES`.
        let mut buffer = start_frame(answers.len() * ANSWER_BYTES / 2);
        write(&answers, &mut buffer);
        finish_frame(buffer)
    }))
}

/// Reads the requests. `None` if they are unusual or invalid, and `decoded.rs` has to answer.
fn read(message: &[u8], caller_id: CallerId) -> Option<Vec<IntrospectionRequest<'_>>> {
    let mut rest = message;
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let (1, WireType::LengthDelimited) = decode_key(&mut rest).ok()? else { return None };
        if requests.len() == BATCH_INTROSPECTIONS_MAX {
            return None;
        }
        requests.push(request::read(request::read_bytes(&mut rest)?, caller_id)?);
    }
    Some(requests)
}

/// Appends the encoded response.
fn write(answers: &[Introspection], buffer: &mut BytesMut) {
    for answer in answers {
        response::message(buffer, 1, |buffer| response::write(answer, buffer));
    }
}
