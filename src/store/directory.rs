//! Workspaces and their names, users, memberships.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{Membership, Slug, Timestamp, User, UserId, Workspace, WorkspaceId};

/// Reads workspaces, users and memberships.
#[async_trait]
pub trait DirectoryStore: Send + Sync {
    /// The workspace of this slug or id, unless it is deleted.
    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>>;
    /// Workspaces after this one, by id, without deleted ones.
    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>>;
    /// The user, unless deleted.
    async fn find_user(&self, id: &UserId) -> Result<Option<User>>;
    /// Users after this one, by id, without deleted ones.
    async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>>;
    /// The user's membership of the workspace.
    async fn find_membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>>;
    /// Memberships after this one, by workspace id, then user id.
    async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceId>,
        user: Option<&UserId>,
        after: Option<(&WorkspaceId, &UserId)>,
        limit: u32,
    ) -> Result<Vec<Membership>>;
}

/// Reads and writes workspaces and their names, users and memberships.
#[async_trait]
pub trait DirectoryTx: Send {
    /// Makes all that give or take names of workspaces wait for each other, from here to the end.
    async fn lock_workspace_names(&mut self) -> Result<()>;
    /// Who holds this name as an id, as a slug, or as a slug reserved beyond `now`.
    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>>;
    /// Reserves a slug that the workspace gives up, until `release_time`.
    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()>;
    /// Drops the reservation of a slug, if there is one.
    async fn release_slug(&mut self, slug: &Slug) -> Result<()>;
    /// The workspace of this slug or id, unless it is deleted.
    async fn find_workspace(&mut self, name: &str, lock: Lock) -> Result<Option<Workspace>>;
    /// The workspace of this id, deleted or not.
    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<Workspace>>;
    /// Inserts the workspace, or makes the row of its id look so (but for `create_time`).
    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()>;
    /// The user of this id, deleted or not.
    async fn find_user_row(&mut self, id: &UserId, lock: Lock) -> Result<Option<User>>;
    /// Inserts the user, or makes the row of its id look so (but for `create_time`).
    async fn put_user(&mut self, user: &User) -> Result<()>;
    /// The user's membership of the workspace.
    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        lock: Lock,
    ) -> Result<Option<Membership>>;
    /// Inserts the membership, or makes its row look so (but for `create_time`).
    async fn put_membership(&mut self, membership: &Membership) -> Result<()>;
    /// Drops the membership; whether there was one.
    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool>;
    /// Drops every membership of the workspace; how many there were.
    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64>;
    /// Drops every membership of the user; how many there were.
    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64>;
}

/// Who holds a name of the namespace that workspace ids and slugs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameHolder {
    /// The workspace.
    pub workspace_id: WorkspaceId,
    /// Of a slug that the workspace has given up, and that stays reserved: until when.
    pub release_time: Option<Timestamp>,
}
