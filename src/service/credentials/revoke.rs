//! Revocation of one credential, by its id or by its token.

use std::sync::Arc;

use serde_json::json;

use super::owner::lock_active_user;
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, ReasonText, Revision,
    UserId,
};
use crate::service::audit::Entry;
use crate::service::commit::{Done, Effect, Transaction};
use crate::service::grant::{MANAGE, REVOKE_BY_TOKEN};
use crate::service::introspect::LookupOrigin;
use crate::service::{Attempt, Context, Result, Service, Violations, view};
use crate::store::Lock;
use crate::token::digest_to_revoke;

/// What to revoke.
pub enum RevokeTarget {
    /// The credential with this id. If a kind is given, it must be of that kind.
    Id(CredentialId, Option<CredentialKind>),
    /// The credential that this presented text is the token of.
    Token(zeroize::Zeroizing<String>),
}

/// Result of a revocation.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// The credential. `None` if no credential has this token.
    pub credential: Option<Credential>,
    /// Revision of the store that contains the revocation.
    pub revision: Revision,
}

impl Service {
    /// Revokes a credential for good. A credential that is already revoked keeps its first revoke time.
    ///
    /// # Errors
    /// [`Reason::ActingUserNotActive`](crate::service::Reason::ActingUserNotActive) if the acting user is unknown or
    /// disabled. A revocation by token needs no acting user, but one that is named must be valid, because the audit log
    /// records it. [`Reason::UnknownTokensTooMany`](crate::service::Reason::UnknownTokensTooMany) for an unknown token
    /// from a caller that has exceeded its rate of unknown tokens.
    pub async fn revoke(
        self: &Arc<Self>,
        context: Context,
        target: RevokeTarget,
        acting_user_id: &str,
        reason: &str,
    ) -> Result<Revoked> {
        let this = Arc::clone(self);
        let (attempt, grant) = match &target {
            RevokeTarget::Id(id, _) => {
                let target = AuditTarget::Credential(*id);
                (Attempt::on(&context, AuditAction::CredentialRevoke, &target), MANAGE)
            }
            RevokeTarget::Token(_) => {
                (Attempt::new(&context, AuditAction::CredentialRevoke), REVOKE_BY_TOKEN)
            }
        };
        let attempt = attempt.acting_for(acting_user_id);
        let unchanged = attempt.clone();
        let (acting_user_id, reason) = (acting_user_id.to_owned(), reason.to_owned());
        self.run(attempt, Effect::Narrows, async move {
            let acting_user = grant.acting_user(&context, &acting_user_id)?;
            let mut violations = Violations::default();
            let why = violations.check("reason", ReasonText::parse(&reason));
            violations.finish()?;
            let why = why.as_ref().map(ReasonText::as_str).filter(|why| !why.is_empty());
            let locked = match &target {
                RevokeTarget::Token(text) => {
                    this.lock_credential_by_token(&context, text, acting_user.as_ref()).await?
                }
                RevokeTarget::Id(id, kind) => {
                    let mut tx = this.begin("revoke").await?;
                    let locked =
                        this.lock_credential(&mut *tx, *id, *kind, acting_user.as_ref()).await?;
                    Some((tx, locked))
                }
            };
            if let Some((tx, before)) = locked {
                return this.revoke_locked(&context, tx, before, acting_user.as_ref(), why).await;
            }
            let found = json!({"real": false});
            let committed = this.commit_unchanged(None, &unchanged, found, why).await?;
            let revision = committed.revision();
            Ok(committed.done(Revoked { credential: None, revision }))
        })
        .await
    }

    /// Revokes the locked credential, unless it is already revoked.
    async fn revoke_locked(
        &self,
        context: &Context,
        mut tx: Transaction,
        before: Credential,
        acting_user: Option<&UserId>,
        why: Option<&str>,
    ) -> Result<Done<Revoked>> {
        let now = self.clock.now();
        let mut after = before.clone();
        if before.revoke_time.is_none() {
            after.revoke_time = Some(now);
            after.version += 1;
            tx.update_credential(&after).await?;
        }
        let entry = Entry {
            action: AuditAction::CredentialRevoke,
            target: AuditTarget::Credential(after.id),
            acting_user,
            before: Some(view::credential(&before, now)),
            after: Some(view::credential(&after, now)),
            reason: why,
        };
        let committed = self.commit_change(context, tx, after != before, entry).await?;
        let revision = committed.revision();
        Ok(committed.done(Revoked { credential: Some(after), revision }))
    }

    /// Locks the credential of this token text, which may have any shape, and returns the transaction. `None` if no
    /// credential has this token. Callers may send any text, and writers wait for each other, so the first look-up runs
    /// outside a transaction.
    async fn lock_credential_by_token(
        &self,
        context: &Context,
        text: &str,
        acting_user: Option<&UserId>,
    ) -> Result<Option<(Transaction, Credential)>> {
        let digest = digest_to_revoke(text);
        let origin = LookupOrigin { caller: context.caller_id(), client_ip: None };
        self.admit_token(origin, &digest).await?;
        if self.store.look_up(&digest, None).await?.found.is_none() {
            self.count_unknown_token(origin, &digest);
            if let Some(user) = acting_user {
                self.require_active(user).await?;
            }
            return Ok(None);
        }
        let mut tx = self.begin("revoke_by_token").await?;
        if let Some(user) = acting_user {
            lock_active_user(&mut *tx, user).await?;
        }
        let credential = tx.find_credential_by_digest(&digest, Lock::Update).await?;
        Ok(credential.map(|credential| (tx, credential)))
    }
}
