//! A caller's new service token. The one from before lives on for a while, and where it is to end at once it ends in a second
//! step, so that no caller is left without a good token, though the server dies or the client goes away between the two.

use std::sync::Arc;
use std::time::Duration;

use super::{attempt, changed, find, live, refuse_excess};
use crate::model::limits::{
    CALLER_OVERLAP_DEFAULT, CALLER_OVERLAP_MAX, ENDING_MAX, REPLAY_AGE_MAX,
};
use crate::model::{
    AuditAction, Caller, CallerIdentity, CredentialId, Digest, PreviousToken, RotationId, Timestamp,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Effect};
use crate::service::credentials::Fingerprint;
use crate::service::credentials::check_request_id;
use crate::service::{Context, Reason, Result, Service, ServiceError, Violations};
use crate::store::{ClaimedRequest, Lock};
use crate::token::{Token, TokenKind};

/// A caller to be given a new service token.
#[derive(Debug, Clone)]
pub struct RotateCaller {
    /// Which, by id or name.
    pub caller: String,
    /// How long the old token lives on; nothing: 10 minutes; zero: it is dead at once.
    pub overlap: Option<Duration>,
    /// A UUID, so that a retry makes no second rotation; empty: every call means a rotation of its own.
    pub request_id: String,
}

/// What a caller's rotation came to.
#[derive(Debug)]
pub struct RotatedCaller {
    /// The caller as it stands now.
    pub caller: Caller,
    /// Its token, this once.
    pub token: Token,
    /// Whether a replica may still answer as before: the wait for it ran out.
    pub end_pending: bool,
    /// The hint of the old token, where that was to live on for a while; of a retry it is not known, and empty.
    pub old_hint: Option<String>,
}

impl Service {
    /// Gives a caller a new service token, shown this once; the old one ends after an overlap.
    ///
    /// # Errors
    /// [`Reason::PermissionNotHeld`]: who gets the token may do all that the caller may.
    /// [`Reason::CallerRevoked`], [`Reason::CallerHasNoToken`], and for a retry that comes too late
    /// [`Reason::RequestReplayed`].
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
                violations.add("overlap", "must be at most 7 days");
            }
            let retry = check_request_id(&mut violations, &request.request_id, || {
                fingerprint(&request.caller, overlap)
            });
            violations.finish()?;
            let (now, random) = this.stamp()?;
            let rotation = RotationId::new(now, random);
            let mut tx = this.begin("rotate_caller").await?;
            let claimed = CredentialId(rotation.0);
            let earlier = this.claim(&mut *tx, &context, retry, claimed, now).await?;
            let before = live(find(&mut *tx, &request.caller).await?)?;
            refuse_excess(&context, before.permissions)?;
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
                check_replayable(&before, &earlier, now)?;
                AuditAction::CallerReplay
            } else {
                old_hint.clone_from(&before.hint);
                let end = if overlap.is_zero() { ENDING_MAX } else { overlap };
                let expire_time = now.saturating_add(end);
                after.previous = Some(PreviousToken { digest: old, expire_time });
                after.rotation = Some(rotation);
                AuditAction::CallerRotate
            };
            tx.update_caller(&after).await?;
            let event = this.audit_event(&context, changed(action, &before, &after))?;
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
                    tracing::warn!(%error, "a rotated caller's old token could not be ended at once: it ends by itself within a minute");
                    rotated.with(|rotated| rotated.end_pending = true)
                }
            })
        })
        .await
    }

    /// The second step of a rotation without an overlap: the caller's token from before it is dead; the caller as it stands.
    async fn end_previous_token(
        &self,
        context: &Context,
        rotated: &Caller,
    ) -> Result<(Committed, Caller)> {
        let mut tx = self.begin("end_previous_token").await?;
        let before = tx.find_caller(rotated.id, Lock::Update).await?;
        let before = before.ok_or(Reason::CallerNotFound)?;
        // Another rotation meanwhile has ended that token already.
        if before.rotation != rotated.rotation || before.previous.is_none() {
            drop(tx);
            return Ok((self.nothing_to_commit().await?, rotated.clone()));
        }
        let after = Caller { previous: None, ..before.clone() };
        tx.update_caller(&after).await?;
        let entry: Entry<'_> = changed(AuditAction::CallerEndPreviousToken, &before, &after);
        let event = self.audit_event(context, entry)?;
        Ok((self.commit(tx, &event).await?, after))
    }
}

/// That a fresh token takes the place of the one that the earlier try made: it is the caller's still, and young.
fn check_replayable(caller: &Caller, earlier: &ClaimedRequest, now: Timestamp) -> Result<()> {
    let latest = caller.rotation == Some(RotationId(earlier.credential_id.0));
    if latest && now.saturating_since(earlier.create_time) < REPLAY_AGE_MAX {
        return Ok(());
    }
    let error = ServiceError::from(Reason::RequestReplayed);
    Err(error.with("caller_id", caller.id.to_string()))
}

fn fingerprint(caller: &str, overlap: Duration) -> Digest {
    Fingerprint::of("RotateCaller").field(caller).field(&overlap.as_nanos().to_string()).finish()
}
