//! `BatchIntrospect` from bytes to bytes: the messages of `IntrospectRequest` and `IntrospectResponse`, one behind the other.

use bytes::BytesMut;
use http::Response;
use prost::encoding::{WireType, decode_key};

use super::body::Once;
use super::{ANSWER_BYTES, begun, request, response, sent};
use crate::model::CallerId;
use crate::model::limits::BATCH_MAX;
use crate::service::{Introspection, IntrospectionRequest, Result, Service};

/// As [`super::answer`]: the answers are in the order of the requests.
pub(in crate::grpc) async fn answer(
    service: &Service,
    message: &[u8],
    asker: CallerId,
) -> Option<Result<Response<Once>>> {
    let requests = read(message, asker)?;
    let answers = service.introspect_many(&requests).await;
    Some(answers.map(|answers| {
        // Most answers are half as long as the longest that is usual.
        let mut buffer = begun(answers.len() * ANSWER_BYTES / 2);
        write(&answers, &mut buffer);
        sent(buffer)
    }))
}

/// The requests; nothing if it is for others to say what is wrong with them.
fn read(message: &[u8], asker: CallerId) -> Option<Vec<IntrospectionRequest<'_>>> {
    let mut rest = message;
    let mut requests = Vec::new();
    while !rest.is_empty() {
        let (1, WireType::LengthDelimited) = decode_key(&mut rest).ok()? else { return None };
        if requests.len() == BATCH_MAX {
            return None;
        }
        requests.push(request::read(request::bytes(&mut rest)?, asker)?);
    }
    Some(requests)
}

/// Appends the message.
fn write(answers: &[Introspection], buffer: &mut BytesMut) {
    for answer in answers {
        response::message(buffer, 1, |buffer| response::write(answer, buffer));
    }
}
