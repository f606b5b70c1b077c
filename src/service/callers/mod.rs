//! Callers, the services that use this one: authentication, and creating, changing and revoking them.

mod create;
mod rotate;
mod undo_rotation;
mod update;
mod used_tokens;
mod uses;

pub use create::CreateCaller;
pub use rotate::{RotateCaller, RotatedCaller};
pub use undo_rotation::UndoRotationOutcome;
pub use update::{ExpiryChange, UpdateCaller};
pub(super) use used_tokens::UsedTokens;
pub(super) use uses::CallerUses;

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
    AuditAction, AuditTarget, Caller, CallerId, CallerName, CertificateSan, Digest, Permission,
    PermissionSet, Timestamp,
};
use crate::store::{Lock, WriteTx};
use crate::token::TokenKind;
use uses::CallerUse;

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
    /// Where uses of the caller are noted.
    uses: Arc<CallerUse>,
}

impl Service {
    /// Returns the caller that these credentials identify. Look-ups of unknown service tokens are rate-limited by the
    /// network of `peer`, if that is given.
    ///
    /// # Errors
    /// [`Reason::CallerUnknown`], also for revoked callers. [`Reason::CallerExpired`].
    /// [`Reason::UnknownCallersTooMany`].
    pub async fn authenticate(
        &self,
        presented: PresentedCaller,
        peer: Option<&Peer>,
    ) -> Result<AuthenticatedCaller> {
        let authenticated = self.identify(presented, peer).await?;
        self.note_caller_use(&authenticated, peer.map(|peer| peer.address.ip()));
        Ok(authenticated)
    }

    /// Does what [`Self::authenticate`] does, except that it notes no use of the caller.
    pub(super) async fn identify(
        &self,
        presented: PresentedCaller,
        peer: Option<&Peer>,
    ) -> Result<AuthenticatedCaller> {
        let (snapshot, caller_drops) = (self.lookup.lease_snapshot(), self.lookup.caller_drops());
        let caller = self.look_up_caller(&presented, peer).await?;
        // Without a lease, the cache learns of no change to the caller.
        let caller_drops = self.lookup.lease_held_since(snapshot).then_some(caller_drops);
        let uses = self.caller_uses.of(caller.id);
        Ok(AuthenticatedCaller { caller, presented, caller_drops, uses })
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
        // Expiry is checked on every call, because the change log has no entry for a token or caller that expires.
        let now = self.clock.now();
        match presented {
            PresentedCaller::Token(digest) => {
                let found = match self.lookup.cached_caller(digest) {
                    Some(known) => known,
                    None => self.find_caller(digest, peer.map(Peer::network)).await?,
                };
                let caller = found.and_then(|caller| caller.authenticated_by(digest, now));
                let caller = caller.filter(|caller| caller.revoke_time.is_none());
                let caller = caller.ok_or(Reason::CallerUnknown)?;
                if caller.has_expired(now) {
                    return Err(Reason::CallerExpired.into());
                }
                self.used_tokens.note(&caller, digest, now);
                Ok(caller)
            }
            PresentedCaller::Certificate(sans) => self.find_live_caller_by_sans(sans, now).await,
        }
    }

    /// Returns the first live caller with one of these names.
    async fn find_live_caller_by_sans(
        &self,
        sans: &[CertificateSan],
        now: Timestamp,
    ) -> Result<Arc<Caller>> {
        let mut refusal = Reason::CallerUnknown;
        for san in sans {
            let found = self.lookup.find_caller_by_san(san).await?;
            match found.filter(|caller| caller.revoke_time.is_none()) {
                Some(caller) if caller.has_expired(now) => refusal = Reason::CallerExpired,
                Some(caller) => return Ok(caller),
                None => {}
            }
        }
        Err(refusal.into())
    }

