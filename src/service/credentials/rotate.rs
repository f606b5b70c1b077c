//! Rotation: a credential gets a successor and ends.

use std::sync::Arc;
use std::time::Duration;

use super::create::{Expiration, check_request_id};
use super::owner::{LockedOwner, creator};
use super::retry::Fingerprint;
use super::update::check_etag;
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, CredentialState, Digest,
    Timestamp, UserId,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Done, Effect, Transaction};
use crate::service::grant::MANAGE;
use crate::service::{
    Attempt, Context, Created, Reason, Result, Service, ServiceError, Violations, view,
};
use crate::store::{ClaimedRequest, Lock, WriteTx};
use crate::token::Token;

/// A credential to rotate.
#[derive(Debug, Clone)]
pub struct Rotate {
    /// Id of the credential.
    pub id: CredentialId,
    /// Kind that the credential must be of, if given.
    pub kind: Option<CredentialKind>,
    /// How long the old token stays valid, but never past its own expiry. Zero revokes it at once. `None` for the
    /// shortest overlap that the policy allows.
    pub overlap: Option<Duration>,
    /// When the successor expires. `None` for the same lifetime as its predecessor.
    pub expiration: Option<Expiration>,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
    /// UUID that prevents a retry from creating a second successor. Empty if each call is a new rotation.
    pub request_id: String,
    /// Etag that the credential must still have. Empty for any.
    pub etag: String,
}

/// Result of a rotation.
#[derive(Debug)]
pub struct Rotated {
    /// The successor.
    pub credential: Credential,
    /// The token of the successor. It cannot be shown again.
    pub token: Token,
    /// The predecessor in its new state.
    pub predecessor: Credential,
    /// Whether a replica may still accept the old token, because the wait for the replicas timed out.
    pub end_pending: bool,
}

impl Service {
    /// Creates a successor, and ends the credential after the overlap. Both belong to the same family.
    ///
    /// # Errors
    /// [`Reason::AlreadyRotated`], with the id of the successor, while a live successor exists. So of several
    /// concurrent calls only one creates a successor. [`Reason::CredentialRevoked`], [`Reason::CredentialExpired`],
    /// [`Reason::EtagMismatch`], [`Reason::CredentialsMaxReached`], and [`Reason::RequestReplayed`] for a retry that is
    /// too late.
    pub async fn rotate(self: &Arc<Self>, context: Context, request: Rotate) -> Result<Rotated> {
        let target = AuditTarget::Credential(request.id);
        let attempt = Attempt::on(&context, AuditAction::CredentialRotate, &target)
            .acting_for(&request.acting_user);
        let this = Arc::clone(self);
        self.run(attempt, Effect::Narrows, async move {
            let acting_user = MANAGE.acting_user(&context, &request.acting_user)?;
            let mut violations = Violations::default();
            this.check_expiration(&mut violations, request.expiration);
            let retry =
                check_request_id(&mut violations, &request.request_id, || fingerprint(&request));
            violations.finish()?;
            let (now, random) = this.time_and_random()?;
            let id = CredentialId::new(now, random);
            let mut tx = this.begin("rotate").await?;
            let earlier = this.claim_request_id(&mut *tx, &context, retry, id, now).await?;
            let (before, locked) = this
                .lock_credential_and_owner(&mut *tx, request.id, request.kind, acting_user.as_ref())
                .await?;
            if let Some(earlier) = earlier {
                return this.replay_rotation(tx, &context, &request, &earlier, before).await;
            }
            let successor = tx.find_successor(before.id, now).await?;
            let usable = check_etag(&request.etag, &before)
                .and_then(|()| check_not_ended(&before, now))
                .and(locked)
                .and_then(|locked| check_no_successor(successor.as_ref()).map(|()| locked))
                .and_then(|locked| check_not_rotated(&before).map(|()| locked));
            let locked = match usable {
                Ok(locked) => locked,
                Err(error) => {
                    drop(tx);
                    let rotation_time = successor.map(|successor| successor.create_time);
                    let at_once = ends_at_once(&before, rotation_time);
                    this.finish_rotation(&context, &request, &before, at_once, now).await?;
                    return Err(error);
                }
            };
            let overlap = request.overlap.unwrap_or_else(|| locked.policy.default_overlap());
            let expire_time =
                this.check_rotation(&mut *tx, &request, overlap, &before, &locked, now).await?;
            let after = with_end_after(&before, overlap, now);
            let token = Token::mint(before.kind.into(), &*this.random)?;
            let successor = Credential {
                id,
                generation: locked.generation,
                hint: token.hint(),
                create_time: now,
                expire_time,
                last_use: None,
                end_at_once: false,
                creator: creator(&context, acting_user.as_ref()),
                predecessor_id: Some(before.id),
                version: 1,
                ..before.clone()
            };
            tx.update_credential(&after).await?;
            this.lookup.note_new_digest(&token.digest());
            tx.insert_credential(&successor, &token.digest()).await?;
            // One event for each of the two credentials, so that the audit log of each is complete.
            let made = rotation_entry(acting_user.as_ref(), None, &successor, now);
            tx.insert_audit_events(&[this.audit_event(&context, made)?]).await?;
            let ended = rotation_entry(acting_user.as_ref(), Some(&before), &after, now);
            let event = this.audit_event(&context, ended)?;
            let rotated =
                Rotated { credential: successor, token, predecessor: after, end_pending: false };
            let rotated = this.commit(tx, &event).await?.done(rotated);
            Ok(this.end_predecessor(&context, &request, overlap.is_zero(), rotated, now).await)
        })
        .await
    }

