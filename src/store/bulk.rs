//! Bulk operations on credentials.

use async_trait::async_trait;

use super::Result;
use crate::model::{
    Credential, CredentialId, LastUse, Timestamp, UserId, WorkspaceId, WorkspaceUse,
};

/// Reads credentials in bulk, and records when they were last used.
#[async_trait]
pub trait BulkStore: Send + Sync {
    /// Lists the credentials that match the filter and follow `after`, by id.
    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// Returns the largest id of all credentials, ended ones included. `None` if there are none.
    async fn last_credential_id(&self) -> Result<Option<CredentialId>>;
    /// Counts the credentials that match the filter.
    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64>;
    /// Lists up to `limit` credentials that were revoked or expired before `cutoff`, including those revoked by their
    /// owner's generation.
    async fn list_purgeable(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>>;
    /// Records when and from where credentials were last used, in its own transaction. It skips a credential for which
    /// a later use is already recorded. Returns the number recorded. Also records when personal access tokens were last
    /// used in which workspace, with the same rule: at most one use for each token and workspace. A credential or a
    /// workspace without a row is skipped. This is not a management call: it changes no answer and no etag, and no log
    /// records it.
    async fn write_last_uses(
        &self,
        uses: &[(CredentialId, LastUse)],
        in_workspaces: &[WorkspaceUse],
    ) -> Result<u64>;
}

/// Reads, revokes and deletes credentials in bulk.
#[async_trait]
pub trait BulkTx: Send {
    /// Returns those of the given credentials that exist, by id, in the form of
    /// [`super::CredentialTx::find_credential`]. Locks them for a change.
    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>>;
    /// Lists the credentials that match the filter and follow `after`, by id, like [`BulkStore::list_revocable`], and
    /// locks them for a change. The transaction must already have locked their owners. A result shorter than `limit` is
    /// the last one.
    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// Revokes these credentials and increments their versions. None of them may be revoked already.
    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()>;
    /// Deletes these credentials.
    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()>;
}

/// Selects credentials to revoke; those already revoked never match. A field that is `None` does not restrict the
/// selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevokeFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
    /// Credentials of this family.
    pub family_id: Option<CredentialId>,
    /// Credentials with at most this id.
    pub last_id: Option<CredentialId>,
    /// Credentials created by this creator.
    pub creator: Option<String>,
    /// Credentials created before this time.
    pub created_before: Option<Timestamp>,
    /// Credentials not used since this time, including those never used.
    pub last_used_before: Option<Timestamp>,
}
