//! Disabling and enabling a credential.

use std::sync::Arc;

use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, ReasonText,
};
use crate::service::audit::Entry;
use crate::service::commit::Effect;
use crate::service::grant::MANAGE;
use crate::service::{Attempt, Context, Reason, Result, Service, Violations, view};

/// A credential to disable or enable.
#[derive(Debug, Clone)]
pub struct SwitchCredential {
    /// Id of the credential.
    pub id: CredentialId,
    /// Kind that the credential must be of, if given.
    pub kind: Option<CredentialKind>,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
    /// Free text for the audit log. May be empty.
    pub reason: String,
}

impl Service {
    /// Disables a credential until it is enabled again. A revoked credential stays as it is.
    pub async fn disable(
        self: &Arc<Self>,
        context: Context,
        request: SwitchCredential,
    ) -> Result<Credential> {
        self.switch(context, request, false).await
    }

    /// Enables a disabled credential.
    ///
    /// # Errors
    /// [`Reason::CredentialRevoked`], because a revocation is final.
    pub async fn enable(
        self: &Arc<Self>,
        context: Context,
        request: SwitchCredential,
    ) -> Result<Credential> {
        self.switch(context, request, true).await
    }

    async fn switch(
        self: &Arc<Self>,
        context: Context,
        request: SwitchCredential,
        enable: bool,
    ) -> Result<Credential> {
        let action =
            if enable { AuditAction::CredentialEnable } else { AuditAction::CredentialDisable };
        let attempt = Attempt::on(&context, action, &AuditTarget::Credential(request.id))
            .acting_for(&request.acting_user);
        let this = Arc::clone(self);
        self.run(attempt, Effect::narrows_if(!enable), async move {
            let acting_user = MANAGE.acting_user(&context, &request.acting_user)?;
            let mut violations = Violations::default();
            let why = violations.check("reason", ReasonText::parse(&request.reason));
            violations.finish()?;
            let now = this.clock.now();
            let name = if enable { "enable" } else { "disable" };
            let mut tx = this.begin(name).await?;
            let id = request.id;
            let before =
                this.lock_credential(&mut *tx, id, request.kind, acting_user.as_ref()).await?;
            if enable && before.revoke_time.is_some() {
                return Err(Reason::CredentialRevoked.into());
            }
            let mut after = before.clone();
            if before.revoke_time.is_none() && before.disable_time.is_some() == enable {
                after.disable_time = if enable { None } else { Some(now) };
                after.version += 1;
                tx.update_credential(&after).await?;
            }
            let entry = Entry {
                action,
                target: AuditTarget::Credential(id),
                acting_user: acting_user.as_ref(),
                before: Some(view::credential(&before, now)),
                after: Some(view::credential(&after, now)),
                reason: why.as_ref().map(ReasonText::as_str).filter(|why| !why.is_empty()),
            };
            let committed = this.commit_change(&context, tx, after != before, entry).await?;
            Ok(committed.done(after))
        })
        .await
    }
}
