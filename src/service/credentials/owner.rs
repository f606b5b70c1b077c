//! The owner of a credential that is made or changed, held against change, and whether the acting user may.

use crate::model::{
    Credential, CredentialId, CredentialKind, Membership, Owner, Role, Timestamp, User, UserId,
    Workspace, WorkspaceName, WorkspacePolicy,
};
use crate::policy::{self, AccessOutcome, EffectivePolicy};
use crate::service::{Context, Reason, Requester, Result, Service, ServiceError};
use crate::store::{Lock, WriteTx};

/// Whose a new credential is to be.
#[derive(Debug, Clone)]
pub enum NewOwner {
    /// A key of this workspace, by slug or id.
    Workspace(WorkspaceName),
    /// A personal access token of this user, with this downscope.
    User(UserId, Role),
}

impl NewOwner {
    /// What is made for it.
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Workspace(_) => CredentialKind::Key,
            Self::User(..) => CredentialKind::Pat,
        }
    }
}

/// An owner, held against change to the end of the transaction.
pub(in crate::service) struct Held {
    pub(in crate::service) owner: Owner,
    /// Its watermark.
    pub(in crate::service) generation: i64,
    /// What holds for its credentials.
    pub(in crate::service) policy: EffectivePolicy,
}

impl Service {
    /// The owner of a new credential; nothing is made for one that may not use it.
    pub(in crate::service) async fn owner_for(
        &self,
        tx: &mut dyn WriteTx,
        acting_user: Option<&UserId>,
        owner: NewOwner,
    ) -> Result<Held> {
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
                    active_user(tx, user).await?;
                }
                let workspace = workspace.ok_or(Reason::WorkspaceNotFound)?;
                if let Some(user) = acting_user {
                    let membership = tx.find_membership(&workspace.id, user, Lock::Share).await?;
                    let role = membership.map(|membership| membership.role);
                    open(policy::access_to_workspace_keys(role), Reason::WorkspaceNotFound)?;
                }
                let policy = self.options.policy.for_kind(kind, &policy.unwrap_or_default());
                held_workspace(workspace, policy)
            }
            NewOwner::User(id, max_role) => {
                let lock = self.lock_of_user();
                if let Some(user) = acting_user {
                    if *user == id {
                        // The stronger lock first: two that both hold the weaker one would wait for each other.
                        tx.find_user_row(&id, lock).await?;
                    }
                    active_user(tx, user).await?;
                    open(policy::access_to_user_pats(user, &id), Reason::UserNotFound)?;
                }
                let user = tx.find_user_row(&id, lock).await?;
                let user =
                    user.filter(|user| user.delete_time.is_none()).ok_or(Reason::UserNotFound)?;
                let policy = self.options.policy.for_kind(kind, &WorkspacePolicy::default());
                held_user(&user, max_role, policy)
            }
        }
    }

    /// The credential, held to be changed, and then its owner too, for an acting user who may see it. What its owner lacks
    /// is only told once the credential may be seen.
    pub(in crate::service) async fn hold_with_owner(
        &self,
        tx: &mut dyn WriteTx,
        id: CredentialId,
        kind: Option<CredentialKind>,
        acting_user: Option<&UserId>,
    ) -> Result<(Credential, Result<Held>)> {
        // Whose it is never changes, so it may be read before the locks are taken in their order.
        let known = tx.peek_credential(id).await?;
        let held = match known.as_ref().map(|known| (known.kind, &known.owner)) {
            Some((kind, Owner::Workspace(id))) => {
                let workspace = tx.find_workspace_row(id, self.lock_of_workspace()).await?;
                let policy = tx.find_workspace_policy(id, Lock::Update).await?.unwrap_or_default();
                let policy = self.options.policy.for_kind(kind, &policy);
                let workspace = workspace.ok_or(ServiceError::from(Reason::WorkspaceNotFound));
                workspace.and_then(|workspace| held_workspace(workspace, policy))
            }
            Some((kind, Owner::User { id, max_role })) => {
                let user = tx.find_user_row(id, self.lock_of_user()).await?;
                let policy = self.options.policy.for_kind(kind, &WorkspacePolicy::default());
                let user = user.ok_or(ServiceError::from(Reason::UserNotFound));
                user.and_then(|user| held_user(&user, *max_role, policy))
            }
            None => Err(Reason::CredentialNotFound.into()),
        };
        let credential = hold_known(tx, known.as_ref(), id, kind, acting_user).await?;
        Ok((credential, held))
    }

    /// The credential, held to be changed, for an acting user who may see it.
    pub(in crate::service) async fn hold(
        &self,
        tx: &mut dyn WriteTx,
        id: CredentialId,
        kind: Option<CredentialKind>,
        acting_user: Option<&UserId>,
    ) -> Result<Credential> {
        // Only whose it is, which never changes, and only for the locks that an acting user takes before it.
        let known = match acting_user {
            Some(_) => tx.peek_credential(id).await?,
            None => None,
        };
        hold_known(tx, known.as_ref(), id, kind, acting_user).await
    }

    /// Refuses one more live credential than there may be; `counted` of them are known not to count.
    pub(in crate::service) async fn check_live(
        &self,
        tx: &mut dyn WriteTx,
        held: &Held,
        now: Timestamp,
        counted: u32,
    ) -> Result<()> {
        let Some(most) = held.policy.limits.live_max else { return Ok(()) };
        let room = most.saturating_add(counted);
        let live = tx.count_live_credentials(&held.owner, held.generation, now, room).await?;
        if live < room {
            return Ok(());
        }
        let error = ServiceError::from(Reason::CredentialsMaxReached);
        Err(error.with("max", most.to_string()))
    }

    /// Where credentials are counted, those who make them wait for each other.
    const fn lock_of_workspace(&self) -> Lock {
        if self.options.policy.keys.live_max.is_some() { Lock::Update } else { Lock::Share }
    }

    const fn lock_of_user(&self) -> Lock {
        if self.options.policy.pats.live_max.is_some() { Lock::Update } else { Lock::Share }
    }
}

