//! Changes to a caller: its name, permissions, certificate and expiry.

use std::sync::Arc;

use super::{
    attempt, change_entry, check_etag, is_later, parse_permissions, refuse_longer_than_own,
    refuse_permissions_not_held, require_not_revoked, write_caller,
};
use crate::model::{
    AuditAction, Caller, CallerIdentity, CallerName, CertificateSan, PermissionSet, Timestamp,
};
use crate::service::commit::Effect;
use crate::service::{Context, Expiration, Reason, Result, Rpc, Service, ServiceError, Violations};
use crate::store::WriteTx;

/// Changes to a caller.
#[derive(Debug, Clone, Default)]
pub struct UpdateCaller {
    /// Id or name of the caller.
    pub caller: String,
    /// New name. Empty to keep the present one.
    pub name: String,
    /// New permissions, which replace all of the old ones. Empty to keep those.
    pub permissions: Vec<String>,
    /// New subject alternative name in the client certificate. Empty to keep the present one.
    pub certificate_san: String,
    /// Change of the expiry. `None` to keep it.
    pub expiry: Option<ExpiryChange>,
    /// Etag that the caller must still have. Empty for any.
    pub etag: String,
}

/// Change of the expiry of a caller.
#[derive(Debug, Clone, Copy)]
pub enum ExpiryChange {
    /// It expires then, earlier or later than before.
    Set(Expiration),
    /// It no longer expires.
    Remove,
}

/// Validated new values.
struct Checked {
    name: Option<CallerName>,
    permissions: PermissionSet,
    san: Option<CertificateSan>,
}

impl Service {
    /// Changes a caller. An expired caller can be changed too, and lives again with a later expiry.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`], also if the requester lacks a permission of a caller whose certificate it changes
    /// or whose expiry it moves back or removes. [`Reason::LifetimeNotHeld`] for the same changes, and for permissions
    /// that are added to a caller that outlives the requester.
    /// [`Reason::CallerNameTaken`], [`Reason::CertificateTaken`], [`Reason::CallerRevoked`], [`Reason::EtagMismatch`],
    /// [`Reason::CallerHasNoCertificate`], [`Reason::PermissionsUnknown`]. With a new expiry [`Reason::ReplicaTooOld`].
    pub async fn update_caller(
        self: &Arc<Self>,
        context: Context,
        request: UpdateCaller,
    ) -> Result<Caller> {
        let this = Arc::clone(self);
        let attempt = attempt(&context, AuditAction::CallerUpdate, &request.caller);
        // New permissions may be fewer, a replaced name or certificate must stop working, and an expiry may be earlier.
        self.run(attempt, Effect::Narrows, async move {
            let checked = check(&request)?;
            let mut tx = this.begin("update_caller").await?;
            let rpc = Rpc::UpdateCaller;
            let (before, context) =
                this.lock_caller(&mut *tx, &context, &request.caller, rpc).await?;
            refuse_permissions_not_held(&context, checked.permissions)?;
            check_etag(&request.etag, &before)?;
            let before = require_not_revoked(before)?;
            let takes_over = checked.san.is_some();
            let mut after = changed(&mut *tx, checked, &before).await?;
            after.expire_time = this.changed_expiry(&request, &before)?;
            let lengthens = is_later(after.expire_time, before.expire_time);
            if takes_over || lengthens {
                refuse_permissions_not_held(&context, before.permissions.union(after.permissions))?;
            }
            let gains = !after.permissions.difference(before.permissions).is_empty();
            if takes_over || lengthens || gains {
                refuse_longer_than_own(&context, after.expire_time)?;
            }
            if after.expire_time.is_some() && after.expire_time != before.expire_time {
                Self::require_new_rules(&mut *tx).await?;
            }
            let changes = after != before;
            if changes {
                write_caller(&mut *tx, &mut after).await?;
            }
            let entry = change_entry(AuditAction::CallerUpdate, &before, &after);
            Ok(this.commit_change(&context, tx, changes, entry).await?.done(after))
        })
        .await
    }

    /// Returns the expiry that the caller is to have.
    fn changed_expiry(&self, request: &UpdateCaller, before: &Caller) -> Result<Option<Timestamp>> {
        let expiration = match request.expiry {
            None => return Ok(before.expire_time),
            Some(ExpiryChange::Remove) => return Ok(None),
            Some(ExpiryChange::Set(expiration)) => expiration,
        };
        // Setting the present value again is allowed, so that a retry is safe.
        if let Expiration::At(time) = expiration
            && before.expire_time == Some(time)
        {
            return Ok(Some(time));
        }
        let mut violations = Violations::default();
        let expire_time = self.check_expiration(&mut violations, Some(expiration));
        violations.finish()?;
        Ok(expire_time)
    }
}

fn check(request: &UpdateCaller) -> Result<Checked> {
    let mut violations = Violations::default();
    let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
    let name = name.and_then(|name| violations.check("name", CallerName::parse(name)));
    let permissions = parse_permissions(&mut violations, &request.permissions);
    let san = Some(request.certificate_san.as_str()).filter(|san| !san.is_empty());
    let san = san.and_then(|san| violations.check("certificate_san", CertificateSan::parse(san)));
    let changes_text = !(request.name.is_empty() && request.certificate_san.is_empty());
    if !changes_text && request.permissions.is_empty() && request.expiry.is_none() {
        violations.add(
            "name",
            "name, permissions, certificate_san, expire_time, ttl or remove_expiry is required",
        );
    }
    violations.finish()?;
    Ok(Checked { name, permissions, san })
}

/// Returns the caller with its new name, permissions and certificate.
async fn changed(tx: &mut dyn WriteTx, checked: Checked, before: &Caller) -> Result<Caller> {
    let mut after = before.clone();
    if let Some(name) = checked.name {
        if name != before.name && tx.peek_caller_by_name(name.as_str()).await?.is_some() {
            return Err(Reason::CallerNameTaken.into());
        }
        after.name = name;
    }
    if !checked.permissions.is_empty() {
        let unknown = before.permissions.unknown();
        if !unknown.is_empty() {
            let error = ServiceError::from(Reason::PermissionsUnknown);
            return Err(error.with("permission", unknown.to_string()));
        }
        after.permissions = checked.permissions;
    }
    if let Some(san) = checked.san {
        if let CallerIdentity::Token(_) = before.identity {
            return Err(Reason::CallerHasNoCertificate.into());
        }
        after.identity = CallerIdentity::Certificate(san);
    }
    Ok(after)
}
