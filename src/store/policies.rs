//! The policies of workspaces.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{WorkspaceId, WorkspacePolicy};

/// Reads the policies of workspaces.
#[async_trait]
pub trait PolicyStore: Send + Sync {
    /// What this workspace asks of its keys, if it asks anything.
    async fn find_workspace_policy(&self, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>>;
    /// What the workspaces from the first id to the last ask of their keys, of those that ask anything.
    async fn list_workspace_policies(
        &self,
        first: &WorkspaceId,
        last: &WorkspaceId,
    ) -> Result<Vec<(WorkspaceId, WorkspacePolicy)>>;
}

/// Reads and writes the policies of workspaces.
#[async_trait]
pub trait PolicyTx: Send {
    /// What this workspace asks of its keys, if it asks anything.
    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<WorkspacePolicy>>;
    /// Has the workspace ask this of its keys.
    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()>;
    /// Has the workspace ask nothing of its keys.
    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()>;
}
