//! `DirectoryService`: workspaces, users and memberships.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{convert, pb};
use crate::model::{DisplayName, Slug, UserId, Workspace, WorkspaceId};
use crate::service::{PutUser, PutWorkspace, Service, Violations};

type RpcResult<T> = Result<Response<T>, Status>;

/// Implements `DirectoryService`.
pub(super) struct DirectoryFace(pub(super) Arc<Service>);

#[tonic::async_trait]
impl pb::directory_service_server::DirectoryService for DirectoryFace {
    async fn put_workspace(
        &self,
        request: Request<pb::PutWorkspaceRequest>,
    ) -> RpcResult<pb::PutWorkspaceResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let put = put_workspace(&mut violations, "workspace", message);
        let Some(put) = put else { return convert::refuse(violations) };
        violations.finish()?;
        let workspace = self.0.put_workspace(context, put).await?;
        let workspace = Some(self.with_policy(&workspace).await?);
        Ok(Response::new(pb::PutWorkspaceResponse { workspace }))
    }

    async fn batch_put_workspaces(
        &self,
        request: Request<pb::BatchPutWorkspacesRequest>,
    ) -> RpcResult<pb::BatchPutWorkspacesResponse> {
        let context = convert::context(&request)?;
        let mut violations = Violations::default();
        let requests = request.into_inner().requests.into_iter().enumerate();
        let puts = requests.filter_map(|(i, message)| {
            put_workspace(&mut violations, &format!("requests[{i}].workspace"), message)
        });
        let puts = puts.collect();
        violations.finish()?;
        let mut workspaces = Vec::new();
        for workspace in self.0.put_workspaces(context, puts).await? {
            workspaces.push(self.with_policy(&workspace).await?);
        }
        Ok(Response::new(pb::BatchPutWorkspacesResponse { workspaces }))
    }

    async fn get_workspace(
        &self,
        request: Request<pb::GetWorkspaceRequest>,
    ) -> RpcResult<pb::GetWorkspaceResponse> {
        let mut violations = Violations::default();
        let name =
            convert::workspace_name(&mut violations, "workspace", &request.get_ref().workspace);
        let Some(name) = name else { return convert::refuse(violations) };
        let workspace = self.0.get_workspace(&name).await?;
        let workspace = Some(self.with_policy(&workspace).await?);
        Ok(Response::new(pb::GetWorkspaceResponse { workspace }))
    }

    async fn list_workspaces(
        &self,
        request: Request<pb::ListWorkspacesRequest>,
    ) -> RpcResult<pb::ListWorkspacesResponse> {
        let message = request.into_inner();
        let page = convert::page_request(message.page_size, message.page_token);
        let page = self.0.list_workspaces(&page).await?;
        let policies = self.0.policies_of(&page.items).await?;
        Ok(Response::new(pb::ListWorkspacesResponse {
            workspaces: page
                .items
                .iter()
                .zip(policies)
                .map(|(workspace, policy)| convert::workspace(workspace, policy))
                .collect(),
            next_page_token: page.next_token,
        }))
    }

    async fn delete_workspace(
        &self,
        request: Request<pb::DeleteWorkspaceRequest>,
    ) -> RpcResult<pb::DeleteWorkspaceResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let name = convert::workspace_name(&mut violations, "workspace", &message.workspace);
        let Some(name) = name else { return convert::refuse(violations) };
        self.0.delete_workspace(context, name, message.allow_missing).await?;
        Ok(Response::new(pb::DeleteWorkspaceResponse {}))
    }

    async fn put_user(
        &self,
        request: Request<pb::PutUserRequest>,
    ) -> RpcResult<pb::PutUserResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner().user.unwrap_or_default();
        let mut violations = Violations::default();
        let id = violations.check("user.id", UserId::parse(&message.id));
        let named = convert::optional(&message.display_name).map(DisplayName::parse);
        let display_name = named.and_then(|name| violations.check("user.display_name", name));
        let Some(id) = id else { return convert::refuse(violations) };
        violations.finish()?;
        let put = PutUser { id, display_name, disabled: message.disabled };
        let user = self.0.put_user(context, put).await?;
        Ok(Response::new(pb::PutUserResponse { user: Some(convert::user(&user)) }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> RpcResult<pb::GetUserResponse> {
        let mut violations = Violations::default();
        let id = convert::user_id(&mut violations, "user", &request.get_ref().user);
        let Some(id) = id else { return convert::refuse(violations) };
        let user = Some(convert::user(&self.0.get_user(&id).await?));
        Ok(Response::new(pb::GetUserResponse { user }))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> RpcResult<pb::ListUsersResponse> {
        let message = request.into_inner();
        let page = convert::page_request(message.page_size, message.page_token);
        let page = self.0.list_users(&page).await?;
        Ok(Response::new(pb::ListUsersResponse {
            users: page.items.iter().map(convert::user).collect(),
            next_page_token: page.next_token,
        }))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> RpcResult<pb::DeleteUserResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let id = convert::user_id(&mut violations, "user", &message.user);
        let Some(id) = id else { return convert::refuse(violations) };
        self.0.delete_user(context, id, message.allow_missing).await?;
        Ok(Response::new(pb::DeleteUserResponse {}))
    }

    async fn put_membership(
        &self,
        request: Request<pb::PutMembershipRequest>,
    ) -> RpcResult<pb::PutMembershipResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let workspace = convert::workspace_name(&mut violations, "workspace", &message.workspace);
        let user = convert::user_id(&mut violations, "user", &message.user);
        if message.role == i32::from(pb::Role::Unspecified) {
            violations
                .add("role", "must be one of ROLE_VIEWER, ROLE_MEMBER, ROLE_ADMIN and ROLE_OWNER");
        }
        let role = convert::role(&mut violations, "role", message.role);
        let (Some(workspace), Some(user), Some(role)) = (workspace, user, role) else {
            return convert::refuse(violations);
        };
        let membership = self.0.put_membership(context, workspace, user, role).await?;
        let membership = Some(convert::membership(&membership));
        Ok(Response::new(pb::PutMembershipResponse { membership }))
    }

    async fn get_membership(
        &self,
        request: Request<pb::GetMembershipRequest>,
    ) -> RpcResult<pb::GetMembershipResponse> {
        let message = request.into_inner();
        let mut violations = Violations::default();
        let workspace = convert::workspace_name(&mut violations, "workspace", &message.workspace);
        let user = convert::user_id(&mut violations, "user", &message.user);
        let (Some(workspace), Some(user)) = (workspace, user) else {
            return convert::refuse(violations);
        };
        let membership = self.0.get_membership(&workspace, &user).await?;
        let membership = Some(convert::membership(&membership));
        Ok(Response::new(pb::GetMembershipResponse { membership }))
    }

    async fn list_memberships(
        &self,
        request: Request<pb::ListMembershipsRequest>,
    ) -> RpcResult<pb::ListMembershipsResponse> {
        let message = request.into_inner();
        let mut violations = Violations::default();
        let workspace = convert::optional(&message.workspace)
            .and_then(|text| convert::workspace_name(&mut violations, "workspace", text));
        let user = convert::optional(&message.user)
            .and_then(|text| convert::user_id(&mut violations, "user", text));
        violations.finish()?;
        let page = convert::page_request(message.page_size, message.page_token);
        let page = self.0.list_memberships(workspace.as_ref(), user.as_ref(), &page).await?;
        Ok(Response::new(pb::ListMembershipsResponse {
            memberships: page.items.iter().map(convert::membership).collect(),
            next_page_token: page.next_token,
        }))
    }

    async fn delete_membership(
        &self,
        request: Request<pb::DeleteMembershipRequest>,
    ) -> RpcResult<pb::DeleteMembershipResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let workspace = convert::workspace_name(&mut violations, "workspace", &message.workspace);
        let user = convert::user_id(&mut violations, "user", &message.user);
        let (Some(workspace), Some(user)) = (workspace, user) else {
            return convert::refuse(violations);
        };
        self.0.delete_membership(context, workspace, user, message.allow_missing).await?;
        Ok(Response::new(pb::DeleteMembershipResponse {}))
    }
}

