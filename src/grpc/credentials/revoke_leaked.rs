//! Revokes the credentials of leaked tokens.

use std::sync::Arc;

use tonic::{Request, Response};
use zeroize::Zeroizing;

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::service::{LeakedToken, Service};

/// `RevokeLeaked`.
pub(in crate::grpc) async fn revoke_leaked(
    service: &Arc<Service>,
    request: Request<pb::RevokeLeakedRequest>,
) -> RpcResult<pb::RevokeLeakedResponse> {
    let context = convert::context(&request)?;
    let tokens = request.into_inner().tokens.into_iter();
    let tokens = tokens.map(|leaked| LeakedToken {
        token: Zeroizing::new(leaked.token),
        url: leaked.url,
        reason: leaked.reason,
    });
    let results = service.revoke_leaked(context, tokens.collect()).await?;
    let now = service.now();
    let results = results.into_iter().map(|result| pb::LeakedTokenResult {
        real: result.credential.is_some(),
        credential: result.credential.map(|credential| fields::credential(credential, now)),
        revoked_now: result.revoked_now,
    });
    Ok(Response::new(pb::RevokeLeakedResponse { results: results.collect() }))
}
