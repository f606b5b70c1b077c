//! Keys and personal access tokens: making, showing, listing and ending them, for whoever may (`policy`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::audit::Entry;
use super::page::Cursor;
use super::{Attempt, Context, Page, PageRequest, Reason, Result, Service, Violations, view};
use crate::model::{
    Annotations, AuditTarget, Credential, CredentialId, CredentialKind, CredentialState,
    DisplayName, IpAllowlist, Membership, Owner, Permission, Reason as Why, Revision, Role,
    ScopeSet, Timestamp, User, UserId, Workspace, WorkspaceName,
};
use crate::policy::{self, Access};
use crate::store::{CredentialFilter, Lock, WriteTx};
use crate::token::{Token, TokenKind, digest_of_presented};

/// When a credential dies by itself.
#[derive(Debug, Clone, Copy)]
pub enum Expiration {
    /// At this instant.
    At(Timestamp),
    /// This long after it was made.
    After(Duration),
}

/// Whose a new credential is to be.
#[derive(Debug, Clone)]
pub enum NewOwner {
    /// A key of this workspace, by slug or id.
    Workspace(WorkspaceName),
    /// A personal access token of this user, with this downscope.
    User(UserId, Role),
}

/// A credential to be made.
#[derive(Debug, Clone)]
pub struct CreateCredential {
    /// Whose.
    pub owner: NewOwner,
    /// What to call it.
    pub name: String,
    /// At least one.
    pub scopes: ScopeSet,
    /// When it dies by itself; nothing: never.
    pub expiration: Option<Expiration>,
    /// CIDRs or addresses; none: anywhere.
    pub ip_allowlist: Vec<String>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
    /// On whose behalf; empty: the system's.
    pub acting_user: String,
}

/// A credential that was made.
#[derive(Debug)]
pub struct Created {
    /// The credential.
    pub credential: Credential,
    /// Its token, this once.
    pub token: Token,
}

/// Which credentials to list.
#[derive(Debug, Clone, Default)]
pub struct ListCredentials {
    /// Keys of this workspace, by slug or id; nothing: any.
    pub workspace: Option<WorkspaceName>,
    /// Personal access tokens of this user; nothing: any.
    pub user: Option<UserId>,
    /// Of this kind; nothing: any.
    pub kind: Option<CredentialKind>,
    /// In this state; nothing: any.
    pub state: Option<CredentialState>,
    /// On whose behalf; empty: the system's.
    pub acting_user: String,
    /// Which page.
    pub page: PageRequest,
}

/// What to revoke.
pub enum RevokeTarget {
    /// The credential of this id; of this kind only, if one is given.
    Id(CredentialId, Option<CredentialKind>),
    /// Whatever credential this presented text is the token of.
    Token(zeroize::Zeroizing<String>),
}

/// What a revocation came to.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// The credential; nothing if the text was no credential's.
    pub credential: Option<Credential>,
    /// The store's revision that contains the revocation.
    pub revision: Revision,
}

/// Fields of a new credential that were checked.
struct Checked {
    name: DisplayName,
    ip_allowlist: IpAllowlist,
    annotations: Annotations,
    expire_time: Option<Timestamp>,
}

impl Service {
    /// Makes a key or a personal access token.
    ///
    /// # Errors
    /// [`Reason::WorkspaceDisabled`] and [`Reason::UserDisabled`] too: nothing is made for an owner who may not use it.
    pub async fn create_credential(
        self: &Arc<Self>,
        context: Context,
        request: CreateCredential,
    ) -> Result<Created> {
        let this = Arc::clone(self);
        let (action, owner) = match &request.owner {
            NewOwner::Workspace(name) => ("key.create", json!({"workspace": name.as_str()})),
            NewOwner::User(id, _) => ("pat.create", json!({"user_id": id.as_str()})),
        };
        let attempt = Attempt::new(&context, action, "credential")
            .acting_for(&request.acting_user)
            .asking(owner);
        self.run(attempt, async move {
            let acting_user =
                acting_user(&context, &request.acting_user, &[Permission::CredentialsAdmin])?;
            let checked = this.check_new(&request)?;
            let (create_time, random) = this.stamp()?;
            let mut tx = this.store.begin("create_credential").await?;
            let (owner, generation, kind) =
                owner_for(&mut *tx, acting_user.as_ref(), request.owner).await?;
            let token = Token::mint(kind, &*this.random)?;
            let id = CredentialId::new(create_time, random);
            let credential = Credential {
                id,
                owner,
                generation,
                name: checked.name,
                hint: token.hint(),
                scopes: request.scopes,
                ip_allowlist: checked.ip_allowlist,
                annotations: checked.annotations,
                create_time,
                expire_time: checked.expire_time,
                disable_time: None,
                revoke_time: None,
                last_use: None,
                creator: creator(&context, acting_user.as_ref()),
                predecessor_id: None,
                family_id: id,
                version: 1,
            };
            tx.insert_credential(&credential, &token.digest()).await?;
            let entry = Entry {
                action,
                target: AuditTarget::Credential(id),
                acting_user: acting_user.as_ref(),
                before: None,
                after: Some(view::credential(&credential, create_time)),
                reason: None,
            };
            tx.commit(&this.audit_event(&context, entry)?).await?;
            Ok(Created { credential, token })
        })
        .await
    }

