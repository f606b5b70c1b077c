//! Rotation of the service token of a caller. The old token stays valid for the overlap. Without an overlap, a second
//! step ends it, so that the caller always has a valid token, even if the server crashes or the client disconnects
//! between the two steps.

use std::sync::Arc;
use std::time::Duration;

use super::{
    attempt, change_entry, check_etag, refuse_longer_than_own, refuse_permissions_not_held,
    require_not_revoked, write_caller,
};
use crate::model::limits::{
    CALLER_OVERLAP_DEFAULT, CALLER_OVERLAP_MAX, IMMEDIATE_END_MAX, REPLAY_AGE_MAX,
};
use crate::model::{
    AuditAction, Caller, CallerIdentity, CredentialId, Digest, PreviousToken, RotationId, Timestamp,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Effect};
use crate::service::credentials::Fingerprint;
use crate::service::credentials::check_request_id;
use crate::service::{Context, Reason, Result, Rpc, Service, ServiceError, Violations};
use crate::store::{ClaimedRequest, Lock, WriteTx};
use crate::token::{Token, TokenKind};

/// A caller whose service token to rotate.
#[derive(Debug, Clone)]
pub struct RotateCaller {
    /// Id or name of the caller.
    pub caller: String,
    /// How long the old token stays valid. `None` for 10 minutes. Zero ends it at once.
    pub overlap: Option<Duration>,
    /// UUID that prevents a retry from rotating twice. Empty if each call is a new rotation.
    pub request_id: String,
    /// Etag that the caller must still have. Empty for any. A retry with a `request_id` does not check it again.
    pub etag: String,
}

/// Result of the rotation of a caller.
#[derive(Debug)]
pub struct RotatedCaller {
    /// The caller in its new state.
    pub caller: Caller,
    /// The new token. It cannot be shown again.
    pub token: Token,
    /// Whether a replica may still accept the old token, because the wait for the replicas timed out.
    pub end_pending: bool,
    /// Hint of the old token. `None` without an overlap. Empty for a retry, which does not know it.
    pub old_hint: Option<String>,
}

impl Service {
    /// Gives a caller a new service token, and ends the old one after the overlap. The token cannot be shown again.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`], because the requester gets a token with all permissions of the caller.
    /// [`Reason::LifetimeNotHeld`], because that token may last longer than the requester. [`Reason::CallerRevoked`],
    /// [`Reason::CallerHasNoToken`], [`Reason::EtagMismatch`], and [`Reason::RequestReplayed`] for a retry that is too
    /// late.
    pub async fn rotate_caller(
        self: &Arc<Self>,
        context: Context,
        request: RotateCaller,
    ) -> Result<RotatedCaller> {
        let this = Arc::clone(self);
        let attempt = attempt(&context, AuditAction::CallerRotate, &request.caller);
        self.run(attempt, Effect::Narrows, async move {
            let overlap = request.overlap.unwrap_or(CALLER_OVERLAP_DEFAULT);
            let mut violations = Violations::default();
            if overlap > CALLER_OVERLAP_MAX {
                let days = CALLER_OVERLAP_MAX.as_secs() / 86_400;
                violations.add("overlap", format!("must be at most {days} days"));
            }
            let retry = check_request_id(&mut violations, &request.request_id, || {
                fingerprint(&request, overlap)
            });
            violations.finish()?;
            let (now, random) = this.time_and_random()?;
            let rotation = RotationId::new(now, random);
            let mut tx = this.begin("rotate_caller").await?;
            let claimed = CredentialId(rotation.0);
            let earlier = this.claim_request_id(&mut *tx, &context, retry, claimed, now).await?;
            let (before, context) =
                this.lock_rotated(&mut *tx, &context, &request, earlier.as_ref()).await?;
            refuse_permissions_not_held(&context, before.permissions)?;
            refuse_longer_than_own(&context, before.expire_time)?;
            let CallerIdentity::Token(old) = before.identity else {
                return Err(Reason::CallerHasNoToken.into());
            };
            let token = Token::mint(TokenKind::Service, &*this.random)?;
            let mut after = Caller {
                identity: CallerIdentity::Token(token.digest()),
                hint: token.hint(),
                ..before.clone()
            };
            let mut old_hint = String::new();
            let action = if let Some(earlier) = earlier {
                if let Err(error) = this.check_replayable(&before, &earlier, &old, now) {
                    drop(tx);
                    this.finish_earlier_try(&context, &before, &earlier, overlap).await?;
                    return Err(error);
                }
                AuditAction::CallerReplay
            } else {
                old_hint.clone_from(&before.hint);
                let end = if overlap.is_zero() { IMMEDIATE_END_MAX } else { overlap };
                let expire_time = now.saturating_add(end);
                after.previous = Some(PreviousToken { digest: old, expire_time });
                after.rotation = Some(rotation);
                AuditAction::CallerRotate
            };
            write_caller(&mut *tx, &mut after).await?;
            let event = this.audit_event(&context, change_entry(action, &before, &after))?;
            let committed = this.commit(tx, &event).await?;
            let old_hint = (!overlap.is_zero()).then_some(old_hint);
            let rotated = RotatedCaller { caller: after.clone(), token, end_pending: false, old_hint };
            let rotated = committed.done(rotated).or_pending(|rotated| rotated.end_pending = true);
            if !overlap.is_zero() {
                return Ok(rotated);
            }
            Ok(match this.end_previous_token(&context, &after).await {
                Ok((ended, caller)) => rotated.also(ended, |rotated| rotated.caller = caller),
                Err(error) => {
                    tracing::warn!(%error, "the old token of a rotated caller could not be ended at once: it expires within a minute");
                    rotated.with(|rotated| rotated.end_pending = true)
                }
            })
        })
        .await
    }

