//! Locks on a credential and its owner, and the check that the acting user may manage it.

use crate::model::{
    Credential, CredentialId, CredentialKind, Owner, Role, Timestamp, User, UserId, Workspace,
    WorkspaceId, WorkspaceName, WorkspacePolicy,
};
use crate::policy::{self, AccessOutcome, EffectivePolicy};
use crate::service::{Context, Reason, Requester, Result, Service, ServiceError};
use crate::store::{Lock, WriteTx};

/// Owner of a credential to create.
#[derive(Debug, Clone)]
pub enum NewOwner {
    /// Workspace of a key, by slug or id.
    Workspace(WorkspaceName),
    /// User of a personal access token, and the highest role that it may exercise.
    User(UserId, Role),
}

impl NewOwner {
    /// Returns the kind of credential that this owner gets.
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Workspace(_) => CredentialKind::Key,
            Self::User(..) => CredentialKind::Pat,
        }
    }
}

/// An owner that is locked until the end of the transaction.
pub(in crate::service) struct LockedOwner {
    pub(in crate::service) owner: Owner,
    /// Generation of the owner. Credentials of a lower generation are revoked.
    pub(in crate::service) generation: i64,
    /// Policy for the credentials of this owner.
    pub(in crate::service) policy: EffectivePolicy,
}

impl Service {
    /// Locks the owner of a new credential. Fails if the owner is disabled.
    pub(in crate::service) async fn lock_new_owner(
        &self,
        tx: &mut dyn WriteTx,
        acting_user: Option<&UserId>,
        owner: NewOwner,
    ) -> Result<LockedOwner> {
        let kind = owner.kind();
        match owner {
            NewOwner::Workspace(name) => {
                let lock = self.lock_of_workspace();
                let workspace = tx.find_workspace(name.as_str(), lock).await?;
                let policy = match &workspace {
                    Some(workspace) => {
                        tx.find_workspace_policy(&workspace.id, Lock::Update).await?
                    }
                    None => None,
                };
                if let Some(user) = acting_user {
                    lock_active_user(tx, user).await?;
                }
                let workspace = workspace.ok_or(Reason::WorkspaceNotFound)?;
                if let Some(user) = acting_user {
                    let access = policy::access_to_workspace_keys;
                    lock_access(tx, &workspace.id, user, access).await?;
                }
                let policy = self.options.policy.for_kind(kind, &policy.unwrap_or_default());
                usable_workspace(workspace, policy)
            }
            NewOwner::User(id, max_role) => {
                let lock = self.lock_of_user();
                if let Some(user) = acting_user {
                    if *user == id {
                        // Takes the stronger lock first. Two transactions that both hold the weaker lock would wait for
                        // each other.
                        tx.find_user_row(&id, lock).await?;
                    }
                    lock_active_user(tx, user).await?;
                    require_access(policy::access_to_user_pats(user, &id), Reason::UserNotFound)?;
                }
                let user = tx.find_user_row(&id, lock).await?;
                let user =
                    user.filter(|user| user.delete_time.is_none()).ok_or(Reason::UserNotFound)?;
                let policy = self.options.policy.for_kind(kind, &WorkspacePolicy::default());
                usable_user(&user, max_role, policy)
            }
        }
    }

    /// Returns the workspace. On behalf of a user, only if the user has this access to it.
    pub(in crate::service) async fn accessible_workspace(
        &self,
        name: &WorkspaceName,
        acting_user: Option<&UserId>,
        access: fn(Option<Role>) -> AccessOutcome,
    ) -> Result<Workspace> {
        let workspace = self.get_workspace(name).await?;
        if let Some(user) = acting_user {
            let membership = self.store.find_membership(&workspace.id, user).await?;
            let role = membership.map(|membership| membership.role);
            require_access(access(role), Reason::WorkspaceNotFound)?;
        }
        Ok(workspace)
    }