/// Reads the workspace to put. `None` if its id is invalid. Every invalid field adds a violation.
fn put_workspace(
    violations: &mut Violations,
    field: &str,
    message: pb::PutWorkspaceRequest,
) -> Option<PutWorkspace> {
    let message = message.workspace.unwrap_or_default();
    let id = violations.check(&format!("{field}.id"), WorkspaceId::parse(&message.id));
    // Without a valid id, name every field that a new workspace needs.
    let given = |text: &str| id.is_none() || !text.is_empty();
    let slug = given(&message.slug).then(|| Slug::parse(&message.slug));
    let slug = slug.and_then(|slug| violations.check(&format!("{field}.slug"), slug));
    let name = given(&message.display_name).then(|| DisplayName::parse(&message.display_name));
    let name = name.and_then(|name| violations.check(&format!("{field}.display_name"), name));
    let policy = message.policy.map(|policy| convert::policy_change(violations, field, policy));
    let pat_policy =
        message.pat_policy.map(|policy| convert::pat_policy_change(violations, field, policy));
    let disabled = message.disabled;
    Some(PutWorkspace { id: id?, slug, display_name: name, disabled, policy, pat_policy })
}

impl DirectoryFace {
    /// Converts the workspace, together with its policy.
    async fn with_policy(&self, workspace: &Workspace) -> Result<pb::Workspace, Status> {
        let policies = self.0.policies_of(std::slice::from_ref(workspace)).await?;
        Ok(convert::workspace(workspace, policies.into_iter().flatten().next()))
    }
}
