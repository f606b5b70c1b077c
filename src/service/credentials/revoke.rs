//! Ending one credential for good, by its id or by its token.

use std::sync::Arc;

use serde_json::json;

use super::owner::active_user;
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, ReasonText, Revision,
    UserId,
};
use crate::service::audit::Entry;
use crate::service::commit::{Done, Effect, Transaction};
use crate::service::grant::{MANAGE, REVOKE_BY_TOKEN};
use crate::service::introspect::Asker;
use crate::service::{Attempt, Context, Result, Service, Violations, view};
use crate::store::Lock;
use crate::token::digest_to_revoke;

/// What to revoke.
pub enum RevokeTarget {
    /// The credential of this id; of this kind only, if one is given.
    Id(CredentialId, Option<CredentialKind>),
    /// Whatever credential this presented text is the token of.
    Token(zeroize::Zeroizing<String>),
}

/// What a revocation came to.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// The credential; nothing if the text was no credential's.
    pub credential: Option<Credential>,
    /// The store's revision that contains the revocation.
    pub revision: Revision,
}

impl Service {
    /// Ends a credential for good; what is ended already stays so, since when it was first.
    ///
    /// # Errors
    /// [`Reason::ActingUserNotActive`](crate::service::Reason::ActingUserNotActive) for an acting user whom nobody knows, by token
    /// too, where none is needed: the audit log believes none.
    /// [`Reason::UnknownTokensTooMany`](crate::service::Reason::UnknownTokensTooMany) for a text that is nobody's token, of a caller
    /// that has sent too many of those.
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
            let held = match &target {
                RevokeTarget::Token(text) => {
                    this.hold_of_token(&context, text, acting_user.as_ref()).await?
                }
                RevokeTarget::Id(id, kind) => {
                    let mut tx = this.begin("revoke").await?;
                    let held = this.hold(&mut *tx, *id, *kind, acting_user.as_ref()).await?;
                    Some((tx, held))
                }
            };
            if let Some((tx, before)) = held {
                return this.revoke_held(&context, tx, before, acting_user.as_ref(), why).await;
            }
            let nobodys = json!({"real": false});
            let committed = this.commit_unchanged(None, &unchanged, nobodys, why).await?;
            let revision = committed.revision();
            Ok(committed.done(Revoked { credential: None, revision }))
        })
        .await
    }

    /// Ends it, if it is not ended already.
    async fn revoke_held(
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

    /// A transaction that holds the credential of this text, whatever its shape; nothing if it is no credential's. It is
    /// looked for without a transaction first, since anybody's text comes here, and writers wait for each other.
    async fn hold_of_token(
        &self,
        context: &Context,
        text: &str,
        acting_user: Option<&UserId>,
    ) -> Result<Option<(Transaction, Credential)>> {
        let digest = digest_to_revoke(text);
        let asker = Asker { caller: context.caller_id(), client_ip: None };
        self.admit_token(asker, &digest).await?;
        if self.store.look_up(&digest, None).await?.found.is_none() {
            self.count_unknown_token(asker, &digest);
            if let Some(user) = acting_user {
                self.require_active(user).await?;
            }
            return Ok(None);
        }
        let mut tx = self.begin("revoke_by_token").await?;
        if let Some(user) = acting_user {
            active_user(&mut *tx, user).await?;
        }
        let credential = tx.find_credential_by_digest(&digest, Lock::Update).await?;
        Ok(credential.map(|credential| (tx, credential)))
    }
}
