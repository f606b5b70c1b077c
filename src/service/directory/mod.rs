//! Workspaces, users and memberships. Writes are idempotent upserts.

pub(super) mod workspaces;

pub use workspaces::PutWorkspace;

use std::sync::Arc;

use serde_json::json;

use super::audit::Entry;
use super::commit::{Done, Effect, Transaction};
use super::page::Cursor;
use super::{Attempt, Context, Page, PageRequest, Reason, Result, Service, Violations, view};
use crate::model::{
    AuditAction, AuditTarget, DisplayName, Membership, PatPolicy, Role, User, UserId, Workspace,
    WorkspaceId, WorkspaceName, WorkspacePolicy,
};
use crate::store::{Lock, PendingEndsOwner};
use workspaces::reserve;

/// A user to create or change. A field that is `None` is not changed. A new user needs a name.
#[derive(Debug, Clone)]
pub struct PutUser {
    /// Id of the user.
    pub id: UserId,
    /// Display name.
    pub display_name: Option<DisplayName>,
    /// Whether the user is disabled. New users are not.
    pub disabled: Option<bool>,
}

impl Service {
    /// Returns the key policies of these workspaces, which must be in order of their ids.
    pub async fn policies_of(
        &self,
        workspaces: &[Workspace],
    ) -> Result<Vec<Option<WorkspacePolicy>>> {
        let Some((first, last)) = workspaces.first().zip(workspaces.last()) else {
            return Ok(Vec::new());
        };
        let found = self.store.list_workspace_policies(&first.id, &last.id).await?;
        let policy = |id: &WorkspaceId| {
            let index = found.binary_search_by(|(of, _)| of.cmp(id)).ok()?;
            found.get(index).map(|(_, policy)| *policy)
        };
        Ok(workspaces.iter().map(|workspace| policy(&workspace.id)).collect())
    }