    /// One credential, if the acting user may see it.
    pub async fn get_credential(
        &self,
        context: &Context,
        id: CredentialId,
        acting_user_id: &str,
    ) -> Result<Credential> {
        let acting_user = acting_user(context, acting_user_id, READERS)?;
        if let Some(id) = &acting_user {
            self.require_active(id).await?;
        }
        let credential = self.store.find_credential(id).await?.ok_or(Reason::CredentialNotFound)?;
        if let Some(user) = &acting_user {
            let role = match &credential.owner {
                Owner::Workspace(workspace) => self.store.find_membership(workspace, user).await?,
                Owner::User { .. } => None,
            };
            see(user, &credential, role)?;
        }
        Ok(credential)
    }

    /// A page of credentials, oldest first, of those that the acting user may see.
    pub async fn list_credentials(
        &self,
        context: &Context,
        request: &ListCredentials,
    ) -> Result<Page<Credential>> {
        let acting_user = acting_user(context, &request.acting_user, READERS)?;
        if let Some(id) = &acting_user {
            self.require_active(id).await?;
        }
        let workspace_id = match &request.workspace {
            None => None,
            Some(name) => Some(self.workspace_to_list(name, acting_user.as_ref()).await?.id),
        };
        if let Some(user) = &request.user {
            self.check_user_to_list(user, acting_user.as_ref()).await?;
        }
        let filter = CredentialFilter {
            workspace_id,
            user_id: request.user.clone(),
            kind: request.kind,
            state: request.state,
            visible_to: acting_user,
        };
        let cursor = Cursor::new(&request.page, format!("credentials {filter:?}"))?;
        let after = cursor.after.as_deref().and_then(|id| CredentialId::parse(id).ok());
        let now = self.clock.now();
        let credentials = self.store.list_credentials(&filter, now, after, cursor.fetch).await?;
        Ok(cursor.page(credentials, |credential| credential.id.to_string()))
    }

    /// Ends a credential for good; what is ended already stays so, since when it was first.
    pub async fn revoke(
        self: &Arc<Self>,
        context: Context,
        target: RevokeTarget,
        acting_user_id: &str,
        reason: &str,
    ) -> Result<Revoked> {
        let this = Arc::clone(self);
        let attempt = match &target {
            RevokeTarget::Id(id, _) => {
                Attempt::on(&context, "credential.revoke", &AuditTarget::Credential(*id))
            }
            RevokeTarget::Token(_) => Attempt::new(&context, "credential.revoke", "credential"),
        };
        let attempt = attempt.acting_for(acting_user_id);
        let (acting_user_id, reason) = (acting_user_id.to_owned(), reason.to_owned());
        self.run(attempt, async move {
            // Who holds the text may end it, without an acting user.
            let alone: &[Permission] = match &target {
                RevokeTarget::Token(_) => BY_TOKEN,
                RevokeTarget::Id(..) => &[Permission::CredentialsAdmin],
            };
            let acting_user = acting_user(&context, &acting_user_id, alone)?;
            let mut violations = Violations::default();
            let why = violations.check("reason", Why::parse(&reason));
            violations.finish()?;
            let now = this.clock.now();
            let Some((mut tx, before)) = this.hold_to_revoke(&target, acting_user.as_ref()).await?
            else {
                return Ok(Revoked { credential: None, revision: this.store.revision().await? });
            };
            let mut after = before.clone();
            if after.revoke_time.is_none() {
                after.revoke_time = Some(now);
                after.version += 1;
                tx.update_credential(&after).await?;
            }
            let why = why.as_ref().map(Why::as_str).filter(|why| !why.is_empty());
            let entry = Entry {
                action: "credential.revoke",
                target: AuditTarget::Credential(after.id),
                acting_user: acting_user.as_ref(),
                before: Some(view::credential(&before, now)),
                after: Some(view::credential(&after, now)),
                reason: why,
            };
            let event = this.audit_event(&context, entry)?;
            let revision = this.commit_and_wait(tx, &event, &context).await?;
            Ok(Revoked { credential: Some(after), revision })
        })
        .await
    }

