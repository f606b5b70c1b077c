//! Services that call this one: who they are, and making, changing and ending them.

mod rotate;
mod undo_rotation;

pub use rotate::{RotateCaller, RotatedCaller};
pub use undo_rotation::RotationUndone;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;

use super::audit::Entry;
use super::commit::Effect;
use super::page::Cursor;
use super::{
    Attempt, Context, Page, PageRequest, Peer, Reason, Requester, Result, Service, ServiceError,
    Violations, view,
};
use crate::model::{
    AuditAction, AuditTarget, Caller, CallerId, CallerIdentity, CallerName, CertificateSan, Digest,
    Permission, PermissionSet,
};
use crate::store::{Lock, StoreError, Unique, WriteTx};
use crate::token::{Token, TokenKind};

/// What a request shows of its caller.
#[derive(Debug, Clone)]
pub enum PresentedCaller {
    /// The digest of a service token that is well formed.
    Token(Digest),
    /// The subject alternative names of a client certificate that was verified.
    Certificate(Arc<[CertificateSan]>),
}

impl PresentedCaller {
    /// What this text, as it was presented, shows; `None` if it is no well-formed service token.
    pub fn service_token(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        match TokenKind::parse(text) {
            Some(TokenKind::Service) => Some(Self::Token(Digest::of(text))),
            Some(TokenKind::Key | TokenKind::Pat) | None => None,
        }
    }
}

/// A caller that was authenticated, to be recognized without another look-up while [`Service::still_knows`] it.
#[derive(Debug, Clone)]
pub struct KnownCaller {
    /// The caller.
    pub caller: Arc<Caller>,
    /// What memory's generation of callers was.
    generation: u64,
}

/// A caller to be made.
#[derive(Debug, Clone)]
pub struct CreateCaller {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub permissions: Vec<String>,
    /// The name in its client certificate; empty: it gets a service token.
    pub certificate_san: String,
}

/// A caller to be changed.
#[derive(Debug, Clone)]
pub struct UpdateCaller {
    /// Which, by id or name.
    pub caller: String,
    /// Its new name; empty: as it is.
    pub name: String,
    /// Its new permissions, whole; none: as they are.
    pub permissions: Vec<String>,
}

impl Service {
    /// Who is calling, known by what it presented; from this peer, if it is not asked again about somebody who is known.
    ///
    /// # Errors
    /// [`Reason::CallerUnknown`], for revoked callers too; [`Reason::UnknownCallersTooMany`].
    pub async fn authenticate(
        &self,
        presented: &PresentedCaller,
        peer: Option<&Peer>,
    ) -> Result<Arc<Caller>> {
        let caller = match presented {
            PresentedCaller::Token(digest) => {
                let found = match self.lookup.recall_caller(digest) {
                    Some(known) => known,
                    None => self.find_caller(digest, peer.map(Peer::network)).await?,
                };
                // Each time anew: of a token that ends by itself no replica hears when it does.
                found.and_then(|caller| caller.authenticated_by(digest, self.clock.now()))
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

    /// As [`Self::authenticate`]; with the caller to be remembered, if memory was good enough to notice changes of it.
    ///
    /// # Errors
    /// The same.
    pub async fn authenticate_to_remember(
        &self,
        presented: &PresentedCaller,
        peer: Option<&Peer>,
    ) -> Result<(Arc<Caller>, Option<KnownCaller>)> {
        let (term, generation) = (self.lookup.term(), self.lookup.callers_generation());
        let caller = self.authenticate(presented, peer).await?;
        // What was found without memory says nothing of the generation.
        let known = self
            .lookup
            .may_believe(term)
            .then(|| KnownCaller { caller: Arc::clone(&caller), generation });
        Ok((caller, known))
    }

    /// Whether nothing has changed of any caller since this one was authenticated, and its token has not ended. Whether
    /// memory, which says so, may be believed is for [`Self::may_believe`].
    pub fn still_knows(&self, known: &KnownCaller) -> bool {
        known.generation == self.lookup.callers_generation() && !self.proof_has_ended(&known.caller)
    }

    /// Asks the store, within what strangers from one network may cost it. Who is in memory does not come here, so a flood
    /// from behind a proxy keeps nobody out who has called through it before.
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

    /// Whether the token that a caller proved itself by has ended since. Such an end is not in the change log, so it is asked
    /// for wherever an authenticated caller is remembered.
    fn proof_has_ended(&self, caller: &Caller) -> bool {
        caller.authentication_end().is_some_and(|end| self.clock.now() >= end)
    }

    /// Makes a caller; its service token, unless it is to be known by certificate, is given this once.
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
        // Nobody can have asked for a token before it was minted, or remembers that there was no caller of a name.
        self.run(attempt, Effect::Neutral, async move {
            let (name, permissions, san) = check(&context, &request)?;
            let (create_time, random) = this.stamp()?;
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
                        return Err(ServiceError::internal(&"a caller without identity"));
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
            tx.insert_caller(&caller).await.map_err(name_conflict)?;
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

    /// A page of callers, oldest first, revoked ones included.
    pub async fn list_callers(&self, page: &PageRequest) -> Result<Page<Caller>> {
        let cursor = Cursor::new(page, "callers".to_owned())?;
        let after = cursor.after.as_deref().and_then(|id| CallerId::parse(id).ok());
        let callers = self.store.list_callers(after, cursor.fetch).await?;
        Ok(cursor.page(callers, |caller| caller.id.to_string()))
    }

    /// Ends a caller, by id or name, for good.
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
            let before = find(&mut *tx, &id_or_name).await?;
            let mut after = before.clone();
            after.revoke_time = after.revoke_time.or(Some(now));
            let changes = after != before;
            if changes {
                tx.update_caller(&after).await?;
            }
            let entry = changed(AuditAction::CallerRevoke, &before, &after);
            Ok(this.commit_change(&context, tx, changes, entry).await?.done(after))
        })
        .await
    }

    /// Changes a caller's name, its permissions, or both.
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
        // Permissions are given whole, and of a new name the old one must be dead.
        self.run(attempt, Effect::Narrows, async move {
            let mut violations = Violations::default();
            let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
            let name = name.and_then(|name| violations.check("name", CallerName::parse(name)));
            let permissions = parse_permissions(&mut violations, &request.permissions);
            if request.name.is_empty() && permissions.is_empty() {
                violations.add("name", "name or permissions is required");
            }
            violations.finish()?;
            refuse_excess(&context, permissions)?;
            let mut tx = this.begin("update_caller").await?;
            let before = live(find(&mut *tx, &request.caller).await?)?;
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
                tx.update_caller(&after).await.map_err(name_conflict)?;
            }
            let entry = changed(AuditAction::CallerUpdate, &before, &after);
            Ok(this.commit_change(&context, tx, changes, entry).await?.done(after))
        })
        .await
    }
}