    /// Whether no caller has changed since this one was authenticated, and neither it nor its token has expired. This
    /// trusts the cache: check [`Self::lease_held_since`] as well.
    pub fn is_still_known(&self, authenticated: &AuthenticatedCaller) -> bool {
        authenticated.caller_drops == Some(self.lookup.caller_drops())
            && !self.authentication_has_ended(&authenticated.caller)
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

    /// Whether this caller or its token has expired. The change log has no entry for that, so every place that
    /// remembers an authenticated caller must check it.
    fn authentication_has_ended(&self, caller: &Caller) -> bool {
        caller.authentication_end().is_some_and(|end| self.clock.now() >= end)
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
            let rpc = Rpc::RevokeCaller;
            let (before, context) = this.lock_caller(&mut *tx, &context, &id_or_name, rpc).await?;
            let mut after = before.clone();
            after.revoke_time = after.revoke_time.or(Some(now));
            let changes = after != before;
            if changes {
                write_caller(&mut *tx, &mut after).await?;
            }
            let entry = change_entry(AuditAction::CallerRevoke, &before, &after);
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

impl Service {
    /// Locks the caller with this id or name for a change, and the caller that makes the request, as
    /// [`Self::lock_caller_by_id`] does.
    pub(super) async fn lock_caller(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        id_or_name: &str,
        rpc: Rpc,
    ) -> Result<(Caller, Context)> {
        if let Ok(id) = CallerId::parse(id_or_name) {
            return self.lock_caller_by_id(tx, context, id, rpc).await;
        }
        let peeked = tx.peek_caller_by_name(id_or_name).await?.ok_or(Reason::CallerNotFound)?;
        let (caller, context) = self.lock_caller_by_id(tx, context, peeked.id, rpc).await?;
        // It may have lost its name before it was locked.
        if caller.name != peeked.name || caller.revoke_time.is_some() {
            return Err(Reason::CallerNotFound.into());
        }
        Ok((caller, context))
    }

    /// Locks a caller for a change, and the caller that makes the request. Returns the first, and the context with the
    /// second as it is now. That one may have lost what it had when the call was admitted, because the call has waited
    /// for locks since: what it may do is decided by the row.
    ///
    /// # Errors
    /// [`Reason::CallerUnknown`] also if the requester is revoked. [`Reason::CallerExpired`],
    /// [`Reason::PermissionMissing`], [`Reason::CallerNotFound`].
    pub(super) async fn lock_caller_by_id(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        id: CallerId,
        rpc: Rpc,
    ) -> Result<(Caller, Context)> {
        let requester = match &context.requester {
            Requester::Caller(requester) if requester.id != id => Some(requester.id),
            Requester::Caller(_) | Requester::Operator(_) => None,
        };
        // In the order of their ids, like the transactions that write last uses.
        let mut found = None;
        if let Some(requester) = requester.filter(|requester| requester.0 < id.0) {
            found = tx.find_caller(requester, Lock::Share).await?;
        }
        let caller = tx.find_caller(id, Lock::Update).await?;
        match requester {
            Some(requester) if requester.0 > id.0 => {
                found = tx.find_caller(requester, Lock::Share).await?;
            }
            Some(_) => {}
            None => found.clone_from(&caller),
        }
        let context = self.context_of(context, found, rpc)?;
        Ok((caller.ok_or(Reason::CallerNotFound)?, context))
    }

    /// Locks the caller that makes the request, which changes no other. Returns the context with it as it is now.
    ///
    /// # Errors
    /// As [`Self::lock_caller_by_id`].
    pub(super) async fn lock_requester(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        rpc: Rpc,
    ) -> Result<Context> {
        let found = match &context.requester {
            Requester::Caller(requester) => tx.find_caller(requester.id, Lock::Share).await?,
            Requester::Operator(_) => None,
        };
        self.context_of(context, found, rpc)
    }

    /// Returns the context with the caller that makes the request as it was found now.
    fn context_of(&self, context: &Context, found: Option<Caller>, rpc: Rpc) -> Result<Context> {
        let Requester::Caller(_) = &context.requester else { return Ok(context.clone()) };
        let requester = found.filter(|caller| caller.revoke_time.is_none());
        let requester = requester.ok_or(Reason::CallerUnknown)?;
        if requester.has_expired(self.clock.now()) {
            return Err(Reason::CallerExpired.into());
        }
        let requester = Requester::Caller(Arc::new(requester));
        let context = Context { requester, ..context.clone() };
        rpc.require(&context)?;
        Ok(context)
    }
}

/// Writes the changed caller, and counts the change.
pub(super) async fn write_caller(tx: &mut dyn WriteTx, after: &mut Caller) -> Result<()> {
    after.version += 1;
    tx.update_caller(after).await?;
    Ok(())
}

/// Fails if the caller has changed since the client read it (AIP-154).
pub(super) fn check_etag(etag: &str, caller: &Caller) -> Result<()> {
    if etag.is_empty() || etag == caller.etag() { Ok(()) } else { Err(Reason::EtagMismatch.into()) }
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

/// Fails if the requester expires before `end`. What it gives or takes over must not outlive it, or its own expiry
/// would end nothing.
pub(super) fn refuse_longer_than_own(context: &Context, end: Option<Timestamp>) -> Result<()> {
    let Requester::Caller(caller) = &context.requester else { return Ok(()) };
    if is_later(end, caller.expire_time) { Err(Reason::LifetimeNotHeld.into()) } else { Ok(()) }
}

/// Whether the first expiry is later than the second one. `None` is never.
pub(super) fn is_later(first: Option<Timestamp>, second: Option<Timestamp>) -> bool {
    second.is_some_and(|second| first.is_none_or(|first| first > second))
}