    /// A transaction that holds what is to be revoked; nothing if a token was given that is no credential's.
    async fn hold_to_revoke(
        &self,
        target: &RevokeTarget,
        acting_user: Option<&UserId>,
    ) -> Result<Option<(Box<dyn WriteTx>, Credential)>> {
        match target {
            RevokeTarget::Token(text) => {
                let accept_imported = self.options.accept_imported_tokens;
                let Some(digest) = digest_of_presented(text, accept_imported) else {
                    return Ok(None);
                };
                let mut tx = self.store.begin("revoke_by_token").await?;
                let credential = tx.find_credential_by_digest(&digest, Lock::Update).await?;
                Ok(credential.map(|credential| (tx, credential)))
            }
            RevokeTarget::Id(id, kind) => {
                // Whose it is never changes, so it may be read before the locks are taken in their order.
                let credential = self.store.find_credential(*id).await?;
                let mut tx = self.store.begin("revoke").await?;
                let role = match (acting_user, credential.as_ref().map(|found| &found.owner)) {
                    (Some(user), Some(Owner::Workspace(workspace))) => {
                        active_user(&mut *tx, user).await?;
                        tx.find_membership(workspace, user, Lock::Share).await?
                    }
                    (Some(user), _) => {
                        active_user(&mut *tx, user).await?;
                        None
                    }
                    (None, _) => None,
                };
                let credential = tx.find_credential(*id, Lock::Update).await?;
                let credential = credential.ok_or(Reason::CredentialNotFound)?;
                if kind.is_some_and(|kind| kind != credential.kind()) {
                    return Err(Reason::CredentialNotFound.into());
                }
                if let Some(user) = acting_user {
                    see(user, &credential, role)?;
                }
                Ok(Some((tx, credential)))
            }
        }
    }

    fn check_new(&self, request: &CreateCredential) -> Result<Checked> {
        let mut violations = Violations::default();
        let name = violations.check("name", DisplayName::parse(&request.name));
        if request.scopes.is_empty() {
            violations.add("scopes", "must name at least one of read, capture, admin");
        }
        let cidrs = request.ip_allowlist.iter().map(String::as_str);
        let ip_allowlist = violations.check("ip_allowlist", IpAllowlist::parse(cidrs));
        let annotations = Annotations::parse(request.annotations.clone());
        let annotations = violations.check("annotations", annotations);
        let expire_time = self.check_expiration(&mut violations, request.expiration);
        match (name, ip_allowlist, annotations) {
            (Some(name), Some(ip_allowlist), Some(annotations)) => {
                violations.finish()?;
                Ok(Checked { name, ip_allowlist, annotations, expire_time })
            }
            _ => Err(violations.into_error()),
        }
    }

    fn check_expiration(
        &self,
        violations: &mut Violations,
        expiration: Option<Expiration>,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        match expiration? {
            Expiration::At(time) if time > now => Some(time),
            Expiration::At(_) => {
                violations.add("expire_time", "must be in the future");
                None
            }
            Expiration::After(ttl) if ttl < Duration::from_micros(1) => {
                violations.add("ttl", "must be positive");
                None
            }
            Expiration::After(ttl) => {
                let time = now.checked_add(ttl);
                if time.is_none() {
                    violations.add("ttl", "must end before the year 10000");
                }
                time
            }
        }
    }

    async fn require_active(&self, id: &UserId) -> Result<()> {
        let user = self.store.find_user(id).await?;
        user.filter(|user| !user.disabled)
            .map(drop)
            .ok_or_else(|| Reason::ActingUserNotActive.into())
    }

