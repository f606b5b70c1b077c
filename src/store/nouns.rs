//! What the verbs of the traits take and give that is no noun of `model`: a filter, a claimed request, the holder of a name,
//! a row of the change log, a lock.

use super::CredentialOrder;
use crate::model::{
    CallerId, CredentialId, CredentialKind, CredentialState, Digest, RequestId, Revision, Scope,
    Timestamp, UserId, WorkspaceId,
};

/// Which credentials to list, and in which order. What is `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
    /// Of this kind.
    pub kind: Option<CredentialKind>,
    /// In this state.
    pub state: Option<CredentialState>,
    /// What this user sees: their own personal access tokens, and the keys of the workspaces that they are admin or
    /// owner of.
    pub visible_to: Option<UserId>,
    /// Made by this creator.
    pub creator: Option<String>,
    /// Granted this scope.
    pub scope: Option<Scope>,
    /// Expiring before this, and neither revoked nor expired yet.
    pub expires_before: Option<Timestamp>,
    /// Not used since this, or never.
    pub unused_since: Option<Timestamp>,
    /// Whose name begins with this, to the letter.
    pub name_prefix: Option<String>,
    /// Of this family.
    pub family_id: Option<CredentialId>,
    /// In which order.
    pub order: CredentialOrder,
}

/// A request that made a credential, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// Who asked: each has request ids of its own.
    pub requester: String,
    /// The id.
    pub request_id: RequestId,
    /// SHA-256 of the request's body; of no token.
    pub fingerprint: Digest,
    /// What it made; of the rotation of a caller, that.
    pub credential_id: CredentialId,
    /// When.
    pub create_time: Timestamp,
}

/// Who holds a name of the namespace that workspace ids and slugs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameHolder {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Of a slug that the workspace has given up, and that stays reserved: until when.
    pub release_time: Option<Timestamp>,
}

/// A row of the change log: what may have turned an answer around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// What changed.
    pub entity: ChangedEntity,
}

/// What changed, as a cache must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedEntity {
    /// The credential of this digest.
    Credential(Digest),
    /// A user, or their memberships.
    User(UserId),
    /// A workspace.
    Workspace(WorkspaceId),
    /// A caller.
    Caller(CallerId),
    /// All digests that were unknown: an import may have made some of them known. What is known stays as it is.
    UnknownDigests,
}

/// How firmly a transaction holds what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Others may read it in their transactions, and none may change it.
    Share,
    /// It is about to be changed.
    Update,
}
