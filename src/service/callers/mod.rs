//! Callers, the services that use this one: authentication, and creating, changing and revoking them.

mod rotate;
mod undo_rotation;
mod used_tokens;

pub use rotate::{RotateCaller, RotatedCaller};
pub use undo_rotation::UndoRotationOutcome;
pub(super) use used_tokens::UsedTokens;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;

use super::audit::Entry;
use super::commit::Effect;
use super::page::Cursor;
use super::{
    Attempt, Context, Page, PageRequest, Peer, Reason, Requester, Result, Rpc, Service,
    ServiceError, Violations, view,
};
use crate::model::{
    AuditAction, AuditTarget, Caller, CallerId, CallerIdentity, CallerName, CertificateSan, Digest,
    Permission, PermissionSet,
};
use crate::store::{Lock, WriteTx};
use crate::token::{Token, TokenKind};

/// How a request identifies its caller.
#[derive(Debug, Clone)]
pub enum PresentedCaller {
    /// Digest of a well-formed service token.
    Token(Digest),
    /// Subject alternative names of a verified client certificate.
    Certificate(Arc<[CertificateSan]>),
}

impl PresentedCaller {
    /// Returns the digest of a presented service token. `None` if the text is not a well-formed service token.
    pub fn service_token(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        match TokenKind::parse(text) {
            Some(TokenKind::Service) => Some(Self::Token(Digest::of(text))),
            Some(TokenKind::Key | TokenKind::Pat) | None => None,
        }
    }
}

/// A caller that was authenticated. It needs no new look-up while [`Service::is_still_known`] returns true.
#[derive(Debug, Clone)]
pub struct AuthenticatedCaller {
    /// The caller.
    pub caller: Arc<Caller>,
    /// What it was authenticated by.
    presented: PresentedCaller,
    /// `Lookup::caller_drops`, taken before the caller was looked up. `None` if the cache was not current enough to
    /// notice changes to the caller.
    caller_drops: Option<u64>,
}

/// A caller to create.
#[derive(Debug, Clone)]
pub struct CreateCaller {
    /// Name of the caller.
    pub name: String,
    /// Permissions to grant.
    pub permissions: Vec<String>,
    /// Subject alternative name in the client certificate. Empty if the caller is to get a service token.
    pub certificate_san: String,
}

/// Changes to a caller.
#[derive(Debug, Clone)]
pub struct UpdateCaller {
    /// Id or name of the caller.
    pub caller: String,
    /// New name. Empty to keep the present one.
    pub name: String,
    /// New permissions, which replace all of the old ones. Empty to keep those.
    pub permissions: Vec<String>,
}

impl Service {
    /// Returns the caller that these credentials identify. Look-ups of unknown service tokens are rate-limited by the
    /// network of `peer`, if that is given.
    ///
    /// # Errors
    /// [`Reason::CallerUnknown`], also for revoked callers. [`Reason::UnknownCallersTooMany`].
    pub async fn authenticate(
        &self,
        presented: PresentedCaller,
        peer: Option<&Peer>,
    ) -> Result<AuthenticatedCaller> {
        let (snapshot, caller_drops) = (self.lookup.lease_snapshot(), self.lookup.caller_drops());
        let caller = self.look_up_caller(&presented, peer).await?;
        // Without a lease, the cache learns of no change to the caller.
        let caller_drops = self.lookup.lease_held_since(snapshot).then_some(caller_drops);
        Ok(AuthenticatedCaller { caller, presented, caller_drops })
    }

    /// Authenticates and authorises the caller of a request again, once the request has been received whole. The client
    /// decides how long that takes, and the caller may have been revoked or changed meanwhile. Returns the context with
    /// the caller as it is now.
    ///
    /// # Errors
    /// Those of [`Self::authenticate`]. [`Reason::CallerUnknown`] also if the credentials now identify another caller.
    /// [`Reason::PermissionMissing`].
    pub async fn admit_received(
        &self,
        authenticated: &AuthenticatedCaller,
        peer: Option<&Peer>,
        rpc: Rpc,
        context: Context,
    ) -> Result<Context> {
        let caller = self.authenticate_again(authenticated, peer).await?;
        let context = Context { requester: Requester::Caller(caller), ..context };
        rpc.require(&context)?;
        Ok(context)
    }

    async fn authenticate_again(
        &self,
        authenticated: &AuthenticatedCaller,
        peer: Option<&Peer>,
    ) -> Result<Arc<Caller>> {
        let AuthenticatedCaller { caller, presented, .. } = authenticated;
        let snapshot = self.lookup.lease_snapshot();
        if self.is_still_known(authenticated) && self.lookup.lease_held_since(snapshot) {
            return Ok(Arc::clone(caller));
        }
        let now = self.look_up_caller(presented, peer).await?;
        if now.id == caller.id { Ok(now) } else { Err(Reason::CallerUnknown.into()) }
    }

