//! Changes to a credential: its name, annotations and IP allowlist, fewer scopes, or an earlier expiry.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Annotations, AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, DisplayName,
    IpAllowlist, ScopeSet, Timestamp, WorkspaceName,
};
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::grant::MANAGE;
use crate::service::{Attempt, Context, Reason, Result, Service, Violations, view};

/// Changes to a credential. A field that is `None` is not changed.
#[derive(Debug, Clone)]
pub struct UpdateCredential {
    /// Id of the credential.
    pub id: CredentialId,
    /// Kind that the credential must be of, if given.
    pub kind: Option<CredentialKind>,
    /// New display name.
    pub name: Option<String>,
    /// New annotations, which replace all of the old ones.
    pub annotations: Option<BTreeMap<String, String>>,
    /// New CIDRs or addresses, which replace all of the old ones. Empty for any address.
    pub ip_allowlist: Option<Vec<String>>,
    /// New scopes, a subset of the present ones.
    pub scopes: Option<ScopeSet>,
    /// New expiry, earlier than the present one.
    pub expire_time: Option<Timestamp>,
    /// The workspaces to which a personal access token is limited, by slug or id: a part of the present limit, if it has
    /// one.
    pub granted_workspaces: Option<Vec<WorkspaceName>>,
    /// Etag that the credential must still have. Empty for any.
    pub etag: String,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
}

/// Validated new values.
struct Checked {
    name: Option<DisplayName>,
    annotations: Option<Annotations>,
    ip_allowlist: Option<IpAllowlist>,
}

impl Service {
    /// Changes a credential.
    ///
    /// # Errors
    /// [`Reason::ArgumentInvalid`] if the change would grant a scope or extend the lifetime. [`Reason::EtagMismatch`],
    /// [`Reason::CredentialRevoked`].
    pub async fn update_credential(
        self: &Arc<Self>,
        context: Context,
        request: UpdateCredential,
    ) -> Result<Credential> {
        let target = AuditTarget::Credential(request.id);
        let attempt = Attempt::on(&context, AuditAction::CredentialUpdate, &target)
            .acting_for(&request.acting_user);
        let this = Arc::clone(self);
        let may_narrow = request.scopes.is_some()
            || request.expire_time.is_some()
            || request.ip_allowlist.is_some()
            || request.granted_workspaces.is_some();
        self.run(attempt, Effect::narrows_if(may_narrow), async move {
            let acting_user = MANAGE.acting_user(&context, &request.acting_user)?;
            let checked = check(&request)?;
            let now = this.clock.now();
            let mut tx = this.begin("update_credential").await?;
            let id = request.id;
            let limit =
                this.lock_limit(&mut *tx, id, request.granted_workspaces.as_deref()).await?;
            let before =
                this.lock_credential(&mut *tx, id, request.kind, acting_user.as_ref()).await?;
            check_etag(&request.etag, &before)?;
            if before.revoke_time.is_some() {
                return Err(Reason::CredentialRevoked.into());
            }
            check_narrows(&request, &before, now)?;
            let granted_workspaces = match limit {
                Some(limit) => Some(this.narrowed_limit(&mut *tx, limit, &before).await?),
                None => before.granted_workspaces.clone(),
            };
            let mut after = Credential {
                name: checked.name.unwrap_or_else(|| before.name.clone()),
                annotations: checked.annotations.unwrap_or_else(|| before.annotations.clone()),
                ip_allowlist: checked.ip_allowlist.unwrap_or_else(|| before.ip_allowlist.clone()),
                scopes: request.scopes.unwrap_or(before.scopes),
                expire_time: request.expire_time.or(before.expire_time),
                granted_workspaces,
                ..before.clone()
            };
            let changed = after != before;
            if changed {
                after.version += 1;
                tx.update_credential(&after).await?;
            }
            let entry = Entry {
                action: AuditAction::CredentialUpdate,
                target: AuditTarget::Credential(id),
                acting_user: acting_user.as_ref(),
                before: Some(view::credential(&before, now)),
                after: Some(view::credential(&after, now)),
                reason: None,
            };
            let committed = this.commit_change(&context, tx, changed, entry).await?;
            Ok(committed.done(after))
        })
        .await
    }
}

fn check(request: &UpdateCredential) -> Result<Checked> {
    let mut violations = Violations::default();
    let name = request.name.as_deref().map(DisplayName::parse);
    let name = name.and_then(|name| violations.check("credential.name", name));
    let annotations = request.annotations.clone().map(Annotations::parse);
    let annotations =
        annotations.and_then(|parsed| violations.check("credential.annotations", parsed));
    let ip_allowlist = request.ip_allowlist.as_ref();
    let ip_allowlist = ip_allowlist
        .map(|cidrs| IpAllowlist::parse(cidrs.iter().map(String::as_str)))
        .and_then(|parsed| violations.check("credential.ip_allowlist", parsed));
    violations.finish()?;
    Ok(Checked { name, annotations, ip_allowlist })
}

/// Checks that scopes are only removed and that the expiry is only moved forward.
fn check_narrows(request: &UpdateCredential, before: &Credential, now: Timestamp) -> Result<()> {
    let mut violations = Violations::default();
    if let Some(scopes) = request.scopes {
        if scopes.is_empty() {
            violations.add(
                "credential.scopes",
                "must keep at least one scope: to remove all, revoke the credential",
            );
        } else if !scopes.difference(before.scopes).is_empty() {
            violations.add(
                "credential.scopes",
                format!("may only be removed: the credential has {}", before.scopes),
            );
        }
    }
    // Setting the present value again is allowed, so that a retry is safe.
    let expire_time = request.expire_time.filter(|time| before.expire_time != Some(*time));
    if let Some(expire_time) = expire_time {
        if before.expire_time.is_some_and(|own| expire_time > own) {
            violations.add("credential.expire_time", "may only be brought forward");
        } else if expire_time <= now {
            violations
                .add("credential.expire_time", "must be in the future: revoke it to end it now");
        }
    }
    violations.finish()
}

/// Fails if the credential has changed since the client read it (AIP-154).
pub(in crate::service) fn check_etag(etag: &str, credential: &Credential) -> Result<()> {
    if etag.is_empty() || etag == credential.etag() {
        Ok(())
    } else {
        Err(Reason::EtagMismatch.into())
    }
}
