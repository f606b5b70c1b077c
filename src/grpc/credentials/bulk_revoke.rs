//! Ending many credentials at once: by a filter, and by a list of leaked tokens.

use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::grpc::audit::time;
use crate::grpc::{convert, pb};
use crate::model::CredentialId;
use crate::service::{BulkRevoke, LeakedToken, Service, Violations};
use std::sync::Arc;

type Answer<T> = Result<Response<T>, Status>;

/// `BulkRevoke`.
pub(in crate::grpc) async fn revoke(
    service: &Arc<Service>,
    request: Request<pb::BulkRevokeRequest>,
) -> Answer<pb::BulkRevokeResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let request = BulkRevoke {
        workspace: convert::optional(&message.workspace)
            .and_then(|name| convert::workspace_name(&mut violations, "workspace", name)),
        user: convert::optional(&message.user)
            .and_then(|id| convert::user_id(&mut violations, "user", id)),
        family_id: convert::optional(&message.family_id)
            .and_then(|id| violations.check("family_id", CredentialId::parse(id))),
        creator: message.creator,
        created_before: time(&mut violations, "created_before", message.created_before),
        last_used_before: time(&mut violations, "last_used_before", message.last_used_before),
        dry_run: message.dry_run,
        reason: message.reason,
        acting_user: message.acting_user,
        page_token: message.page_token,
    };
    violations.finish()?;
    let revoked = service.bulk_revoke(context, request, |_| ()).await?;
    let now = service.now();
    let sample = revoked.sample.into_iter();
    Ok(Response::new(pb::BulkRevokeResponse {
        revoked_count: i64::try_from(revoked.count).unwrap_or(i64::MAX),
        sample: sample.map(|credential| convert::credential(credential, now)).collect(),
        revision: revoked.revision.0,
        next_page_token: revoked.next_token,
    }))
}

/// `RevokeLeaked`.
pub(in crate::grpc) async fn revoke_leaked(
    service: &Arc<Service>,
    request: Request<pb::RevokeLeakedRequest>,
) -> Answer<pb::RevokeLeakedResponse> {
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
        credential: result.credential.map(|credential| convert::credential(credential, now)),
        revoked_now: result.revoked_now,
    });
    Ok(Response::new(pb::RevokeLeakedResponse { results: results.collect() }))
}
