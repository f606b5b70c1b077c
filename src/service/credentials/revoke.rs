//! Revocation of one credential, by its id or by its token.

use std::sync::Arc;

use serde_json::json;

use super::hidden::like_unknown_token;
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, ReasonText, Revision,
    UserId,
};
use crate::service::audit::Entry;
use crate::service::commit::{Done, Effect, Transaction};
use crate::service::grant::{MANAGE, REVOKE_BY_TOKEN};
use crate::service::introspect::LookupOrigin;
use crate::service::{Attempt, Context, Reason, Result, Service, Violations, view};
use crate::store::Lock;
use crate::token::digest_to_revoke;

/// What to revoke.
pub enum RevokeTarget {
    /// The credential with this id. If a kind is given, it must be of that kind.
    Id(CredentialId, Option<CredentialKind>),
    /// The credential that this presented text is the token of. The call succeeds for any text.
    Token(zeroize::Zeroizing<String>),
    /// The credential of this kind that this text is the token of. The call is refused if there is none.
    KnownToken(zeroize::Zeroizing<String>, CredentialKind),
}

/// What a token text was found to be.
enum ByToken {
    /// The token of this credential, which is locked, as is its transaction.
    Locked(Transaction, Box<Credential>),
    /// The token of no credential.
    Unknown,
    /// The token of a credential that the acting user may not manage. Answered like [`Self::Unknown`].
    Hidden,
}

/// Result of a revocation.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// The credential. `None` if no credential that the acting user may manage has the token of
    /// [`RevokeTarget::Token`].
    pub credential: Option<Credential>,
    /// Revision of the store that contains the revocation.
    pub revision: Revision,
}

impl Service {
    /// Revokes a credential for good. A credential that is already revoked keeps its first revoke time.
    ///
    /// # Errors
    /// [`Reason::ActingUserNotActive`] if the acting user is unknown or disabled. A revocation by token needs no acting
    /// user. One that is named must be valid, and only what this user may manage is revoked.
    /// [`Reason::UnknownTokensTooMany`] for an unknown token from a caller that has exceeded its rate of unknown tokens.
    /// [`Reason::CredentialNotFound`] by id and for [`RevokeTarget::KnownToken`].
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
            RevokeTarget::Token(_) | RevokeTarget::KnownToken(..) => {
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
            let found = match &target {
                RevokeTarget::Token(text) | RevokeTarget::KnownToken(text, _) => {
                    let found = this.lock_credential_by_token(&context, text, acting_user.as_ref());
                    let is_found = |found: &ByToken| matches!(found, ByToken::Locked(..));
                    like_unknown_token(acting_user.is_some(), found, is_found).await?
                }
                RevokeTarget::Id(id, kind) => {
                    let mut tx = this.begin("revoke").await?;
                    let locked =
                        this.lock_credential(&mut *tx, *id, *kind, acting_user.as_ref()).await?;
                    ByToken::Locked(tx, Box::new(locked))
                }
            };
            let of_kind = |found: &Credential| match &target {
                RevokeTarget::KnownToken(_, kind) => *kind == found.kind,
                RevokeTarget::Id(..) | RevokeTarget::Token(_) => true,
            };
            let found = match found {
                ByToken::Locked(tx, before) if of_kind(&before) => {
                    let acting_user = acting_user.as_ref();
                    return this.revoke_locked(&context, tx, *before, acting_user, why).await;
                }
                _ if matches!(target, RevokeTarget::KnownToken(..)) => {
                    return Err(Reason::CredentialNotFound.into());
                }
                ByToken::Locked(..) | ByToken::Unknown => json!({"real": false}),
                // Only the audit log says that there is such a credential.
                ByToken::Hidden => json!({"real": true, "permitted": false}),
            };
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

    /// Locks the credential of this token text, which may have any shape. With an acting user, only a credential that
    /// this user may manage. Callers may send any text, and writers wait for each other, so the first look-up runs
    /// outside a transaction.
    async fn lock_credential_by_token(
        &self,
        context: &Context,
        text: &str,
        acting_user: Option<&UserId>,
    ) -> Result<ByToken> {
        if let Some(user) = acting_user {
            // First, so that the answer does not depend on the token.
            self.require_active(user).await?;
        }
        let digest = digest_to_revoke(text);
        let origin = LookupOrigin { caller: context.caller_id(), client_ip: None };
        self.admit_token(origin, &digest).await?;
        let Some(found) = self.store.look_up(&digest, None).await?.found else {
            self.count_unknown_token(origin, &digest);
            return Ok(ByToken::Unknown);
        };
        let mut tx = self.begin("revoke_by_token").await?;
        if acting_user.is_some() {
            let id = found.credential.id;
            match self.lock_credential(&mut *tx, id, None, acting_user).await {
                Err(error) if error.reason == Reason::CredentialNotFound => {
                    drop(tx);
                    self.refuse_hidden_token(origin).await?;
                    return Ok(ByToken::Hidden);
                }
                locked => drop(locked?),
            }
        }
        // The retry of a creation may have replaced the token since it was looked up.
        let credential = tx.find_credential_by_digest(&digest, Lock::Update).await?;
        Ok(match credential {
            Some(credential) => ByToken::Locked(tx, Box::new(credential)),
            None => ByToken::Unknown,
        })
    }
}