fn held_workspace(workspace: Workspace, policy: EffectivePolicy) -> Result<Held> {
    if workspace.disabled {
        return Err(Reason::WorkspaceDisabled.into());
    }
    let generation = workspace.generation;
    Ok(Held { owner: Owner::Workspace(workspace.id), generation, policy })
}

fn held_user(user: &User, max_role: Role, policy: EffectivePolicy) -> Result<Held> {
    if user.disabled {
        return Err(Reason::UserDisabled.into());
    }
    let owner = Owner::User { id: user.id.clone(), max_role };
    Ok(Held { owner, generation: user.generation, policy })
}

/// Takes the locks that are left, in their order: the acting user, their membership, the credential.
async fn hold_known(
    tx: &mut dyn WriteTx,
    known: Option<&Credential>,
    id: CredentialId,
    kind: Option<CredentialKind>,
    acting_user: Option<&UserId>,
) -> Result<Credential> {
    let mut membership = None;
    if let Some(user) = acting_user {
        active_user(tx, user).await?;
        if let Some(Owner::Workspace(workspace)) = known.map(|known| &known.owner) {
            membership = tx.find_membership(workspace, user, Lock::Share).await?;
        }
    }
    let credential = tx.find_credential(id, Lock::Update).await?;
    let credential = credential.ok_or(Reason::CredentialNotFound)?;
    if kind.is_some_and(|kind| kind != credential.kind) {
        return Err(Reason::CredentialNotFound.into());
    }
    if let Some(user) = acting_user {
        see(user, &credential, membership)?;
    }
    Ok(credential)
}

/// The acting user, held against change.
pub(in crate::service) async fn active_user(tx: &mut dyn WriteTx, id: &UserId) -> Result<User> {
    let user = tx.find_user_row(id, Lock::Share).await?;
    let active = user.filter(|user| !user.disabled && user.delete_time.is_none());
    active.ok_or_else(|| Reason::ActingUserNotActive.into())
}

/// Turns what the policy says into an answer.
pub(in crate::service) fn open(access: AccessOutcome, hidden: Reason) -> Result<()> {
    match access {
        AccessOutcome::Allowed => Ok(()),
        AccessOutcome::Forbidden => Err(Reason::RoleTooLow.into()),
        AccessOutcome::Hidden => Err(hidden.into()),
    }
}

/// That the acting user may see the credential, which is to manage it.
pub(in crate::service) fn see(
    user: &UserId,
    credential: &Credential,
    membership: Option<Membership>,
) -> Result<()> {
    let role = membership.map(|membership| membership.role);
    open(policy::access_to_credential(user, credential, role), Reason::CredentialNotFound)
}

/// Who made it, as `Credential::creator` has it.
pub(in crate::service) fn creator(context: &Context, acting_user: Option<&UserId>) -> String {
    match (acting_user, &context.requester) {
        (Some(user), _) => format!("user:{user}"),
        (None, Requester::Caller(caller)) => format!("caller:{}", caller.name),
        (None, Requester::Operator(name)) => format!("operator:{name}"),
    }
}