    /// Locks the credential and its owner for a change, if the acting user may see the credential. The inner result is
    /// the error of an owner that cannot be used. It is returned only after the credential is known to be visible.
    pub(in crate::service) async fn lock_credential_and_owner(
        &self,
        tx: &mut dyn WriteTx,
        id: CredentialId,
        kind: Option<CredentialKind>,
        acting_user: Option<&UserId>,
    ) -> Result<(Credential, Result<LockedOwner>)> {
        // The owner of a credential never changes, so it may be read before the locks are taken in their order.
        let peeked = tx.peek_credential(id).await?;
        let mut generation = None;
        let locked = match peeked.as_ref().map(|peeked| (peeked.kind, &peeked.owner)) {
            Some((kind, Owner::Workspace(id))) => {
                let workspace = tx.find_workspace_row(id, self.lock_of_workspace()).await?;
                generation = workspace.as_ref().map(|workspace| workspace.generation);
                let policy = tx.find_workspace_policy(id, Lock::Update).await?.unwrap_or_default();
                let policy = self.options.policy.for_kind(kind, &policy);
                let workspace = workspace.ok_or(ServiceError::from(Reason::WorkspaceNotFound));
                workspace.and_then(|workspace| usable_workspace(workspace, policy))
            }
            Some((kind, Owner::User { id, max_role })) => {
                let user = tx.find_user_row(id, self.lock_of_user()).await?;
                let policy = self.options.policy.for_kind(kind, &WorkspacePolicy::default());
                let user = user.ok_or(ServiceError::from(Reason::UserNotFound));
                user.and_then(|user| usable_user(&user, *max_role, policy))
            }
            None => Err(Reason::CredentialNotFound.into()),
        };
        let peeked = peeked.as_ref().map(|peeked| (&peeked.owner, generation));
        let credential = lock_peeked_credential(tx, peeked, id, kind, acting_user).await?;
        Ok((credential, locked))
    }

    /// Locks the credential for a change, if the acting user may see it.
    pub(in crate::service) async fn lock_credential(
        &self,
        tx: &mut dyn WriteTx,
        id: CredentialId,
        kind: Option<CredentialKind>,
        acting_user: Option<&UserId>,
    ) -> Result<Credential> {
        // Only the owner is used, which never changes. It decides which locks come before the credential.
        let peeked = match acting_user {
            Some(_) => tx.peek_credential(id).await?,
            None => None,
        };
        let mut generation = None;
        if let Some(Owner::Workspace(id)) = peeked.as_ref().map(|peeked| &peeked.owner) {
            let workspace = tx.find_workspace_row(id, Lock::Share).await?;
            generation = workspace.map(|workspace| workspace.generation);
        }
        let peeked = peeked.as_ref().map(|peeked| (&peeked.owner, generation));
        lock_peeked_credential(tx, peeked, id, kind, acting_user).await
    }

    /// Fails if the owner already has the maximum number of live credentials, not counting `counted` of them.
    pub(in crate::service) async fn check_live_max(
        &self,
        tx: &mut dyn WriteTx,
        locked: &LockedOwner,
        now: Timestamp,
        counted: u32,
    ) -> Result<()> {
        let Some(most) = locked.policy.limits.live_max else { return Ok(()) };
        let room = most.saturating_add(counted);
        let live = tx.count_live_credentials(&locked.owner, locked.generation, now, room).await?;
        if live < room {
            return Ok(());
        }
        let error = ServiceError::from(Reason::CredentialsMaxReached);
        Err(error.with("max", most.to_string()))
    }

    /// With a maximum, transactions that create credentials must wait for each other, or each would count too few.
    const fn lock_of_workspace(&self) -> Lock {
        if self.options.policy.keys.live_max.is_some() { Lock::Update } else { Lock::Share }
    }

    const fn lock_of_user(&self) -> Lock {
        if self.options.policy.pats.live_max.is_some() { Lock::Update } else { Lock::Share }
    }
}

fn usable_workspace(workspace: Workspace, policy: EffectivePolicy) -> Result<LockedOwner> {
    if workspace.disabled {
        return Err(Reason::WorkspaceDisabled.into());
    }
    let generation = workspace.generation;
    Ok(LockedOwner { owner: Owner::Workspace(workspace.id), generation, policy })
}