    async fn workspace_to_list(
        &self,
        name: &WorkspaceName,
        acting_user: Option<&UserId>,
    ) -> Result<Workspace> {
        let workspace = self.get_workspace(name).await?;
        if let Some(user) = acting_user {
            let membership = self.store.find_membership(&workspace.id, user).await?;
            let access = policy::keys_of_workspace(membership.map(|membership| membership.role));
            open(access, Reason::WorkspaceNotFound)?;
        }
        Ok(workspace)
    }

    async fn check_user_to_list(&self, user: &UserId, acting_user: Option<&UserId>) -> Result<()> {
        match acting_user {
            Some(acting_user) => {
                open(policy::pats_of_user(acting_user, user), Reason::UserNotFound)
            }
            None => self.get_user(user).await.map(drop),
        }
    }
}

/// Who may read without an acting user.
const READERS: &[Permission] = &[Permission::CredentialsAdmin, Permission::CredentialsRead];
/// Who may revoke by token without an acting user.
const BY_TOKEN: &[Permission] =
    &[Permission::Introspect, Permission::CredentialsAdmin, Permission::CredentialsWrite];

/// On whose behalf; nothing: the system's, for which the requester must have one of `alone`.
fn acting_user(context: &Context, id: &str, alone: &[Permission]) -> Result<Option<UserId>> {
    if id.is_empty() {
        let permitted = alone.iter().any(|permission| context.permits(*permission));
        return if permitted { Ok(None) } else { Err(Reason::ActingUserRequired.into()) };
    }
    let mut violations = Violations::default();
    let id = violations.check("acting_user", UserId::parse(id));
    violations.finish().map(|()| id)
}

/// The new owner, its watermark and the kind of token, held against change; and that the acting user may.
async fn owner_for(
    tx: &mut dyn WriteTx,
    acting_user: Option<&UserId>,
    owner: NewOwner,
) -> Result<(Owner, i64, TokenKind)> {
    match owner {
        NewOwner::Workspace(name) => {
            let workspace = tx.find_workspace(name.as_str(), Lock::Share).await?;
            if let Some(user) = acting_user {
                active_user(tx, user).await?;
            }
            let workspace = workspace.ok_or(Reason::WorkspaceNotFound)?;
            if let Some(user) = acting_user {
                let membership = tx.find_membership(&workspace.id, user, Lock::Share).await?;
                let access =
                    policy::keys_of_workspace(membership.map(|membership| membership.role));
                open(access, Reason::WorkspaceNotFound)?;
            }
            if workspace.disabled {
                return Err(Reason::WorkspaceDisabled.into());
            }
            Ok((Owner::Workspace(workspace.id), workspace.generation, TokenKind::Key))
        }
        NewOwner::User(id, max_role) => {
            if let Some(user) = acting_user {
                active_user(tx, user).await?;
                open(policy::pats_of_user(user, &id), Reason::UserNotFound)?;
            }
            let user = tx.find_user_row(&id, Lock::Share).await?;
            let user =
                user.filter(|user| user.delete_time.is_none()).ok_or(Reason::UserNotFound)?;
            if user.disabled {
                return Err(Reason::UserDisabled.into());
            }
            Ok((Owner::User { id, max_role }, user.generation, TokenKind::Pat))
        }
    }
}

/// The acting user, held against change.
async fn active_user(tx: &mut dyn WriteTx, id: &UserId) -> Result<User> {
    let user = tx.find_user_row(id, Lock::Share).await?;
    let active = user.filter(|user| !user.disabled && user.delete_time.is_none());
    active.ok_or_else(|| Reason::ActingUserNotActive.into())
}

fn open(access: Access, hidden: Reason) -> Result<()> {
    match access {
        Access::Allowed => Ok(()),
        Access::Forbidden => Err(Reason::RoleTooLow.into()),
        Access::Hidden => Err(hidden.into()),
    }
}

/// That the acting user may see the credential, which is to manage it.
fn see(user: &UserId, credential: &Credential, membership: Option<Membership>) -> Result<()> {
    let role = membership.map(|membership| membership.role);
    open(policy::credential(user, credential, role), Reason::CredentialNotFound)
}

/// Who made it, as `Credential::creator` has it.
fn creator(context: &Context, acting_user: Option<&UserId>) -> String {
    match (acting_user, &context.requester) {
        (Some(user), _) => format!("user:{user}"),
        (None, super::Requester::Caller(caller)) => format!("caller:{}", caller.name),
        (None, super::Requester::Operator(name)) => format!("operator:{name}"),
    }
}
