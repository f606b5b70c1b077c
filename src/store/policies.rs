//! Workspace policies: limits on the keys of one workspace.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{WorkspaceId, WorkspacePolicy};

/// Reads workspace policies.
#[async_trait]
pub trait PolicyStore: Send + Sync {
    /// Returns the policy of this workspace, if it has one.
    async fn find_workspace_policy(&self, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>>;
    /// Lists the policies of the workspaces from the first id to the last, inclusive. Workspaces without a policy are
    /// left out.
    async fn list_workspace_policies(
        &self,
        first: &WorkspaceId,
        last: &WorkspaceId,
    ) -> Result<Vec<(WorkspaceId, WorkspacePolicy)>>;
}

/// Reads and writes workspace policies.
#[async_trait]
pub trait PolicyTx: Send {
    /// Returns the policy of this workspace, if it has one.
    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<WorkspacePolicy>>;
    /// Sets the policy of the workspace.
    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()>;
    /// Deletes the policy of the workspace.
    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()>;
}
