//! Updates a credential.

use std::sync::Arc;

use tonic::{Request, Response};

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::service::{Service, UpdateCredential, Violations};

/// Description of a violation in the update mask.
const UPDATABLE: &str = "must name one or more of name, annotations, ip_allowlist, scopes, expire_time and granted_workspace_ids";

pub(in crate::grpc) async fn update(
    service: &Arc<Service>,
    request: Request<pb::UpdateCredentialRequest>,
) -> RpcResult<pb::UpdateCredentialResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let new = message.credential.unwrap_or_default();
    let mut violations = Violations::default();
    let id = fields::credential_id(&mut violations, "credential.id", &new.id);
    let paths = message.update_mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        violations.add("update_mask", UPDATABLE);
    }
    let Some(id) = id else { return convert::refuse(violations) };
    let mut update = UpdateCredential {
        id,
        kind: None,
        name: None,
        annotations: None,
        ip_allowlist: None,
        scopes: None,
        expire_time: None,
        granted_workspaces: None,
        etag: new.etag,
        acting_user: message.acting_user,
    };
    for path in &paths {
        match path.as_str() {
            "name" => update.name = Some(new.name.clone()),
            "annotations" => {
                update.annotations = Some(new.annotations.clone().into_iter().collect());
            }
            "ip_allowlist" => update.ip_allowlist = Some(new.ip_allowlist.clone()),
            "scopes" => {
                let scopes = convert::scopes(&mut violations, "credential.scopes", &new.scopes);
                update.scopes = Some(scopes);
            }
            "expire_time" => match new.expire_time {
                Some(time) => {
                    update.expire_time =
                        convert::time(&mut violations, "credential.expire_time", time);
                }
                None => violations
                    .add("credential.expire_time", "may only be brought forward, not removed"),
            },
            "granted_workspace_ids" => {
                let field = "credential.granted_workspace_ids";
                let ids = fields::workspaces(&mut violations, field, &new.granted_workspace_ids);
                update.granted_workspaces = Some(ids);
            }
            _ => violations.add("update_mask", UPDATABLE),
        }
    }
    violations.finish()?;
    let credential = service.update_credential(context, update).await?;
    let credential = Some(fields::credential(credential, service.now()));
    Ok(Response::new(pb::UpdateCredentialResponse { credential }))
}