    /// Repeats a rotation with a new token, if the token of the earlier try may be replaced.
    async fn replay_rotation(
        &self,
        tx: Transaction,
        context: &Context,
        request: &Rotate,
        earlier: &ClaimedRequest,
        predecessor: Credential,
    ) -> Result<Done<Rotated>> {
        // What the first try decided. The policy may be another one by now.
        let at_once = ends_at_once(&predecessor, Some(earlier.create_time));
        let acting_user = UserId::parse(&request.acting_user).ok();
        match self.replay(tx, context, acting_user.as_ref(), earlier).await {
            Ok(made) => {
                let rotated = made.map(|Created { credential, token }| Rotated {
                    credential,
                    token,
                    predecessor,
                    end_pending: false,
                });
                let now = self.clock.now();
                Ok(self.end_predecessor(context, request, at_once, rotated, now).await)
            }
            Err(error) => {
                // The earlier try may have failed before its second step.
                if at_once {
                    let _ = self.revoke_succeeded(context, request, self.clock.now()).await?;
                }
                Err(error)
            }
        }
    }

    /// Revokes the credential, if an earlier rotation was to do so at once, but failed before its second step. For a call
    /// that is refused, whose earlier try may be that rotation.
    async fn finish_rotation(
        &self,
        context: &Context,
        request: &Rotate,
        predecessor: &Credential,
        at_once: bool,
        now: Timestamp,
    ) -> Result<()> {
        if at_once && check_not_ended(predecessor, now).is_ok() {
            let _ = self.revoke_succeeded(context, request, now).await?;
        }
        Ok(())
    }

    /// Revokes the predecessor, as the second step of a rotation without an overlap. The successor exists by then, so
    /// its token is returned even if this step fails. After a crash between the two steps, the predecessor expires by
    /// itself.
    async fn end_predecessor(
        &self,
        context: &Context,
        request: &Rotate,
        at_once: bool,
        rotated: Done<Rotated>,
        time: Timestamp,
    ) -> Done<Rotated> {
        let rotated = rotated.or_pending(|rotated| rotated.end_pending = true);
        if !at_once {
            return rotated;
        }
        match self.revoke_succeeded(context, request, time).await {
            Ok((committed, predecessor)) => {
                rotated.also(committed, |rotated| rotated.predecessor = predecessor)
            }
            Err(error) => {
                tracing::warn!(%error, "a rotated credential could not be revoked at once: it expires within a minute");
                rotated.with(|rotated| rotated.end_pending = true)
            }
        }
    }

    async fn revoke_succeeded(
        &self,
        context: &Context,
        request: &Rotate,
        time: Timestamp,
    ) -> Result<(Committed, Credential)> {
        let mut tx = self.begin("end_predecessor").await?;
        let found = tx.find_credential(request.id, Lock::Update).await?;
        let before = found.ok_or(Reason::CredentialNotFound)?;
        if before.revoke_time.is_some() {
            drop(tx);
            return Ok((self.nothing_to_commit().await?, before));
        }
        let mut after = before.clone();
        after.revoke_time = Some(time);
        after.version += 1;
        tx.update_credential(&after).await?;
        let acting_user = UserId::parse(&request.acting_user).ok();
        let entry = Entry {
            action: AuditAction::CredentialRevoke,
            target: AuditTarget::Credential(after.id),
            acting_user: acting_user.as_ref(),
            before: Some(view::credential(&before, time)),
            after: Some(view::credential(&after, time)),
            reason: Some("succeeded by rotation"),
        };
        let event = self.audit_event(context, entry)?;
        Ok((self.commit(tx, &event).await?, after))
    }

    /// Checks that the policy allows the rotation. Returns when the successor expires.
    async fn check_rotation(
        &self,
        tx: &mut dyn WriteTx,
        request: &Rotate,
        overlap: Duration,
        before: &Credential,
        locked: &LockedOwner,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let mut violations = Violations::default();
        violations.check("overlap", locked.policy.check_overlap(overlap));
        let field = Expiration::field(request.expiration);
        let lifetime = match request.expiration {
            Some(Expiration::At(time)) => Some(time.saturating_since(now)),
            Some(Expiration::After(ttl)) => Some(ttl),
            None => before.expire_time.map(|end| end.saturating_since(before.create_time)),
        };
        let lifetime = if request.expiration.is_some() {
            violations.check(field, locked.policy.check_lifetime(lifetime));
            lifetime
        } else {
            violations.check(field, locked.policy.inherited_lifetime(lifetime)).flatten()
        };
        violations.finish()?;
        if !overlap.is_zero() {
            // The predecessor does not count, since the successor takes its place.
            self.check_live_max(tx, locked, now, 1).await?;
        }
        Ok(lifetime.map(|lifetime| now.saturating_add(lifetime)))
    }
}

