//! Rotates a credential: creates its successor and ends it after an overlap.

use std::sync::Arc;

use tonic::{Request, Response};

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::service::{Rotate, Service, Violations};

pub(in crate::grpc) async fn rotate(
    service: &Arc<Service>,
    request: Request<pb::RotateRequest>,
) -> RpcResult<pb::RotateResponse> {
    use pb::rotate_request::Expiration as Choice;
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let id = fields::credential_id(&mut violations, "credential_id", &message.credential_id);
    let overlap = message
        .overlap
        .and_then(|overlap| convert::non_negative_duration(&mut violations, "overlap", overlap));
    let expiration = match message.expiration {
        None => None,
        Some(Choice::ExpireTime(time)) => convert::expire_at(&mut violations, time),
        Some(Choice::Ttl(ttl)) => convert::expire_after(&mut violations, ttl),
    };
    let Some(id) = id else { return convert::refuse(violations) };
    violations.finish()?;
    let request = Rotate {
        id,
        kind: None,
        overlap,
        expiration,
        acting_user: message.acting_user,
        request_id: message.request_id,
        etag: message.etag,
    };
    let rotated = service.rotate(context, request).await?;
    let now = service.now();
    Ok(Response::new(pb::RotateResponse {
        credential: Some(fields::credential(rotated.credential, now)),
        token: rotated.token.expose().to_owned(),
        predecessor: Some(fields::credential(rotated.predecessor, now)),
        end_pending: rotated.end_pending,
    }))
}
