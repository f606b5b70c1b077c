//! Import and export of credentials, in batches.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::model::{
    Credential, CredentialId, CredentialKind, Digest, Owner, User, UserId, Workspace, WorkspaceId,
};

/// Reads credentials for export, and existing entries for comparison with an import.
#[async_trait]
pub trait TransferStore: Send + Sync {
    /// Lists the credentials after `after`, by id, with their digests. Credentials of deleted owners are left out: they
    /// can never be valid again.
    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>>;
    /// Returns the existing workspaces, users and credentials that a batch of an import names.
    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound>;
}

/// Writes imported credentials.
#[async_trait]
pub trait TransferTx: Send {
    /// Returns the existing workspaces, users and credentials that a batch of an import names, and locks the owners as
    /// with [`Lock::Share`](super::Lock::Share).
    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound>;
    /// Returns the same without locking anything. For use before the locks are taken in their order.
    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound>;
    /// Inserts these credentials. The change log gets one row for all of them: [`ChangedEntity::UnknownDigests`](super::ChangedEntity::UnknownDigests).
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if an id or digest is taken.
    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()>;
    /// Sets a new epoch, so that every replica drops its memory and registers again.
    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()>;
}

/// A credential with the digest of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// The credential.
    pub credential: Credential,
    /// Digest of its token.
    pub digest: Digest,
}

/// Selects credentials to export. A field that is `None` does not restrict the selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
}

/// Everything that a batch of an import names, for one look-up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportNames {
    /// Workspaces, by slug or id.
    pub workspaces: Vec<String>,
    /// Users.
    pub users: Vec<UserId>,
    /// Digests that must not exist yet.
    pub digests: Vec<Digest>,
    /// Ids that must not exist yet.
    pub ids: Vec<CredentialId>,
}

/// Entries that exist among those that a batch names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportFound {
    /// Workspaces that are not deleted.
    pub workspaces: Vec<Workspace>,
    /// Users that are not deleted.
    pub users: Vec<User>,
    /// Credentials with one of the digests or ids.
    pub credentials: Vec<TakenCredential>,
}

/// A credential that already exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenCredential {
    /// Id of the credential.
    pub id: CredentialId,
    /// Digest of its token.
    pub digest: Digest,
    /// Kind of the credential.
    pub kind: CredentialKind,
    /// Owner of the credential.
    pub owner: Owner,
}
