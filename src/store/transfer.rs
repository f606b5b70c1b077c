//! What import and export carry to and from the store, in batches.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::model::{
    Credential, CredentialId, CredentialKind, Digest, Owner, User, UserId, Workspace, WorkspaceId,
};

/// Reads what export writes, and what import compares with.
#[async_trait]
pub trait TransferStore: Send + Sync {
    /// Credentials after this one, by id, with their digests; not those of owners that are deleted, which are dead for
    /// good.
    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>>;
    /// What is there of what a batch of an import names.
    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound>;
}

/// Writes what import reads.
#[async_trait]
pub trait TransferTx: Send {
    /// What is there of what a batch of an import names, the owners held as by [`Lock::Share`].
    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound>;
    /// The same, nothing held: before the locks are taken in their order.
    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound>;
    /// Inserts them all, as one change of the log: [`ChangedEntity::UnknownDigests`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if an id or digest is taken.
    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()>;
    /// Gives the change log a new epoch: whoever answers from memory drops it all and starts afresh.
    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()>;
}

/// A credential with the digest of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCredential {
    /// The credential.
    pub credential: Credential,
    /// Of its token.
    pub digest: Digest,
}

/// Which credentials to export. What is `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
}

/// What a batch of an import names, to be looked for all at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportNames {
    /// Workspaces, by slug or id.
    pub workspaces: Vec<String>,
    /// Users.
    pub users: Vec<UserId>,
    /// Digests that are to be new.
    pub digests: Vec<Digest>,
    /// Ids that are to be new.
    pub ids: Vec<CredentialId>,
}

/// What is there of what a batch names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportFound {
    /// Workspaces that are not deleted.
    pub workspaces: Vec<Workspace>,
    /// Users who are not deleted.
    pub users: Vec<User>,
    /// Credentials of one of the digests or ids.
    pub credentials: Vec<TakenCredential>,
}

/// A credential that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenCredential {
    /// Its id.
    pub id: CredentialId,
    /// Of its token.
    pub digest: Digest,
    /// What it is.
    pub kind: CredentialKind,
    /// Whose it is.
    pub owner: Owner,
}