    /// Locks the caller to rotate, and the one that makes the request. A retry finds the caller that its first try has
    /// rotated, even if that was renamed meanwhile, or if another caller has its name now.
    async fn lock_rotated(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        request: &RotateCaller,
        earlier: Option<&ClaimedRequest>,
    ) -> Result<(Caller, Context)> {
        let rpc = Rpc::RotateCaller;
        if let Some(earlier) = earlier
            && let Some(rotated) = tx.peek_caller_by_rotation(rotation_of(earlier)).await?
        {
            let (caller, context) = self.lock_caller_by_id(tx, context, rotated.id, rpc).await?;
            return Ok((require_not_revoked(caller)?, context));
        }
        let (caller, context) = self.lock_caller(tx, context, &request.caller, rpc).await?;
        if earlier.is_none() {
            check_etag(&request.etag, &caller)?;
        }
        Ok((require_not_revoked(caller)?, context))
    }

    /// Checks that the token of the earlier try may be replaced: it is still the token of the caller, new, and no use of
    /// it is noted.
    fn check_replayable(
        &self,
        caller: &Caller,
        earlier: &ClaimedRequest,
        token: &Digest,
        now: Timestamp,
    ) -> Result<()> {
        let is_latest = caller.rotation == Some(rotation_of(earlier));
        let is_new = now.saturating_since(earlier.create_time) < REPLAY_AGE_MAX;
        if is_latest && is_new && !self.used_tokens.is_noted(caller.id, token) {
            return Ok(());
        }
        let error = ServiceError::from(Reason::RequestReplayed);
        Err(error.with("caller_id", caller.id.to_string()))
    }

    /// Ends the old token for an earlier try that may have failed before its second step.
    async fn finish_earlier_try(
        &self,
        context: &Context,
        caller: &Caller,
        earlier: &ClaimedRequest,
        overlap: Duration,
    ) -> Result<()> {
        if overlap.is_zero() && caller.rotation == Some(rotation_of(earlier)) {
            let _ = self.end_previous_token(context, caller).await?;
        }
        Ok(())
    }

    /// Ends the old token, as the second step of a rotation without an overlap. Returns the caller in its new state.
    async fn end_previous_token(
        &self,
        context: &Context,
        rotated: &Caller,
    ) -> Result<(Committed, Caller)> {
        let mut tx = self.begin("end_previous_token").await?;
        let before = tx.find_caller(rotated.id, Lock::Update).await?;
        let before = before.ok_or(Reason::CallerNotFound)?;
        // A concurrent rotation has already ended that token.
        if before.rotation != rotated.rotation || before.previous.is_none() {
            drop(tx);
            return Ok((self.nothing_to_commit().await?, rotated.clone()));
        }
        let mut after = Caller { previous: None, ..before.clone() };
        write_caller(&mut *tx, &mut after).await?;
        let entry: Entry<'_> = change_entry(AuditAction::CallerEndPreviousToken, &before, &after);
        let event = self.audit_event(context, entry)?;
        Ok((self.commit(tx, &event).await?, after))
    }
}

/// Returns the rotation that an earlier try made.
fn rotation_of(earlier: &ClaimedRequest) -> RotationId {
    RotationId(earlier.credential_id.0)
}

/// An etag is part of it only if there is one, so that servers of the last release agree on a request without.
fn fingerprint(request: &RotateCaller, overlap: Duration) -> Digest {
    let overlap = overlap.as_nanos().to_string();
    let fingerprint = Fingerprint::of("RotateCaller").field(&request.caller).field(&overlap);
    let etag = request.etag.as_str();
    if etag.is_empty() { fingerprint } else { fingerprint.field(etag) }.finish()
}