fn usable_user(user: &User, max_role: Role, policy: EffectivePolicy) -> Result<LockedOwner> {
    if user.disabled {
        return Err(Reason::UserDisabled.into());
    }
    let owner = Owner::User { id: user.id.clone(), max_role };
    Ok(LockedOwner { owner, generation: user.generation, policy })
}

/// Takes the remaining locks in their order: the acting user, their membership, the credential. `peeked` is its owner,
/// with the generation of a workspace.
async fn lock_peeked_credential(
    tx: &mut dyn WriteTx,
    peeked: Option<(&Owner, Option<i64>)>,
    id: CredentialId,
    kind: Option<CredentialKind>,
    acting_user: Option<&UserId>,
) -> Result<Credential> {
    let mut viewer = None;
    if let Some(id) = acting_user {
        let user = lock_active_user(tx, id).await?;
        let mut role = None;
        if let Some((Owner::Workspace(workspace), _)) = peeked {
            let membership = tx.find_membership(workspace, id, Lock::Share).await?;
            role = membership.map(|membership| membership.role);
        }
        let generation = peeked.and_then(|(_, generation)| generation);
        viewer = Some(Viewer { user, role, generation });
    }
    let credential = tx.find_credential(id, Lock::Update).await?;
    let credential = credential.ok_or(Reason::CredentialNotFound)?;
    if kind.is_some_and(|kind| kind != credential.kind) {
        return Err(Reason::CredentialNotFound.into());
    }
    if let Some(viewer) = viewer {
        viewer.require_visible(&credential)?;
    }
    Ok(credential)
}

/// Locks the acting user. Fails if the user is disabled or does not exist.
pub(in crate::service) async fn lock_active_user(
    tx: &mut dyn WriteTx,
    id: &UserId,
) -> Result<User> {
    let user = tx.find_user_row(id, Lock::Share).await?;
    let active = user.filter(|user| !user.disabled && user.delete_time.is_none());
    active.ok_or_else(|| Reason::ActingUserNotActive.into())
}

/// Fails unless the acting user has this access to the workspace. Locks their membership, so that they keep it until the
/// end of the transaction.
pub(super) async fn lock_access(
    tx: &mut dyn WriteTx,
    workspace: &WorkspaceId,
    user: &UserId,
    access: fn(Option<Role>) -> AccessOutcome,
) -> Result<()> {
    let membership = tx.find_membership(workspace, user, Lock::Share).await?;
    let role = membership.map(|membership| membership.role);
    require_access(access(role), Reason::WorkspaceNotFound)
}

/// Turns an answer of the policy into a result. `hidden` is the error for what the acting user may not see.
pub(in crate::service) fn require_access(access: AccessOutcome, hidden: Reason) -> Result<()> {
    match access {
        AccessOutcome::Allowed => Ok(()),
        AccessOutcome::Forbidden => Err(Reason::RoleTooLow.into()),
        AccessOutcome::Hidden => Err(hidden.into()),
    }
}

/// An acting user who asks for a credential, and what decides whether they may see it.
pub(super) struct Viewer {
    pub(super) user: User,
    /// Their role in the workspace of a key.
    pub(super) role: Option<Role>,
    /// The present generation of the workspace of a key. `None` if there is no such workspace.
    pub(super) generation: Option<i64>,
}

impl Viewer {
    /// Fails unless the acting user may see the credential. A user who may see it may also manage it.
    pub(super) fn require_visible(&self, credential: &Credential) -> Result<()> {
        let generation = match &credential.owner {
            Owner::Workspace(_) => self.generation,
            // The personal access tokens of other users are hidden in any case.
            Owner::User { .. } => Some(self.user.generation),
        };
        let access = generation.map_or(AccessOutcome::Hidden, |generation| {
            policy::access_to_credential(&self.user.id, credential, self.role, generation)
        });
        require_access(access, Reason::CredentialNotFound)
    }
}

/// Returns the creator in the form that [`Credential::creator`] has.
pub(in crate::service) fn creator(context: &Context, acting_user: Option<&UserId>) -> String {
    match (acting_user, &context.requester) {
        (Some(user), _) => format!("user:{user}"),
        (None, Requester::Caller(caller)) => format!("caller:{}", caller.name),
        (None, Requester::Operator(name)) => format!("operator:{name}"),
    }
}
