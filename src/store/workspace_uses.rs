//! The personal access tokens that have acted in a workspace, and bars against them.

use async_trait::async_trait;

use super::Result;
use crate::model::{Credential, CredentialId, Role, Timestamp, User, WorkspaceId};

/// Reads in which workspaces personal access tokens were last used. [`super::BulkStore::write_last_uses`] writes it.
#[async_trait]
pub trait WorkspaceUseStore: Send + Sync {
    /// Lists the personal access tokens that have acted in this generation of the workspace, the most recently used there
    /// first, after the position `after`.
    async fn list_workspace_pats(
        &self,
        workspace: &WorkspaceId,
        generation: i64,
        after: Option<UsePosition>,
        limit: u32,
    ) -> Result<Vec<UsedPat>>;
    /// Returns the database's query plan for that page, line by line.
    async fn explain_workspace_pats(
        &self,
        workspace: &WorkspaceId,
        generation: i64,
        after: Option<UsePosition>,
        limit: u32,
    ) -> Result<Vec<String>>;
}

/// Reads and bars personal access tokens that act in a workspace.
#[async_trait]
pub trait WorkspaceUseTx: Send {
    /// Returns the personal access token of this id, with its last use in this generation of the workspace, if any. Locks
    /// nothing.
    async fn find_workspace_pat(
        &mut self,
        workspace: &WorkspaceId,
        generation: i64,
        id: CredentialId,
    ) -> Result<Option<UsedPat>>;
    /// Returns the personal access tokens of this family, by id, in the form of
    /// [`super::CredentialTx::find_credential`]. Locks them for a change. Until this transaction ends, no rotation adds
    /// one, since it would have to lock its predecessor.
    async fn find_pat_family(&mut self, family_id: CredentialId) -> Result<Vec<Credential>>;
    /// Writes the bars and the versions of these credentials, which are locked.
    async fn write_bars(&mut self, credentials: &[Credential]) -> Result<()>;
}

/// A personal access token and its part in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedPat {
    /// The token.
    pub credential: Credential,
    /// Its user, who may be deleted.
    pub user: User,
    /// Role of the user in the workspace, if they are a member.
    pub role: Option<Role>,
    /// When the token was last allowed in the workspace. `None` if it never was.
    pub last_use_time: Option<Timestamp>,
}

/// A position in a list of the personal access tokens of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsePosition {
    /// Time of the last use in the workspace.
    pub time: Timestamp,
    /// Id of the token.
    pub id: CredentialId,
}
