//! What the audit log has yet to tell.

use uuid::Uuid;

use crate::model::{CredentialId, Timestamp, UserId, WorkspaceId};

/// Credentials that died with their owner, of which the audit log has yet to tell, each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Its own; older ones come first.
    pub id: Uuid,
    /// Whose they were.
    pub owner: UntoldOwner,
    /// The generation that they are of, which ended with the owner.
    pub generation: i64,
    /// When.
    pub revoke_time: Timestamp,
    /// Who did it, as the log has it.
    pub caller: String,
    /// From where.
    pub remote_address: Option<String>,
    /// Why.
    pub reason: String,
    /// Those up to this one, by id, are told.
    pub told_id: CredentialId,
    /// So many are.
    pub told_count: i64,
}

/// Whose credentials died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UntoldOwner {
    /// Keys of this workspace.
    Workspace(WorkspaceId),
    /// Personal access tokens of this user.
    User(UserId),
}
