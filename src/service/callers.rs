//! Services that call this one: who they are, and making and ending them.

use std::sync::Arc;

use super::audit::Entry;
use super::page::Cursor;
use super::{
    Context, Page, PageRequest, Reason, Requester, Result, Service, ServiceError, Violations, view,
};
use crate::model::{
    AuditTarget, Caller, CallerId, CallerIdentity, CallerName, CertificateSan, Digest, Permission,
    PermissionSet,
};
use crate::store::{Lock, StoreError};
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
        match TokenKind::of(text) {
            Some(TokenKind::Service) => Some(Self::Token(Digest::of(text))),
            Some(TokenKind::Key | TokenKind::Pat) | None => None,
        }
    }
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

impl Service {
    /// Who is calling.
    ///
    /// # Errors
    /// [`Reason::CallerUnknown`], for revoked callers too.
    pub async fn authenticate(&self, presented: &PresentedCaller) -> Result<Arc<Caller>> {
        let caller = match presented {
            PresentedCaller::Token(digest) => self.lookup.find_caller(digest).await?,
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

    /// Makes a caller; its service token, unless it is to be known by certificate, is given this once.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`], [`Reason::CallerNameTaken`], [`Reason::CertificateTaken`].
    pub async fn create_caller(
        self: &Arc<Self>,
        context: Context,
        request: CreateCaller,
    ) -> Result<(Caller, Option<Token>)> {
        let (name, permissions, san) = check(&context, &request)?;
        let this = Arc::clone(self);
        self.run(async move {
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
            };
            let mut tx = this.store.begin("create_caller").await?;
            if tx.find_caller_by_name(caller.name.as_str(), Lock::Share).await?.is_some() {
                return Err(Reason::CallerNameTaken.into());
            }
            tx.insert_caller(&caller).await.map_err(name_conflict)?;
            let entry = Entry {
                action: "caller.create",
                target: AuditTarget::Caller(caller.id),
                acting_user: None,
                before: None,
                after: Some(view::caller(&caller)),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            tx.commit(&event).await?;
            Ok((caller, token))
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
        self.run(async move {
            let now = this.clock.now();
            let mut tx = this.store.begin("revoke_caller").await?;
            let before = match CallerId::parse(&id_or_name) {
                Ok(id) => tx.find_caller(id, Lock::Update).await?,
                Err(_) => tx.find_caller_by_name(&id_or_name, Lock::Update).await?,
            };
            let before = before.ok_or(Reason::CallerNotFound)?;
            let mut after = before.clone();
            after.revoke_time = after.revoke_time.or(Some(now));
            tx.update_caller(&after).await?;
            let entry = Entry {
                action: "caller.revoke",
                target: AuditTarget::Caller(after.id),
                acting_user: None,
                before: Some(view::caller(&before)),
                after: Some(view::caller(&after)),
                reason: None,
            };
            let event = this.audit_event(&context, entry)?;
            this.commit_and_wait(tx, &event, &context).await?;
            Ok(after)
        })
        .await
    }
}

/// The fields, and that nothing is granted that the requester does not hold.
fn check(
    context: &Context,
    request: &CreateCaller,
) -> Result<(CallerName, PermissionSet, Option<CertificateSan>)> {
    let mut violations = Violations::default();
    let name = violations.check("name", CallerName::parse(&request.name));
    let permissions = request
        .permissions
        .iter()
        .filter_map(|permission| violations.check("permissions", permission.parse::<Permission>()));
    let permissions: PermissionSet = permissions.collect();
    if request.permissions.is_empty() {
        violations.add("permissions", "must name at least one permission");
    }
    let san = Some(request.certificate_san.as_str()).filter(|san| !san.is_empty());
    let san = san.and_then(|san| violations.check("certificate_san", CertificateSan::parse(san)));
    let Some(name) = name else { return Err(violations.into_error()) };
    violations.finish()?;
    if let Requester::Caller(caller) = &context.requester {
        let excess = permissions.difference(caller.permissions);
        if !excess.is_empty() {
            let error = ServiceError::from(Reason::PermissionNotHeld);
            return Err(error.with("permission", excess.to_string()));
        }
    }
    Ok((name, permissions, san))
}

/// Two racing calls: the database tells them apart.
fn name_conflict(error: StoreError) -> ServiceError {
    match error {
        StoreError::Conflict { what } if what.contains("san") => Reason::CertificateTaken.into(),
        StoreError::Conflict { what } if what.contains("name") => Reason::CallerNameTaken.into(),
        error => error.into(),
    }
}
