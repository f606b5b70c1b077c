//! The directory: workspaces and their names, users, and memberships.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{Membership, Slug, Timestamp, User, UserId, Workspace, WorkspaceId};

/// Reads the directory.
#[async_trait]
pub trait DirectoryStore: Send + Sync {
    /// Returns the workspace of this slug or id, unless it is deleted.
    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>>;
    /// Lists the workspaces after `after` that are not deleted, by id.
    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>>;
    /// Returns the user, unless it is deleted.
    async fn find_user(&self, id: &UserId) -> Result<Option<User>>;
    /// Lists the users after `after` that are not deleted, by id.
    async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>>;
    /// The user's membership of the workspace.
    async fn find_membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>>;
    /// Lists the memberships after `after`, by workspace id, then user id.
    async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceId>,
        user: Option<&UserId>,
        after: Option<(&WorkspaceId, &UserId)>,
        limit: u32,
    ) -> Result<Vec<Membership>>;
}

/// Reads and writes the directory.
#[async_trait]
pub trait DirectoryTx: Send {
    /// Takes the lock on workspace names until the end of the transaction. Everything that assigns or releases a
    /// workspace name takes it.
    async fn lock_workspace_names(&mut self) -> Result<()>;
    /// Returns the workspace that holds this name as its id, as its slug, or as a slug reserved beyond `now`.
    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>>;
    /// Reserves a slug that the workspace has given up, until `release_time`.
    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()>;
    /// Deletes the reservation of a slug, if there is one.
    async fn release_slug(&mut self, slug: &Slug) -> Result<()>;
    /// Returns the workspace of this slug or id, unless it is deleted.
    async fn find_workspace(&mut self, name: &str, lock: Lock) -> Result<Option<Workspace>>;
    /// Returns the workspace of this id, even if it is deleted.
    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<Workspace>>;
    /// Inserts the row, or replaces the row of the same id, except `create_time`.
    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()>;
    /// Returns the user of this id, even if it is deleted.
    async fn find_user_row(&mut self, id: &UserId, lock: Lock) -> Result<Option<User>>;
    /// Inserts the row, or replaces the row of the same id, except `create_time`.
    async fn put_user(&mut self, user: &User) -> Result<()>;
    /// The user's membership of the workspace.
    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        lock: Lock,
    ) -> Result<Option<Membership>>;
    /// Inserts the membership, or replaces its row, except `create_time`.
    async fn put_membership(&mut self, membership: &Membership) -> Result<()>;
    /// Deletes the membership. Returns whether there was one.
    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool>;
    /// Deletes all memberships of the workspace. Returns the number deleted.
    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64>;
    /// Deletes all memberships of the user. Returns the number deleted.
    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64>;
}

/// The workspace that holds a name. Workspace ids and slugs share one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameHolder {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// End of the reservation, if the name is a slug that the workspace has given up.
    pub release_time: Option<Timestamp>,
}
