//! Creation of keys and personal access tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::owner::{LockedOwner, NewOwner, creator};
use super::retry::{Fingerprint, RequestKey};
use crate::model::{
    Annotations, AuditAction, AuditTarget, Credential, CredentialId, Digest, DisplayName,
    IpAllowlist, Owner, RequestId, ScopeSet, Timestamp, WorkspaceName, WorkspaceSet,
};
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::grant::MANAGE;
use crate::service::{Attempt, Context, Reason, Result, Service, ServiceError, Violations, view};
use crate::store::{ClaimedRequest, WriteTx};
use crate::token::Token;

/// When a credential expires.
#[derive(Debug, Clone, Copy)]
pub enum Expiration {
    /// At this time.
    At(Timestamp),
    /// This long after its creation.
    After(Duration),
}

impl Expiration {
    /// Returns the name of the request field that sets the expiration.
    pub(in crate::service) const fn field(expiration: Option<Self>) -> &'static str {
        match expiration {
            Some(Self::At(_)) => "expire_time",
            Some(Self::After(_)) => "ttl",
            None => "expiration",
        }
    }

    /// Returns the canonical text for the fingerprint of a request.
    pub(in crate::service) fn canonical(expiration: Option<Self>) -> String {
        match expiration {
            Some(Self::At(time)) => format!("at {}", time.unix_micros()),
            Some(Self::After(ttl)) => format!("after {}", ttl.as_nanos()),
            None => "never".to_owned(),
        }
    }
}

/// A credential to create.
#[derive(Debug, Clone)]
pub struct CreateCredential {
    /// Owner of the credential.
    pub owner: NewOwner,
    /// Workspaces to which a personal access token is limited, by slug or id. Empty for all workspaces of its user, and
    /// for a key.
    pub workspaces: Vec<WorkspaceName>,
    /// Display name.
    pub name: String,
    /// Scopes, at least one.
    pub scopes: ScopeSet,
    /// When the credential expires. `None` for never.
    pub expiration: Option<Expiration>,
    /// CIDRs or addresses from which the credential may be used. Empty for any address.
    pub ip_allowlist: Vec<String>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
    /// UUID that prevents a retry from creating a second credential. Empty if each call is to create one.
    pub request_id: String,
}

/// A credential that was created.
#[derive(Debug)]
pub struct Created {
    /// The credential.
    pub credential: Credential,
    /// The token of the credential. It cannot be shown again.
    pub token: Token,
}

/// Validated fields of a new credential.
struct Checked {
    name: DisplayName,
    ip_allowlist: IpAllowlist,
    annotations: Annotations,
    expire_time: Option<Timestamp>,
    retry: Option<RequestKey>,
}

impl Service {
    /// Creates a key or a personal access token.
    ///
    /// # Errors
    /// [`Reason::WorkspaceDisabled`] and [`Reason::UserDisabled`], because a disabled owner could not use the
    /// credential. [`Reason::CredentialsMaxReached`]. [`Reason::RequestReplayed`] for a retry that is too late.
    ///
    /// [`Reason::WorkspaceDisabled`]: crate::service::Reason::WorkspaceDisabled
    /// [`Reason::UserDisabled`]: crate::service::Reason::UserDisabled
    /// [`Reason::CredentialsMaxReached`]: crate::service::Reason::CredentialsMaxReached
    /// [`Reason::RequestReplayed`]: crate::service::Reason::RequestReplayed
    pub async fn create_credential(
        self: &Arc<Self>,
        context: Context,
        request: CreateCredential,
    ) -> Result<Created> {
        let this = Arc::clone(self);
        let (action, owner) = match &request.owner {
            NewOwner::Workspace(name) => {
                (AuditAction::KeyCreate, json!({"workspace": name.as_str()}))
            }
            NewOwner::User(id, _) => (AuditAction::PatCreate, json!({"user_id": id.as_str()})),
        };
        let kind = request.owner.kind();
        let attempt = Attempt::new(&context, action).acting_for(&request.acting_user).asking(owner);
        // No replica can have cached an answer for a token that was only now minted. `replay` sets the effect itself
        // when it replaces a token.
        self.run(attempt, Effect::Neutral, async move {
            let acting_user = MANAGE.acting_user(&context, &request.acting_user)?;
            let checked = this.check_new(&request)?;
            let (create_time, random) = this.time_and_random()?;
            let id = CredentialId::new(create_time, random);
            let mut tx = this.begin("create_credential").await?;
            let earlier =
                this.claim_request_id(&mut *tx, &context, checked.retry, id, create_time).await?;
            let named =
                this.lock_named_workspaces(&mut *tx, "workspaces", &request.workspaces).await?;
            let locked = this.lock_new_owner(&mut *tx, acting_user.as_ref(), request.owner).await?;
            if let Some(earlier) = earlier {
                require_same_owner(&mut *tx, &earlier, &locked).await?;
                return this.replay(tx, &context, acting_user.as_ref(), &earlier).await;
            }
            check_lifetime(&locked, request.expiration, checked.expire_time, create_time)?;
            this.check_live_max(&mut *tx, &locked, create_time, 0).await?;
            let granted_workspaces =
                this.limit_of_new_token(&mut *tx, &locked.owner, &named).await?;
            let token = Token::mint(kind.into(), &*this.random)?;
            let credential = Credential {
                id,
                kind,
                owner: locked.owner,
                generation: locked.generation,
                name: checked.name,
                hint: token.hint(),
                scopes: request.scopes,
                ip_allowlist: checked.ip_allowlist,
                granted_workspaces,
                barred_workspaces: WorkspaceSet::default(),
                annotations: checked.annotations,
                create_time,
                expire_time: checked.expire_time,
                disable_time: None,
                revoke_time: None,
                last_use: None,
                end_at_once: false,
                creator: creator(&context, acting_user.as_ref()),
                predecessor_id: None,
                family_id: id,
                version: 1,
            };
            this.lookup.note_new_digest(&token.digest());
            tx.insert_credential(&credential, &token.digest()).await?;
            let entry = Entry {
                action,
                target: AuditTarget::Credential(id),
                acting_user: acting_user.as_ref(),
                before: None,
                after: Some(view::credential(&credential, create_time)),
                reason: None,
            };
            let committed = this.commit(tx, &this.audit_event(&context, entry)?).await?;
            Ok(committed.done(Created { credential, token }))
        })
        .await
    }