    async fn look_up_caller(
        &self,
        presented: &PresentedCaller,
        peer: Option<&Peer>,
    ) -> Result<Arc<Caller>> {
        let caller = match presented {
            PresentedCaller::Token(digest) => {
                let found = match self.lookup.cached_caller(digest) {
                    Some(known) => known,
                    None => self.find_caller(digest, peer.map(Peer::network)).await?,
                };
                // Checked on every call, because the change log has no entry for a token that expires.
                let now = self.clock.now();
                let caller = found.and_then(|caller| caller.authenticated_by(digest, now));
                if let Some(caller) = &caller {
                    self.used_tokens.note(caller, digest, now);
                }
                caller
            }
            PresentedCaller::Certificate(sans) => {
                let mut found = None;
                for san in sans.iter() {
                    found = self.lookup.find_caller_by_san(san).await?;
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        let live = caller.filter(|caller| caller.revoke_time.is_none());
        live.ok_or_else(|| Reason::CallerUnknown.into())
    }

    /// Whether no caller has changed since this one was authenticated and its token has not expired. This trusts the
    /// cache: check [`Self::lease_held_since`] as well.
    pub fn is_still_known(&self, authenticated: &AuthenticatedCaller) -> bool {
        authenticated.caller_drops == Some(self.lookup.caller_drops())
            && !self.token_has_expired(&authenticated.caller)
    }

    /// Looks the caller up in the store, limited by the rate of unknown tokens from this network. Callers in the cache
    /// do not get here. A flood from behind a proxy therefore does not lock out callers that have used the proxy
    /// before.
    async fn find_caller(
        &self,
        digest: &Digest,
        network: Option<IpAddr>,
    ) -> Result<Option<Arc<Caller>>> {
        if network.is_some_and(|network| !self.unknown_rate.admits_network(network)) {
            return Err(Reason::UnknownCallersTooMany.into());
        }
        let found = self.lookup.find_caller(digest).await?;
        if let (None, Some(network)) = (&found, network) {
            self.unknown_rate.count_network(network);
        }
        Ok(found)
    }

    /// Whether the token of this caller has expired. The change log has no entry for that, so every place that
    /// remembers an authenticated caller must check it.
    fn token_has_expired(&self, caller: &Caller) -> bool {
        caller.authentication_end().is_some_and(|end| self.clock.now() >= end)
    }

    /// Creates a caller. Unless it uses a certificate, it gets a service token, which cannot be shown again.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`], [`Reason::CallerNameTaken`], [`Reason::CertificateTaken`].
    pub async fn create_caller(
        self: &Arc<Self>,
        context: Context,
        request: CreateCaller,
    ) -> Result<(Caller, Option<Token>)> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::CallerCreate);
        // No replica can have cached an answer for a token that was only now minted, and none caches that a caller is
        // absent.
        self.run(attempt, Effect::Neutral, async move {
            let (name, permissions, san) = check(&context, &request)?;
            let (create_time, random) = this.time_and_random()?;
            let token = match san {
                Some(_) => None,
                None => Some(Token::mint(TokenKind::Service, &*this.random)?),
            };
            let caller = Caller {
                id: CallerId::new(create_time, random),
                name,
                permissions,
                hint: token.as_ref().map(Token::hint).unwrap_or_default(),
                identity: match (&token, san) {
                    (Some(token), _) => CallerIdentity::Token(token.digest()),
                    (None, Some(san)) => CallerIdentity::Certificate(san),
                    (None, None) => {
                        return Err(ServiceError::internal(&"a caller without an identity"));
                    }
                },
                create_time,
                revoke_time: None,
                previous: None,
                rotation: None,
            };
            let mut tx = this.begin("create_caller").await?;
            if tx.find_caller_by_name(caller.name.as_str(), Lock::Share).await?.is_some() {
                return Err(Reason::CallerNameTaken.into());
            }
            tx.insert_caller(&caller).await?;
            let entry = Entry {
                action: AuditAction::CallerCreate,
                target: AuditTarget::Caller(caller.id),
                acting_user: None,
                before: None,
                after: Some(view::caller(&caller)),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            Ok(this.commit(tx, &event).await?.done((caller, token)))
        })
        .await
    }

    /// Returns a page of callers, oldest first, including revoked ones.
    pub async fn list_callers(&self, page: &PageRequest) -> Result<Page<Caller>> {
        let cursor = Cursor::new(page, "callers".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| CallerId::parse(id).ok());
        let callers = self.store.list_callers(after, cursor.fetch).await?;
        Ok(cursor.page(callers, |caller| caller.id.to_string()))
    }

    /// Revokes a caller, by id or name, for good.
    pub async fn revoke_caller(
        self: &Arc<Self>,
        context: Context,
        id_or_name: String,
    ) -> Result<Caller> {
        let this = Arc::clone(self);
        let attempt = attempt(&context, AuditAction::CallerRevoke, &id_or_name);
        self.run(attempt, Effect::Narrows, async move {
            let now = this.clock.now();
            let mut tx = this.begin("revoke_caller").await?;
            let before = lock_caller(&mut *tx, &id_or_name).await?;
            let mut after = before.clone();
            after.revoke_time = after.revoke_time.or(Some(now));
            let changes = after != before;
            if changes {
                tx.update_caller(&after).await?;
            }
            let entry = change_entry(AuditAction::CallerRevoke, &before, &after);
            Ok(this.commit_change(&context, tx, changes, entry).await?.done(after))
        })
        .await
    }

    /// Changes the name or the permissions of a caller, or both.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`], [`Reason::CallerNameTaken`], [`Reason::CallerRevoked`].
    pub async fn update_caller(
        self: &Arc<Self>,
        context: Context,
        request: UpdateCaller,
    ) -> Result<Caller> {
        let this = Arc::clone(self);
        let attempt = attempt(&context, AuditAction::CallerUpdate, &request.caller);
        // New permissions may be fewer, and a replaced name must stop working.
        self.run(attempt, Effect::Narrows, async move {
            let mut violations = Violations::default();
            let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
            let name = name.and_then(|name| violations.check("name", CallerName::parse(name)));
            let permissions = parse_permissions(&mut violations, &request.permissions);
            if request.name.is_empty() && permissions.is_empty() {
                violations.add("name", "name or permissions is required");
            }
            violations.finish()?;
            refuse_permissions_not_held(&context, permissions)?;
            let mut tx = this.begin("update_caller").await?;
            let before = require_not_revoked(lock_caller(&mut *tx, &request.caller).await?)?;
            let mut after = before.clone();
            if let Some(name) = name {
                if name != before.name
                    && tx.find_caller_by_name(name.as_str(), Lock::Share).await?.is_some()
                {
                    return Err(Reason::CallerNameTaken.into());
                }
                after.name = name;
            }
            if !permissions.is_empty() {
                after.permissions = permissions;
            }
            let changes = after != before;
            if changes {
                tx.update_caller(&after).await?;
            }
            let entry = change_entry(AuditAction::CallerUpdate, &before, &after);
            Ok(this.commit_change(&context, tx, changes, entry).await?.done(after))
        })
        .await
    }
}

/// Builds the attempt on a caller that is given by id or name.
pub(super) fn attempt(context: &Context, action: AuditAction, id_or_name: &str) -> Attempt {
    match CallerId::parse(id_or_name) {
        Ok(id) => Attempt::on(context, action, &AuditTarget::Caller(id)),
        Err(_) => match CallerName::parse(id_or_name) {
            Ok(name) => Attempt::new(context, action).asking(json!({"name": name.as_str()})),
            Err(_) => Attempt::new(context, action),
        },
    }
}

/// Locks the caller with this id or name for a change.
pub(super) async fn lock_caller(tx: &mut dyn WriteTx, id_or_name: &str) -> Result<Caller> {
    let caller = match CallerId::parse(id_or_name) {
        Ok(id) => tx.find_caller(id, Lock::Update).await?,
        Err(_) => tx.find_caller_by_name(id_or_name, Lock::Update).await?,
    };
    caller.ok_or_else(|| Reason::CallerNotFound.into())
}

pub(super) fn require_not_revoked(caller: Caller) -> Result<Caller> {
    if caller.revoke_time.is_none() { Ok(caller) } else { Err(Reason::CallerRevoked.into()) }
}

pub(super) fn change_entry<'a>(action: AuditAction, before: &Caller, after: &Caller) -> Entry<'a> {
    Entry {
        action,
        target: AuditTarget::Caller(after.id),
        acting_user: None,
        before: Some(view::caller(before)),
        after: Some(view::caller(after)),
        reason: None,
    }
}

fn parse_permissions(violations: &mut Violations, permissions: &[String]) -> PermissionSet {
    let parsed = permissions
        .iter()
        .filter_map(|permission| violations.check("permissions", permission.parse::<Permission>()));
    parsed.collect()
}

/// Fails if the requester lacks any of these permissions.
pub(super) fn refuse_permissions_not_held(
    context: &Context,
    permissions: PermissionSet,
) -> Result<()> {
    let Requester::Caller(caller) = &context.requester else { return Ok(()) };
    let excess = permissions.difference(caller.permissions);
    if excess.is_empty() {
        return Ok(());
    }
    let error = ServiceError::from(Reason::PermissionNotHeld);
    Err(error.with("permission", excess.to_string()))
}

/// Validates the fields, and checks that the requester holds every permission that it grants.
fn check(
    context: &Context,
    request: &CreateCaller,
) -> Result<(CallerName, PermissionSet, Option<CertificateSan>)> {
    let mut violations = Violations::default();
    let name = violations.check("name", CallerName::parse(&request.name));
    let permissions = parse_permissions(&mut violations, &request.permissions);
    if request.permissions.is_empty() {
        violations.add("permissions", "must name at least one permission");
    }
    let san = Some(request.certificate_san.as_str()).filter(|san| !san.is_empty());
    let san = san.and_then(|san| violations.check("certificate_san", CertificateSan::parse(san)));
    let Some(name) = name else { return Err(violations.into_error()) };
    violations.finish()?;
    refuse_permissions_not_held(context, permissions)?;
    Ok((name, permissions, san))
}