/// The attempt to do this to a caller that is named by id or name.
pub(super) fn attempt(context: &Context, action: AuditAction, id_or_name: &str) -> Attempt {
    match CallerId::parse(id_or_name) {
        Ok(id) => Attempt::on(context, action, &AuditTarget::Caller(id)),
        Err(_) => match CallerName::parse(id_or_name) {
            Ok(name) => Attempt::new(context, action).asking(json!({"name": name.as_str()})),
            Err(_) => Attempt::new(context, action),
        },
    }
}

/// The caller of this id or name, held for a change.
pub(super) async fn find(tx: &mut dyn WriteTx, id_or_name: &str) -> Result<Caller> {
    let caller = match CallerId::parse(id_or_name) {
        Ok(id) => tx.find_caller(id, Lock::Update).await?,
        Err(_) => tx.find_caller_by_name(id_or_name, Lock::Update).await?,
    };
    caller.ok_or_else(|| Reason::CallerNotFound.into())
}

pub(super) fn live(caller: Caller) -> Result<Caller> {
    if caller.revoke_time.is_none() { Ok(caller) } else { Err(Reason::CallerRevoked.into()) }
}

pub(super) fn changed<'a>(action: AuditAction, before: &Caller, after: &Caller) -> Entry<'a> {
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

/// That the requester holds all of these itself.
pub(super) fn refuse_excess(context: &Context, permissions: PermissionSet) -> Result<()> {
    let Requester::Caller(caller) = &context.requester else { return Ok(()) };
    let excess = permissions.difference(caller.permissions);
    if excess.is_empty() {
        return Ok(());
    }
    let error = ServiceError::from(Reason::PermissionNotHeld);
    Err(error.with("permission", excess.to_string()))
}

/// The fields, and that nothing is granted that the requester does not hold.
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
    refuse_excess(context, permissions)?;
    Ok((name, permissions, san))
}

/// Two racing calls: the database tells them apart.
fn name_conflict(error: StoreError) -> ServiceError {
    match error {
        StoreError::Conflict(Unique::CallerCertificateSan) => Reason::CertificateTaken.into(),
        StoreError::Conflict(Unique::CallerName) => Reason::CallerNameTaken.into(),
        error => error.into(),
    }
}
