//! Revokes one credential, by its id or its token.

use std::sync::Arc;

use tonic::{Request, Response};
use zeroize::Zeroizing;

use super::RpcResult;
use crate::grpc::{convert, pb};
use crate::model::CredentialId;
use crate::service::{RevokeTarget, Service, Violations};

pub(in crate::grpc) async fn revoke(
    service: &Arc<Service>,
    request: Request<pb::RevokeRequest>,
) -> RpcResult<pb::RevokeResponse> {
    use pb::revoke_request::Credential as Choice;
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let target = match message.credential {
        Some(Choice::Token(token)) => Some(RevokeTarget::Token(Zeroizing::new(token))),
        Some(Choice::CredentialId(id)) => violations
            .check("credential_id", CredentialId::parse(&id))
            .map(|id| RevokeTarget::Id(id, None)),
        None => {
            violations.add("credential", "credential_id or token is required");
            None
        }
    };
    let Some(target) = target else { return convert::refuse(violations) };
    let revoked = service.revoke(context, target, &message.acting_user, &message.reason).await?;
    let effective_time = revoked.credential.and_then(|credential| credential.revoke_time);
    Ok(Response::new(pb::RevokeResponse {
        effective_time: effective_time.map(convert::timestamp),
        revision: revoked.revision.0,
    }))
}