    fn check_new(&self, request: &CreateCredential) -> Result<Checked> {
        let mut violations = Violations::default();
        let name = violations.check("name", DisplayName::parse(&request.name));
        violations.check("scopes", request.scopes.require_non_empty());
        let cidrs = request.ip_allowlist.iter().map(String::as_str);
        let ip_allowlist = violations.check("ip_allowlist", IpAllowlist::parse(cidrs));
        let annotations = Annotations::parse(request.annotations.clone());
        let annotations = violations.check("annotations", annotations);
        let expire_time = self.check_expiration(&mut violations, request.expiration);
        let retry = check_request_id(&mut violations, &request.request_id, || fingerprint(request));
        match (name, ip_allowlist, annotations) {
            (Some(name), Some(ip_allowlist), Some(annotations)) => {
                violations.finish()?;
                Ok(Checked { name, ip_allowlist, annotations, expire_time, retry })
            }
            _ => Err(violations.into_error()),
        }
    }

    pub(in crate::service) fn check_expiration(
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
}

/// Fails if the earlier try made a key of another workspace: the slug in the request has moved since.
async fn require_same_owner(
    tx: &mut dyn WriteTx,
    earlier: &ClaimedRequest,
    locked: &LockedOwner,
) -> Result<()> {
    let id = earlier.credential_id;
    let made = tx.peek_credential(id).await?;
    match made.map(|made| made.owner) {
        Some(made @ Owner::Workspace(_)) if made != locked.owner => {
            let replayed = ServiceError::from(Reason::RequestReplayed);
            Err(replayed.with("credential_id", id.to_string()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks that the policy allows this lifetime.
pub(in crate::service) fn check_lifetime(
    locked: &LockedOwner,
    asked: Option<Expiration>,
    expire_time: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    let lifetime = expire_time.map(|expire_time| expire_time.saturating_since(now));
    let mut violations = Violations::default();
    violations.check(Expiration::field(asked), locked.policy.check_lifetime(lifetime));
    violations.finish()
}

/// Validates the request id, if any, and pairs it with the fingerprint of the request body.
pub(in crate::service) fn check_request_id(
    violations: &mut Violations,
    id: &str,
    fingerprint: impl FnOnce() -> Digest,
) -> Option<RequestKey> {
    if id.is_empty() {
        return None;
    }
    let id = violations.check("request_id", RequestId::parse(id))?;
    Some(RequestKey { id, fingerprint: fingerprint() })
}

fn fingerprint(request: &CreateCredential) -> Digest {
    let (rpc, owner, max_role) = match &request.owner {
        NewOwner::Workspace(name) => ("CreateKey", name.as_str(), ""),
        NewOwner::User(id, max_role) => ("CreatePat", id.as_str(), max_role.as_str()),
    };
    let annotations = &request.annotations;
    let fingerprint = Fingerprint::of(rpc)
        .field(owner)
        .field(max_role)
        .field(&request.name)
        .field(&request.scopes.to_string())
        .field(&Expiration::canonical(request.expiration))
        .fields(request.ip_allowlist.iter().map(String::as_str))
        .fields(annotations.keys().map(String::as_str))
        .fields(annotations.values().map(String::as_str))
        .field(&request.acting_user);
    if request.workspaces.is_empty() {
        // As in versions without limits to workspaces, so that a retry may reach either version.
        return fingerprint.finish();
    }
    fingerprint.fields(request.workspaces.iter().map(WorkspaceName::as_str)).finish()
}
