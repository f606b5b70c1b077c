//! Users, and their roles in workspaces.

use super::{DisplayName, Role, Timestamp, UserId, WorkspaceId};

/// A user as the store keeps it. The row of a deleted user stays, so that its id is known when it is created again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Opaque id.
    pub id: UserId,
    /// Name for people.
    pub display_name: DisplayName,
    /// Whether their personal access tokens are refused.
    pub disabled: bool,
    /// Number that rises when the user is deleted. Personal access tokens of a lower generation are revoked.
    pub generation: i64,
    /// When the generation was last raised.
    pub generation_time: Option<Timestamp>,
    /// When it was first created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was deleted. `None` if it is not.
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
