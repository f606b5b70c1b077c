//! Credentials in bulk.

use async_trait::async_trait;

use super::Result;
use crate::model::{Credential, CredentialId, LastUse, Timestamp, UserId, WorkspaceId};

/// Reads credentials in bulk, and notes when they were used.
#[async_trait]
pub trait BulkStore: Send + Sync {
    /// Credentials that the filter names after this one, by id.
    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// How many credentials the filter names.
    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64>;
    /// Some credentials that were revoked or expired before `cutoff`, by themselves or with their owner's watermark.
    async fn list_dead(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>>;
    /// Notes when and from where credentials were last used, in a transaction of its own, but for those of which a later
    /// use is known; how many it noted. No management call: it changes no answer, no etag, and goes into no log.
    async fn write_last_uses(&self, uses: &[(CredentialId, LastUse)]) -> Result<u64>;
}

/// Reads, revokes and deletes credentials in bulk.
#[async_trait]
pub trait BulkTx: Send {
    /// Those of these credentials that are there, by id, as [`super::CredentialTx::find_credential`] gives them, held for a change.
    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>>;
    /// Credentials that the filter names after this one, by id, as [`BulkStore::list_revocable`] gives them, held for a change;
    /// of owners that this transaction holds. Fewer than `limit`: these were the last.
    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// Revokes these credentials, none of which is revoked, and counts their versions on.
    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()>;
    /// Drops the rows of these credentials.
    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()>;
}

/// Which credentials to end, many at once: those not revoked yet. What is `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevokeFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
    /// Of this family.
    pub family_id: Option<CredentialId>,
    /// That this creator made.
    pub creator: Option<String>,
    /// Made before this.
    pub created_before: Option<Timestamp>,
    /// Not used since this, or never.
    pub last_used_before: Option<Timestamp>,
}
