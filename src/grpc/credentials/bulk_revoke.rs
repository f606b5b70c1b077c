//! Revokes all credentials that match a filter.

use std::sync::Arc;

use tonic::{Request, Response};

use super::{RpcResult, fields};
use crate::grpc::audit::time;
use crate::grpc::{convert, pb};
use crate::model::CredentialId;
use crate::service::{BulkRevoke, Service, Violations};

/// `BulkRevoke`.
pub(in crate::grpc) async fn revoke(
    service: &Arc<Service>,
    request: Request<pb::BulkRevokeRequest>,
) -> RpcResult<pb::BulkRevokeResponse> {
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
        unused_for: message.unused_for.and_then(|unused| {
            convert::non_negative_duration(&mut violations, "unused_for", unused)
        }),
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
        sample: sample.map(|credential| fields::credential(credential, now)).collect(),
        revision: revoked.revision.0,
        next_page_token: revoked.next_token,
    }))
}
