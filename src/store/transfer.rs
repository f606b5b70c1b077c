//! What import and export carry to and from the store, in batches.

use crate::model::{
    Credential, CredentialId, CredentialKind, Digest, Owner, User, UserId, Workspace, WorkspaceId,
};

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
