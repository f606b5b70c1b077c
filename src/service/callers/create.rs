//! Creation of callers.

use std::sync::Arc;

use super::{parse_permissions, refuse_longer_than_own, refuse_permissions_not_held};
use crate::model::{
    AuditAction, AuditTarget, Caller, CallerId, CallerIdentity, CallerName, CertificateSan,
    PermissionSet, Timestamp,
};
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::credentials::creator;
use crate::service::{
    Attempt, Context, Expiration, Reason, Result, Rpc, Service, ServiceError, Violations, view,
};
use crate::token::{Token, TokenKind};

/// A caller to create.
#[derive(Debug, Clone, Default)]
pub struct CreateCaller {
    /// Name of the caller.
    pub name: String,
    /// Permissions to grant.
    pub permissions: Vec<String>,
    /// Subject alternative name in the client certificate. Empty if the caller is to get a service token.
    pub certificate_san: String,
    /// When the caller expires. `None` for never.
    pub expiration: Option<Expiration>,
}

/// Validated fields of a new caller.
struct Checked {
    name: CallerName,
    permissions: PermissionSet,
    san: Option<CertificateSan>,
    expire_time: Option<Timestamp>,
}

impl Service {
    /// Creates a caller. Unless it uses a certificate, it gets a service token, which cannot be shown again.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`], [`Reason::LifetimeNotHeld`], [`Reason::CallerNameTaken`],
    /// [`Reason::CertificateTaken`]. With an expiry [`Reason::ReplicaTooOld`].
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
            let checked = this.check_new_caller(&request)?;
            let (create_time, random) = this.time_and_random()?;
            let token = match checked.san {
                Some(_) => None,
                None => Some(Token::mint(TokenKind::Service, &*this.random)?),
            };
            let caller = Caller {
                id: CallerId::new(create_time, random),
                name: checked.name,
                permissions: checked.permissions,
                hint: token.as_ref().map(Token::hint).unwrap_or_default(),
                identity: match (&token, checked.san) {
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
                expire_time: checked.expire_time,
                last_use: None,
                creator: creator(&context, None),
                version: 1,
            };
            let mut tx = this.begin("create_caller").await?;
            let context = this.lock_requester(&mut *tx, &context, Rpc::CreateCaller).await?;
            refuse_permissions_not_held(&context, caller.permissions)?;
            refuse_longer_than_own(&context, caller.expire_time)?;
            if caller.expire_time.is_some() {
                Self::require_new_rules(&mut *tx).await?;
            }
            if tx.peek_caller_by_name(caller.name.as_str()).await?.is_some() {
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

    /// Validates the fields.
    fn check_new_caller(&self, request: &CreateCaller) -> Result<Checked> {
        let mut violations = Violations::default();
        let name = violations.check("name", CallerName::parse(&request.name));
        let permissions = parse_permissions(&mut violations, &request.permissions);
        if request.permissions.is_empty() {
            violations.add("permissions", "must name at least one permission");
        }
        let san = Some(request.certificate_san.as_str()).filter(|san| !san.is_empty());
        let san =
            san.and_then(|san| violations.check("certificate_san", CertificateSan::parse(san)));
        let expire_time = self.check_expiration(&mut violations, request.expiration);
        let Some(name) = name else { return Err(violations.into_error()) };
        violations.finish()?;
        Ok(Checked { name, permissions, san, expire_time })
    }
}
