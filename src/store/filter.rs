//! What restricts a list of audit events, and what is to be ended many at once.

use crate::model::{CredentialId, Timestamp, UserId, WorkspaceId};

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

/// Which audit events to list. What is `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Not before this.
    pub start_time: Option<Timestamp>,
    /// Before this.
    pub end_time: Option<Timestamp>,
    /// Of this caller, by name.
    pub caller: Option<String>,
    /// On behalf of this user.
    pub acting_user: Option<UserId>,
    /// On this kind of thing.
    pub target_kind: Option<String>,
    /// On this thing.
    pub target_id: Option<String>,
    /// Of this action.
    pub action: Option<String>,
}