    /// Returns the workspace with this slug or id, if it exists.
    ///
    /// # Errors
    /// If the store is unavailable.
    pub async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        Ok(self.store.find_workspace(name).await?)
    }

    /// Returns the user with this id, if it exists.
    ///
    /// # Errors
    /// If the store is unavailable.
    pub async fn find_user(&self, id: &UserId) -> Result<Option<User>> {
        Ok(self.store.find_user(id).await?)
    }

    /// Returns the workspace with this slug or id.
    pub async fn get_workspace(&self, name: &WorkspaceName) -> Result<Workspace> {
        let found = self.find_workspace(name.as_str()).await?;
        found.ok_or_else(|| Reason::WorkspaceNotFound.into())
    }

    /// Returns a page of workspaces, ordered by id.
    pub async fn list_workspaces(&self, page: &PageRequest) -> Result<Page<Workspace>> {
        let cursor = Cursor::new(page, "workspaces".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| WorkspaceId::parse(id).ok());
        let workspaces = self.store.list_workspaces(after.as_ref(), cursor.fetch).await?;
        Ok(cursor.page(workspaces, |workspace| workspace.id.to_string()))
    }

    /// Deletes a workspace: revokes its keys, deletes its memberships and reserves its slug.
    pub async fn delete_workspace(
        self: &Arc<Self>,
        context: Context,
        name: WorkspaceName,
        allow_missing: bool,
    ) -> Result<()> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::WorkspaceDelete)
            .asking(json!({"workspace": name.as_str()}));
        let unchanged = attempt.clone();
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("delete_workspace").await?;
            tx.lock_workspace_names().await?;
            let Some(before) = tx.find_workspace(name.as_str(), Lock::Update).await? else {
                return this
                    .finish_missing(tx, &unchanged, allow_missing, Reason::WorkspaceNotFound)
                    .await;
            };
            let after = Workspace {
                generation: before.generation + 1,
                generation_time: Some(now),
                update_time: now,
                delete_time: Some(now),
                pat_policy: PatPolicy::default(),
                ..before.clone()
            };
            tx.delete_memberships_of_workspace(&after.id).await?;
            tx.delete_workspace_policy(&after.id).await?;
            let keys = (PendingEndsOwner::Workspace(after.id.clone()), before.generation);
            let revoked = this.record_owned_ends(&mut *tx, &context, keys, now).await?;
            tx.put_workspace(&after).await?;
            reserve(&mut *tx, &after.slug, &after.id, now).await?;
            let entry = Entry {
                action: AuditAction::WorkspaceDelete,
                target: AuditTarget::Workspace(after.id),
                acting_user: None,
                before: Some(view::workspace(&before)),
                after: Some(revoked),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done(()))
        })
        .await
    }

    /// Creates the user, or changes the given fields.
    pub async fn put_user(self: &Arc<Self>, context: Context, request: PutUser) -> Result<User> {
        let this = Arc::clone(self);
        let PutUser { id, display_name, disabled } = request;
        let attempt = Attempt::on(&context, AuditAction::UserPut, &AuditTarget::User(id.clone()));
        self.run(attempt, Effect::narrows_if(disabled == Some(true)), async move {
            let now = this.clock.now();
            let mut tx = this.begin("put_user").await?;
            let before = tx.find_user_row(&id, Lock::Update).await?;
            let live = before.as_ref().filter(|user| user.delete_time.is_none());
            let mut violations = Violations::default();
            let display_name = display_name.or_else(|| live.map(|user| user.display_name.clone()));
            let Some(display_name) = display_name else {
                violations.add("user.display_name", "is required for a new user");
                return Err(violations.into_error());
            };
            let mut after = User {
                generation: before.as_ref().map_or(0, |user| user.generation),
                generation_time: before.as_ref().and_then(|user| user.generation_time),
                create_time: live.map_or(now, |user| user.create_time),
                update_time: now,
                delete_time: None,
                id,
                display_name,
                disabled: disabled.unwrap_or(live.is_some_and(|user| user.disabled)),
            };
            let changed = live.is_none_or(|user| {
                after.display_name != user.display_name || after.disabled != user.disabled
            });
            if let Some(user) = live.filter(|_| !changed) {
                after.update_time = user.update_time;
            } else {
                tx.put_user(&after).await?;
            }
            let entry = Entry {
                action: AuditAction::UserPut,
                target: AuditTarget::User(after.id.clone()),
                acting_user: None,
                before: live.map(view::user),
                after: Some(view::user(&after)),
                reason: None,
            };
            Ok(this.commit_change(&context, tx, changed, entry).await?.done(after))
        })
        .await
    }

    /// Returns the user with this id.
    pub async fn get_user(&self, id: &UserId) -> Result<User> {
        self.find_user(id).await?.ok_or_else(|| Reason::UserNotFound.into())
    }

    /// Returns a page of users, ordered by id.
    pub async fn list_users(&self, page: &PageRequest) -> Result<Page<User>> {
        let cursor = Cursor::new(page, "users".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| UserId::parse(id).ok());
        let users = self.store.list_users(after.as_ref(), cursor.fetch).await?;
        Ok(cursor.page(users, |user| user.id.to_string()))
    }

    /// Deletes a user: revokes their personal access tokens and deletes their memberships.
    pub async fn delete_user(
        self: &Arc<Self>,
        context: Context,
        id: UserId,
        allow_missing: bool,
    ) -> Result<()> {
        let this = Arc::clone(self);
        let attempt =
            Attempt::on(&context, AuditAction::UserDelete, &AuditTarget::User(id.clone()));
        let unchanged = attempt.clone();
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("delete_user").await?;
            let before = tx.find_user_row(&id, Lock::Update).await?;
            let Some(before) = before.filter(|user| user.delete_time.is_none()) else {
                return this
                    .finish_missing(tx, &unchanged, allow_missing, Reason::UserNotFound)
                    .await;
            };
            let after = User {
                generation: before.generation + 1,
                generation_time: Some(now),
                update_time: now,
                delete_time: Some(now),
                ..before.clone()
            };
            tx.delete_memberships_of_user(&after.id).await?;
            let pats = (PendingEndsOwner::User(after.id.clone()), before.generation);
            let revoked = this.record_owned_ends(&mut *tx, &context, pats, now).await?;
            tx.put_user(&after).await?;
            let entry = Entry {
                action: AuditAction::UserDelete,
                target: AuditTarget::User(after.id),
                acting_user: None,
                before: Some(view::user(&before)),
                after: Some(revoked),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done(()))
        })
        .await
    }

    /// Makes the user a member of the workspace, or changes their role in it.
    pub async fn put_membership(
        self: &Arc<Self>,
        context: Context,
        workspace: WorkspaceName,
        user: UserId,
        role: Role,
    ) -> Result<Membership> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::MembershipPut).asking(
            json!({"workspace": workspace.as_str(), "user_id": user.as_str(), "role": role.as_str()}));
        // Owner is the highest role, so this cannot lower one.
        let effect = Effect::narrows_if(role < Role::Owner);
        self.run(attempt, effect, async move {
            let now = this.clock.now();
            let mut tx = this.begin("put_membership").await?;
            let workspace = tx.find_workspace(workspace.as_str(), Lock::Share).await?;
            let workspace = workspace.ok_or(Reason::WorkspaceNotFound)?;
            let user = tx.find_user_row(&user, Lock::Share).await?;
            let user =
                user.filter(|user| user.delete_time.is_none()).ok_or(Reason::UserNotFound)?;
            let before = tx.find_membership(&workspace.id, &user.id, Lock::Update).await?;
            let mut after = Membership {
                create_time: before.as_ref().map_or(now, |membership| membership.create_time),
                update_time: now,
                workspace_id: workspace.id,
                user_id: user.id,
                role,
            };
            let changed = before.as_ref().is_none_or(|before| before.role != role);
            if let Some(before) = before.as_ref().filter(|_| !changed) {
                after.update_time = before.update_time;
            } else {
                tx.put_membership(&after).await?;
            }
            let entry = Entry {
                action: AuditAction::MembershipPut,
                target: AuditTarget::Membership(after.workspace_id.clone(), after.user_id.clone()),
                acting_user: None,
                before: before.as_ref().map(view::membership),
                after: Some(view::membership(&after)),
                reason: None,
            };
            Ok(this.commit_change(&context, tx, changed, entry).await?.done(after))
        })
        .await
    }

    /// Returns the membership of the user in the workspace.
    pub async fn get_membership(
        &self,
        workspace: &WorkspaceName,
        user: &UserId,
    ) -> Result<Membership> {
        let workspace = self.get_workspace(workspace).await?;
        let membership = self.store.find_membership(&workspace.id, user).await?;
        membership.ok_or_else(|| Reason::MembershipNotFound.into())
    }

    /// Returns a page of memberships of a workspace, of a user, or of both.
    pub async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceName>,
        user: Option<&UserId>,
        page: &PageRequest,
    ) -> Result<Page<Membership>> {
        if workspace.is_none() && user.is_none() {
            let mut violations = Violations::default();
            violations.add("workspace", "workspace or user is required");
            return Err(violations.into_error());
        }
        let workspace = match workspace {
            Some(name) => Some(self.get_workspace(name).await?.id),
            None => None,
        };
        let cursor = Cursor::new(page, format!("memberships {workspace:?} {user:?}"))?;
        let after = cursor.after.as_deref().and_then(|position| {
            let (workspace, user) = position.split_once('/')?;
            Some((WorkspaceId::parse(workspace).ok()?, UserId::parse(user).ok()?))
        });
        let after = after.as_ref().map(|(workspace, user)| (workspace, user));
        let memberships =
            self.store.list_memberships(workspace.as_ref(), user, after, cursor.fetch).await?;
        Ok(cursor.page(memberships, |membership| {
            format!("{}/{}", membership.workspace_id, membership.user_id)
        }))
    }

    /// Removes the user from the workspace.
    pub async fn delete_membership(
        self: &Arc<Self>,
        context: Context,
        workspace: WorkspaceName,
        user: UserId,
        allow_missing: bool,
    ) -> Result<()> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::MembershipDelete)
            .asking(json!({"workspace": workspace.as_str(), "user_id": user.as_str()}));
        let unchanged = attempt.clone();
        self.run(attempt, Effect::Narrows, async move {
            let mut tx = this.begin("delete_membership").await?;
            let Some(workspace) = tx.find_workspace(workspace.as_str(), Lock::Share).await? else {
                return this
                    .finish_missing(tx, &unchanged, allow_missing, Reason::WorkspaceNotFound)
                    .await;
            };
            let before = tx.find_membership(&workspace.id, &user, Lock::Update).await?;
            let Some(before) = before else {
                return this
                    .finish_missing(tx, &unchanged, allow_missing, Reason::MembershipNotFound)
                    .await;
            };
            tx.delete_membership(&workspace.id, &user).await?;
            let entry = Entry {
                action: AuditAction::MembershipDelete,
                target: AuditTarget::Membership(workspace.id, user),
                acting_user: None,
                before: Some(view::membership(&before)),
                after: None,
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done(()))
        })
        .await
    }

    /// Answers a deletion of something that does not exist: an error, or success if `allow_missing` is set.
    async fn finish_missing(
        &self,
        tx: Transaction,
        attempt: &Attempt,
        allow_missing: bool,
        reason: Reason,
    ) -> Result<Done<()>> {
        if !allow_missing {
            return Err(reason.into());
        }
        let nothing = json!({"real": false});
        Ok(self.commit_unchanged(Some(tx), attempt, nothing, None).await?.done(()))
    }
}
