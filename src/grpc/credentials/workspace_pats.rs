//! The personal access tokens that have acted in a workspace.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::service::{BarPat, ListWorkspacePats, Service, Violations, WorkspacePat};

pub(in crate::grpc) async fn list(
    service: &Arc<Service>,
    request: Request<pb::ListWorkspacePatsRequest>,
) -> RpcResult<pb::ListWorkspacePatsResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let workspace = convert::workspace_name(&mut violations, "workspace", &message.workspace);
    let Some(workspace) = workspace else { return convert::refuse(violations) };
    let acting_user = message.acting_user;
    let page = convert::page_request(message.page_size, message.page_token);
    let request = ListWorkspacePats { workspace, acting_user, page };
    let page = service.list_workspace_pats(&context, &request).await?;
    let pats = page.items.into_iter().map(pb_pat).collect();
    let next_page_token = page.next_token;
    Ok(Response::new(pb::ListWorkspacePatsResponse { pats, next_page_token }))
}

pub(in crate::grpc) async fn bar(
    service: &Arc<Service>,
    request: Request<pb::BarPatRequest>,
) -> RpcResult<pb::BarPatResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let (workspace, id) = (&message.workspace, &message.credential_id);
    let bar = bar_pat(workspace, id, message.acting_user, message.reason)?;
    let pat = Some(pb_pat(service.bar_pat(context, bar).await?));
    Ok(Response::new(pb::BarPatResponse { pat }))
}

pub(in crate::grpc) async fn unbar(
    service: &Arc<Service>,
    request: Request<pb::UnbarPatRequest>,
) -> RpcResult<pb::UnbarPatResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let (workspace, id) = (&message.workspace, &message.credential_id);
    let bar = bar_pat(workspace, id, message.acting_user, message.reason)?;
    let pat = Some(pb_pat(service.unbar_pat(context, bar).await?));
    Ok(Response::new(pb::UnbarPatResponse { pat }))
}

fn bar_pat(
    workspace: &str,
    id: &str,
    acting_user: String,
    reason: String,
) -> Result<BarPat, Status> {
    let mut violations = Violations::default();
    let workspace = convert::workspace_name(&mut violations, "workspace", workspace);
    let id = fields::credential_id(&mut violations, "credential_id", id);
    let (Some(workspace), Some(id)) = (workspace, id) else { return convert::refuse(violations) };
    Ok(BarPat { workspace, id, acting_user, reason })
}

fn pb_pat(pat: WorkspacePat) -> pb::WorkspacePat {
    pb::WorkspacePat {
        credential_id: pat.credential_id.to_string(),
        user_id: pat.user_id.to_string(),
        user_display_name: pat.user_display_name.map_or_else(String::new, |name| name.to_string()),
        hint: pat.hint,
        last_use_time: pat.last_use_time.map(convert::timestamp),
        role: pat.role.map_or(pb::Role::Unspecified, crate::model::Role::to_proto).into(),
        barred: pat.barred,
        state: convert::pb_state(pat.state).into(),
    }
}
