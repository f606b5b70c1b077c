//! Creates a key or a personal access token.

use std::sync::Arc;

use tonic::{Request, Response};

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::model::Role;
use crate::service::{CreateCredential, Created, NewOwner, Service, Violations};

pub(in crate::grpc) async fn key(
    service: &Arc<Service>,
    request: Request<pb::CreateKeyRequest>,
) -> RpcResult<pb::CreateKeyResponse> {
    use pb::create_key_request::Expiration as Choice;
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let workspace = convert::workspace_name(&mut violations, "workspace", &message.workspace);
    let scopes = convert::scopes(&mut violations, "scopes", &message.scopes);
    let expiration = match message.expiration {
        None => None,
        Some(Choice::ExpireTime(time)) => convert::expire_at(&mut violations, time),
        Some(Choice::Ttl(ttl)) => convert::expire_after(&mut violations, ttl),
    };
    let Some(workspace) = workspace else { return convert::refuse(violations) };
    violations.finish()?;
    let created = service
        .create_credential(
            context,
            CreateCredential {
                owner: NewOwner::Workspace(workspace),
                workspaces: Vec::new(),
                name: message.name,
                scopes,
                expiration,
                ip_allowlist: message.ip_allowlist,
                annotations: message.annotations.into_iter().collect(),
                acting_user: message.acting_user,
                request_id: message.request_id,
            },
        )
        .await?;
    let (credential, token) = with_token(service, created);
    Ok(Response::new(pb::CreateKeyResponse { credential: Some(credential), token }))
}

pub(in crate::grpc) async fn pat(
    service: &Arc<Service>,
    request: Request<pb::CreatePatRequest>,
) -> RpcResult<pb::CreatePatResponse> {
    use pb::create_pat_request::Expiration as Choice;
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let user = convert::user_id(&mut violations, "user", &message.user);
    let scopes = convert::scopes(&mut violations, "scopes", &message.scopes);
    let max_role = convert::role(&mut violations, "max_role", message.max_role);
    let workspaces = fields::workspaces(&mut violations, "workspaces", &message.workspaces);
    let expiration = match message.expiration {
        None => None,
        Some(Choice::ExpireTime(time)) => convert::expire_at(&mut violations, time),
        Some(Choice::Ttl(ttl)) => convert::expire_after(&mut violations, ttl),
    };
    let Some(user) = user else { return convert::refuse(violations) };
    violations.finish()?;
    let created = service
        .create_credential(
            context,
            CreateCredential {
                owner: NewOwner::User(user, max_role.unwrap_or(Role::Owner)),
                workspaces,
                name: message.name,
                scopes,
                expiration,
                ip_allowlist: message.ip_allowlist,
                annotations: message.annotations.into_iter().collect(),
                acting_user: message.acting_user,
                request_id: message.request_id,
            },
        )
        .await?;
    let (credential, token) = with_token(service, created);
    Ok(Response::new(pb::CreatePatResponse { credential: Some(credential), token }))
}

/// Returns the credential and its token, which is shown only here.
fn with_token(service: &Service, created: Created) -> (pb::Credential, String) {
    let token = created.token.expose().to_owned();
    (fields::credential(created.credential, service.now()), token)
}
