//! Creation of missing owners during an import, in the transaction that writes their credentials.

use super::super::super::audit::Entry;
use super::super::super::directory::workspaces::{NameClaim, claim_names};
use super::super::super::{Context, Kind, Service, view};
use super::super::TransferError;
use crate::model::{
    AuditAction, AuditTarget, Clock, DisplayName, Invalid, Owner, PatPolicy, Slug, Timestamp, User,
    UserId, Workspace, WorkspaceId,
};
use crate::store::{Lock, StoredCredential, WriteTx};

impl Service {
    /// Creates the owners of these credentials and these other workspaces, where they do not exist and can be created.
    pub(super) async fn create_owners(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        orphans: &[StoredCredential],
        mut workspaces: Vec<WorkspaceId>,
    ) -> Result<(), TransferError> {
        let now = self.clock.now();
        let owner = |orphan: &StoredCredential| orphan.credential.owner.clone();
        let mut users = Vec::new();
        for owner in orphans.iter().map(owner) {
            match owner {
                Owner::Workspace(id) => workspaces.push(id),
                Owner::User { id, .. } => users.push(id),
            }
        }
        workspaces.sort();
        workspaces.dedup();
        users.sort();
        users.dedup();
        if !workspaces.is_empty() {
            tx.lock_workspace_names().await?;
        }
        for id in workspaces {
            if let Some(workspace) = create_workspace(tx, id, &*self.clock).await? {
                let after = view::workspace(&workspace);
                self.record(tx, context, AuditTarget::Workspace(workspace.id), after).await?;
            }
        }
        for id in users {
            if let Some(user) = create_user(tx, id, now).await? {
                let after = view::user(&user);
                self.record(tx, context, AuditTarget::User(user.id), after).await?;
            }
        }
        Ok(())
    }

    async fn record(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        target: AuditTarget,
        after: serde_json::Value,
    ) -> Result<(), TransferError> {
        let action = if matches!(target, AuditTarget::User(_)) {
            AuditAction::UserPut
        } else {
            AuditAction::WorkspacePut
        };
        let reason = Some("an import names it");
        let entry =
            Entry { action, target, acting_user: None, before: None, after: Some(after), reason };
        let event = self.audit_event(context, entry)?;
        Ok(tx.insert_audit_events(std::slice::from_ref(&event)).await?)
    }
}

/// Creates a workspace with its id as slug and name. `None` if it exists by now, if the slug belongs to another one, or
/// if it was deleted, because an old file must not bring it back.
async fn create_workspace(
    tx: &mut dyn WriteTx,
    id: WorkspaceId,
    clock: &dyn Clock,
) -> Result<Option<Workspace>, TransferError> {
    let now = clock.now();
    let spelled = (Slug::parse(id.as_str()), DisplayName::parse(id.as_str()));
    let (Ok(slug), Ok(display_name)) = spelled else { return Ok(None) };
    if tx.find_workspace_row(&id, Lock::Update).await?.is_some() {
        return Ok(None);
    }
    let claim = NameClaim { before: None, id: &id, slug: &slug };
    match claim_names(tx, &[claim], clock).await {
        Err(error) if error.reason.kind() == Kind::AlreadyExists => return Ok(None),
        claimed => claimed?,
    }
    let workspace = Workspace {
        generation: 0,
        generation_time: None,
        create_time: now,
        update_time: now,
        delete_time: None,
        id,
        slug,
        display_name,
        disabled: false,
        pat_policy: PatPolicy::default(),
    };
    tx.put_workspace(&workspace).await?;
    Ok(Some(workspace))
}

/// Creates a user with their id as name. `None` if they exist by now or were deleted.
async fn create_user(
    tx: &mut dyn WriteTx,
    id: UserId,
    now: Timestamp,
) -> Result<Option<User>, TransferError> {
    if tx.find_user_row(&id, Lock::Update).await?.is_some() {
        return Ok(None);
    }
    // Every id is also a valid name.
    let display_name: Result<DisplayName, Invalid> = DisplayName::parse(id.as_str());
    let Ok(display_name) = display_name else { return Ok(None) };
    let user = User {
        generation: 0,
        generation_time: None,
        create_time: now,
        update_time: now,
        delete_time: None,
        id,
        display_name,
        disabled: false,
    };
    tx.put_user(&user).await?;
    Ok(Some(user))
}
