//! Workspaces, users and memberships: idempotent upserts that keep every promise made to their credentials.

use std::sync::Arc;

use serde_json::json;

use super::audit::Entry;
use super::commit::{Done, Effect, Transaction};
use super::page::Cursor;
use super::{
    Attempt, Context, Page, PageRequest, Reason, Result, Service, ServiceError, Violations, view,
};
use crate::model::limits::SLUG_RESERVATION;
use crate::model::{
    AuditTarget, DisplayName, Invalid, Membership, Role, Slug, Timestamp, User, UserId, Workspace,
    WorkspaceId, WorkspaceName, WorkspacePolicy,
};
use crate::store::{Lock, UntoldOwner, WriteTx};

impl Service {
    /// Makes the workspace, or makes it look so. Without a policy, its own stays as it is.
    ///
    /// # Errors
    /// [`Reason::SlugTaken`], [`Reason::WorkspaceIdTaken`]; [`Reason::ArgumentInvalid`] for a policy that is laxer than
    /// the server's, unless it is the workspace's already: the server's may have become stricter.
    pub async fn put_workspace(
        self: &Arc<Self>,
        context: Context,
        id: WorkspaceId,
        slug: Slug,
        display_name: DisplayName,
        disabled: bool,
        policy: Option<WorkspacePolicy>,
    ) -> Result<Workspace> {
        let this = Arc::clone(self);
        let attempt = Attempt::on(&context, "workspace.put", &AuditTarget::Workspace(id.clone()));
        // It names a slug, and the one before must be dead when it returns.
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("put_workspace").await?;
            tx.lock_workspace_names().await?;
            let before = tx.find_workspace_row(&id, Lock::Update).await?;
            claim_names(&mut *tx, before.as_ref(), &id, &slug, now).await?;
            let live = before.as_ref().filter(|workspace| workspace.delete_time.is_none());
            let after = Workspace {
                generation: before.as_ref().map_or(0, |workspace| workspace.generation),
                generation_time: before.as_ref().and_then(|workspace| workspace.generation_time),
                create_time: live.map_or(now, |workspace| workspace.create_time),
                update_time: now,
                delete_time: None,
                id,
                slug,
                display_name,
                disabled,
            };
            tx.put_workspace(&after).await?;
            let policies = this.put_policy(&mut *tx, &after.id, policy).await?;
            let entry = Entry {
                action: "workspace.put",
                target: AuditTarget::Workspace(after.id.clone()),
                acting_user: None,
                before: live
                    .map(|live| view::with_policy(view::workspace(live), policies.0.as_ref())),
                after: Some(view::with_policy(view::workspace(&after), policies.1.as_ref())),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done(after))
        })
        .await
    }

    /// Gives the workspace its policy; the one before and the one now.
    async fn put_policy(
        &self,
        tx: &mut dyn WriteTx,
        id: &WorkspaceId,
        policy: Option<WorkspacePolicy>,
    ) -> Result<(Option<WorkspacePolicy>, Option<WorkspacePolicy>)> {
        let before = tx.find_workspace_policy(id, Lock::Update).await?;
        let Some(after) = policy.filter(|policy| before != Some(*policy)) else {
            return Ok((before, before));
        };
        let mut violations = Violations::default();
        for (field, Invalid(description)) in self.options.policy.refuse_laxer(&after) {
            violations.add(&format!("workspace.policy.{field}"), description);
        }
        violations.finish()?;
        if after == WorkspacePolicy::default() {
            tx.delete_workspace_policy(id).await?;
            return Ok((before, None));
        }
        tx.put_workspace_policy(id, &after).await?;
        Ok((before, Some(after)))
    }

    /// What each of these workspaces, which stand in the order of their ids, asks of its keys.
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

    /// The workspace of this slug or id.
    pub async fn get_workspace(&self, name: &WorkspaceName) -> Result<Workspace> {
        self.store
            .find_workspace(name.as_str())
            .await?
            .ok_or_else(|| Reason::WorkspaceNotFound.into())
    }

    /// A page of workspaces, by id.
    pub async fn list_workspaces(&self, page: &PageRequest) -> Result<Page<Workspace>> {
        let cursor = Cursor::new(page, "workspaces".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| WorkspaceId::parse(id).ok());
        let workspaces = self.store.list_workspaces(after.as_ref(), cursor.fetch).await?;
        Ok(cursor.page(workspaces, |workspace| workspace.id.to_string()))
    }

    /// Deletes a workspace: revokes its keys, drops its memberships, reserves its slug.
    pub async fn delete_workspace(
        self: &Arc<Self>,
        context: Context,
        name: WorkspaceName,
        allow_missing: bool,
    ) -> Result<()> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, "workspace.delete", "workspace")
            .asking(json!({"workspace": name.as_str()}));
        let unchanged = attempt.clone();
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("delete_workspace").await?;
            tx.lock_workspace_names().await?;
            let Some(before) = tx.find_workspace(name.as_str(), Lock::Update).await? else {
                return this
                    .missing(tx, &unchanged, allow_missing, Reason::WorkspaceNotFound)
                    .await;
            };
            let after = Workspace {
                generation: before.generation + 1,
                generation_time: Some(now),
                update_time: now,
                delete_time: Some(now),
                ..before.clone()
            };
            tx.delete_memberships_of_workspace(&after.id).await?;
            tx.delete_workspace_policy(&after.id).await?;
            let keys = (UntoldOwner::Workspace(after.id.clone()), before.generation);
            let revoked = this.record_revoked(&mut *tx, &context, keys, now).await?;
            tx.put_workspace(&after).await?;
            reserve(&mut *tx, &after.slug, &after.id, now).await?;
            let entry = Entry {
                action: "workspace.delete",
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

    /// Makes the user, or makes it look so.
    pub async fn put_user(
        self: &Arc<Self>,
        context: Context,
        id: UserId,
        display_name: DisplayName,
        disabled: bool,
    ) -> Result<User> {
        let this = Arc::clone(self);
        let attempt = Attempt::on(&context, "user.put", &AuditTarget::User(id.clone()));
        self.run(attempt, Effect::narrows_if(disabled), async move {
            let now = this.clock.now();
            let mut tx = this.begin("put_user").await?;
            let before = tx.find_user_row(&id, Lock::Update).await?;
            let live = before.as_ref().filter(|user| user.delete_time.is_none());
            let after = User {
                generation: before.as_ref().map_or(0, |user| user.generation),
                generation_time: before.as_ref().and_then(|user| user.generation_time),
                create_time: live.map_or(now, |user| user.create_time),
                update_time: now,
                delete_time: None,
                id,
                display_name,
                disabled,
            };
            tx.put_user(&after).await?;
            let entry = Entry {
                action: "user.put",
                target: AuditTarget::User(after.id.clone()),
                acting_user: None,
                before: live.map(view::user),
                after: Some(view::user(&after)),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done(after))
        })
        .await
    }

    /// The user of this id.
    pub async fn get_user(&self, id: &UserId) -> Result<User> {
        self.store.find_user(id).await?.ok_or_else(|| Reason::UserNotFound.into())
    }

    /// A page of users, by id.
    pub async fn list_users(&self, page: &PageRequest) -> Result<Page<User>> {
        let cursor = Cursor::new(page, "users".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| UserId::parse(id).ok());
        let users = self.store.list_users(after.as_ref(), cursor.fetch).await?;
        Ok(cursor.page(users, |user| user.id.to_string()))
    }

    /// Deletes a user: revokes their personal access tokens, drops their memberships.
    pub async fn delete_user(
        self: &Arc<Self>,
        context: Context,
        id: UserId,
        allow_missing: bool,
    ) -> Result<()> {
        let this = Arc::clone(self);
        let attempt = Attempt::on(&context, "user.delete", &AuditTarget::User(id.clone()));
        let unchanged = attempt.clone();
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("delete_user").await?;
            let before = tx.find_user_row(&id, Lock::Update).await?;
            let Some(before) = before.filter(|user| user.delete_time.is_none()) else {
                return this.missing(tx, &unchanged, allow_missing, Reason::UserNotFound).await;
            };
            let after = User {
                generation: before.generation + 1,
                generation_time: Some(now),
                update_time: now,
                delete_time: Some(now),
                ..before.clone()
            };
            tx.delete_memberships_of_user(&after.id).await?;
            let pats = (UntoldOwner::User(after.id.clone()), before.generation);
            let revoked = this.record_revoked(&mut *tx, &context, pats, now).await?;
            tx.put_user(&after).await?;
            let entry = Entry {
                action: "user.delete",
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

    /// Makes the user a member of the workspace, or gives them another role in it.
    pub async fn put_membership(
        self: &Arc<Self>,
        context: Context,
        workspace: WorkspaceName,
        user: UserId,
        role: Role,
    ) -> Result<Membership> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, "membership.put", "membership").asking(
            json!({"workspace": workspace.as_str(), "user_id": user.as_str(), "role": role.as_str()}));
        // Who is made an owner cannot have been more.
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
            let after = Membership {
                create_time: before.as_ref().map_or(now, |membership| membership.create_time),
                update_time: now,
                workspace_id: workspace.id,
                user_id: user.id,
                role,
            };
            tx.put_membership(&after).await?;
            let entry = Entry {
                action: "membership.put",
                target: AuditTarget::Membership(after.workspace_id.clone(), after.user_id.clone()),
                acting_user: None,
                before: before.as_ref().map(view::membership),
                after: Some(view::membership(&after)),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done(after))
        })
        .await
    }

    /// The user's membership of the workspace.
    pub async fn get_membership(
        &self,
        workspace: &WorkspaceName,
        user: &UserId,
    ) -> Result<Membership> {
        let workspace = self.get_workspace(workspace).await?;
        let membership = self.store.find_membership(&workspace.id, user).await?;
        membership.ok_or_else(|| Reason::MembershipNotFound.into())
    }

    /// A page of memberships of a workspace, of a user, or of both.
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
        let attempt = Attempt::new(&context, "membership.delete", "membership")
            .asking(json!({"workspace": workspace.as_str(), "user_id": user.as_str()}));
        let unchanged = attempt.clone();
        self.run(attempt, Effect::Narrows, async move {
            let mut tx = this.begin("delete_membership").await?;
            let Some(workspace) = tx.find_workspace(workspace.as_str(), Lock::Share).await? else {
                return this
                    .missing(tx, &unchanged, allow_missing, Reason::WorkspaceNotFound)
                    .await;
            };
            let before = tx.find_membership(&workspace.id, &user, Lock::Update).await?;
            let Some(before) = before else {
                return this
                    .missing(tx, &unchanged, allow_missing, Reason::MembershipNotFound)
                    .await;
            };
            tx.delete_membership(&workspace.id, &user).await?;
            let entry = Entry {
                action: "membership.delete",
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

    /// Of what was to be deleted and is not there: refused, or allowed, and then recorded.
    async fn missing(
        &self,
        tx: Transaction,
        attempt: &Attempt,
        allow_missing: bool,
        reason: Reason,
    ) -> Result<Done<()>> {
        if !allow_missing {
            return Err(reason.into());
        }
        let committed = self.commit_unchanged(tx, attempt, json!({"real": false}), None).await?;
        Ok(committed.done(()))
    }
}

/// Sees to it that id and slug are free for this workspace, and reserves the slug that it gives up (DESIGN §5).
pub(super) async fn claim_names(
    tx: &mut dyn WriteTx,
    before: Option<&Workspace>,
    id: &WorkspaceId,
    slug: &Slug,
    now: Timestamp,
) -> Result<()> {
    let taken_by_another = |holder: Option<crate::store::NameHolder>| {
        holder.is_some_and(|holder| holder.workspace_id != *id)
    };
    if taken_by_another(tx.find_name_holder(slug.as_str(), now).await?) {
        return Err(ServiceError::from(Reason::SlugTaken));
    }
    if before.is_none() && taken_by_another(tx.find_name_holder(id.as_str(), now).await?) {
        return Err(ServiceError::from(Reason::WorkspaceIdTaken));
    }
    // A deleted workspace's slug was reserved when it was deleted.
    let given_up = before.filter(|before| before.delete_time.is_none() && before.slug != *slug);
    if let Some(before) = given_up {
        reserve(tx, &before.slug, id, now).await?;
    }
    tx.release_slug(slug).await?;
    Ok(())
}

async fn reserve(
    tx: &mut dyn WriteTx,
    slug: &Slug,
    id: &WorkspaceId,
    now: Timestamp,
) -> Result<()> {
    // The clock would have to stand in the year 9999 for the reservation not to fit.
    let release_time = now.checked_add(SLUG_RESERVATION).unwrap_or(now);
    Ok(tx.reserve_slug(slug, id, release_time).await?)
}