/// Fails if the credential is expired or revoked.
fn check_not_ended(credential: &Credential, now: Timestamp) -> Result<()> {
    match credential.state(now) {
        CredentialState::Active | CredentialState::Disabled => Ok(()),
        CredentialState::Expired => Err(Reason::CredentialExpired.into()),
        CredentialState::Revoked => Err(Reason::CredentialRevoked.into()),
    }
}

/// Fails if there is a live successor.
fn check_no_successor(successor: Option<&Credential>) -> Result<()> {
    let Some(successor) = successor else { return Ok(()) };
    let error = ServiceError::from(Reason::AlreadyRotated);
    Err(error.with("successor_id", successor.id.to_string()))
}

/// Fails if an earlier rotation was to revoke the credential at once.
fn check_not_rotated(credential: &Credential) -> Result<()> {
    if credential.end_at_once { Err(Reason::CredentialRevoked.into()) } else { Ok(()) }
}

/// Builds the audit entry for one of the two credentials.
fn rotation_entry<'a>(
    acting_user: Option<&'a UserId>,
    before: Option<&Credential>,
    after: &Credential,
    now: Timestamp,
) -> Entry<'a> {
    Entry {
        action: AuditAction::CredentialRotate,
        target: AuditTarget::Credential(after.id),
        acting_user,
        before: before.map(|before| view::credential(before, now)),
        after: Some(view::credential(after, now)),
        reason: None,
    }
}

/// Returns the credential with its expiry after the overlap. Without an overlap it expires soon, in case the step that
/// revokes it does not run, and says that a retry has to run that step.
fn with_end_after(before: &Credential, overlap: Duration, now: Timestamp) -> Credential {
    let mut after = before.clone();
    after.version += 1;
    after.end_at_once = overlap.is_zero();
    let own = before.expire_time.map_or(Duration::MAX, |own| own.saturating_since(now));
    let kept = match overlap {
        Duration::ZERO => mark::immediate(own),
        overlap => mark::avoided_by(own.min(overlap)),
    };
    after.expire_time = Some(now.saturating_add(kept));
    after
}

/// Whether the rotation at this time was to revoke the predecessor at once. Unless the predecessor is revoked, that
/// rotation has failed between its two steps.
fn ends_at_once(predecessor: &Credential, rotation_time: Option<Timestamp>) -> bool {
    let marked = |end: Timestamp| {
        rotation_time.is_some_and(|rotation| mark::is_on(end.saturating_since(rotation)))
    };
    predecessor.end_at_once || predecessor.expire_time.is_some_and(marked)
}

/// How 0.1 records that a rotation is to end a credential at once: the time that is left to it is whole seconds less a
/// microsecond. While servers of 0.1 may share the store, each finishes what the other has begun.
mod mark {
    use std::time::Duration;

    use crate::model::limits::IMMEDIATE_END_MAX;

    const LACKING: Duration = Duration::from_micros(1);

    /// Returns the longest marked time that is at most `most` and a minute, or zero.
    pub(super) fn immediate(most: Duration) -> Duration {
        let seconds = most.saturating_add(LACKING).min(IMMEDIATE_END_MAX).as_secs();
        Duration::from_secs(seconds).saturating_sub(LACKING)
    }

    /// Whether the time is marked.
    pub(super) fn is_on(kept: Duration) -> bool {
        kept == immediate(kept)
    }

    /// Returns the time in whole microseconds, as it is stored, or one that is a little shorter and not marked.
    pub(super) fn avoided_by(kept: Duration) -> Duration {
        let micros = u64::try_from(kept.as_micros()).unwrap_or(u64::MAX);
        let kept = Duration::from_micros(micros).max(LACKING);
        if is_on(kept) { kept.saturating_sub(LACKING) } else { kept }
    }
}

fn fingerprint(request: &Rotate) -> Digest {
    // An absent overlap and an overlap of zero are different requests. "0" stands for an absent one, as in earlier
    // versions.
    let overlap = match request.overlap {
        None => "0".to_owned(),
        Some(Duration::ZERO) => "none".to_owned(),
        Some(overlap) => overlap.as_nanos().to_string(),
    };
    Fingerprint::of("Rotate")
        .field(&request.id.to_string())
        .field(&overlap)
        .field(&Expiration::canonical(request.expiration))
        .field(&request.acting_user)
        .field(&request.etag)
        .finish()
}
