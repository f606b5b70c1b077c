//! People, and their roles in workspaces.

use super::{DisplayName, Role, Timestamp, UserId, WorkspaceId};

/// A user as the store keeps it, deleted ones included: their row holds the id until it is put again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Opaque.
    pub id: UserId,
    /// For people.
    pub display_name: DisplayName,
    /// Their personal access tokens are refused.
    pub disabled: bool,
    /// The watermark: personal access tokens made under a smaller generation are revoked.
    pub generation: i64,
    /// When the watermark last rose.
    pub generation_time: Option<Timestamp>,
    /// When it was first put.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was deleted, if it is.
    pub delete_time: Option<Timestamp>,
}

/// A user's role in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// The user.
    pub user_id: UserId,
    /// The role.
    pub role: Role,
    /// When the user became a member.
    pub create_time: Timestamp,
    /// When the role was last changed.
    pub update_time: Timestamp,
}
