//! Rotating a credential: another succeeds it.

use std::sync::Arc;
use std::time::Duration;

use super::create::{Expiration, check_request_id};
use super::owner::{Held, creator};
use super::retry::Fingerprint;
use super::update::check_etag;
use crate::model::limits::ENDING_MAX;
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialKind, CredentialState, Digest,
    Timestamp, UserId,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Done, Effect};
use crate::service::grant::MANAGE;
use crate::service::{
    Attempt, Context, Created, Reason, Result, Service, ServiceError, Violations, view,
};
use crate::store::{Lock, WriteTx};
use crate::token::Token;

/// A credential to be succeeded by another.
#[derive(Debug, Clone)]
pub struct Rotate {
    /// Which.
    pub id: CredentialId,
    /// Of this kind only, if one is given.
    pub kind: Option<CredentialKind>,
    /// How long its token lives on, though never past its own expiry; zero: it is dead at once; nothing: as little as the
    /// policy allows.
    pub overlap: Option<Duration>,
    /// When the successor dies by itself; nothing: it lives as long as its predecessor was made to live.
    pub expiration: Option<Expiration>,
    /// On whose behalf; empty: the system's.
    pub acting_user: String,
    /// A UUID, so that a retry makes no second successor; empty: every call means a rotation of its own.
    pub request_id: String,
    /// The etag that it must still have; empty: any.
    pub etag: String,
}

/// What a rotation came to.
#[derive(Debug)]
pub struct Rotated {
    /// The successor.
    pub credential: Credential,
    /// Its token, this once.
    pub token: Token,
    /// What it succeeded, as it stands now.
    pub predecessor: Credential,
    /// Whether a replica may still answer as before: the wait for it ran out.
    pub end_pending: bool,
}

impl Service {
    /// Makes a successor, and ends the credential after an overlap. The two share a family.
    ///
    /// # Errors
    /// [`Reason::AlreadyRotated`], naming the successor, while there is a live one, so that of calls that race one makes a
    /// successor. [`Reason::CredentialRevoked`], [`Reason::CredentialExpired`], [`Reason::EtagMismatch`],
    /// [`Reason::CredentialsMaxReached`], and for a retry that comes too late [`Reason::RequestReplayed`].
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
            let (now, random) = this.stamp()?;
            let id = CredentialId::new(now, random);
            let mut tx = this.begin("rotate").await?;
            let earlier = this.claim(&mut *tx, &context, retry, id, now).await?;
            let (before, held) = this
                .hold_with_owner(&mut *tx, request.id, request.kind, acting_user.as_ref())
                .await?;
            // Of a retry whose owner may make nothing any more it is as good not to know: the predecessor ends by itself.
            let overlap =
                request.overlap.or_else(|| Some(held.as_ref().ok()?.policy.default_overlap()));
            if let Some(earlier) = earlier {
                let made = this.replay(tx, &context, acting_user.as_ref(), &earlier).await?;
                let rotated = made.map(|Created { credential, token }| Rotated {
                    credential,
                    token,
                    predecessor: before,
                    end_pending: false,
                });
                let now = this.clock.now();
                return Ok(this.end_predecessor(&context, &request, overlap, rotated, now).await);
            }
            check_etag(&request.etag, &before)?;
            let held = check_alive(&before, now).and(held)?;
            let chosen = overlap.unwrap_or_default();
            let expire_time =
                this.check_rotation(&mut *tx, &request, chosen, &before, &held, now).await?;
            let after = ended(&before, chosen, now);
            let token = Token::mint(before.kind.into(), &*this.random)?;
            let successor = Credential {
                id,
                generation: held.generation,
                hint: token.hint(),
                create_time: now,
                expire_time,
                last_use: None,
                creator: creator(&context, acting_user.as_ref()),
                predecessor_id: Some(before.id),
                version: 1,
                ..before.clone()
            };
            tx.update_credential(&after).await?;
            this.lookup.expect(&token.digest());
            tx.insert_credential(&successor, &token.digest()).await?;
            // An event for each of the two, so that each has its own story.
            let made = rotation(acting_user.as_ref(), None, &successor, now);
            tx.insert_audit_events(&[this.audit_event(&context, made)?]).await?;
            let ended = rotation(acting_user.as_ref(), Some(&before), &after, now);
            let event = this.audit_event(&context, ended)?;
            let rotated =
                Rotated { credential: successor, token, predecessor: after, end_pending: false };
            let rotated = this.commit(tx, &event).await?.done(rotated);
            Ok(this.end_predecessor(&context, &request, overlap, rotated, now).await)
        })
        .await
    }

    /// The second step of a rotation without an overlap, which this attempts once the successor is there, and whose token is
    /// shown whatever becomes of it: the predecessor, which a crash between the two leaves to end by itself, is revoked.
    async fn end_predecessor(
        &self,
        context: &Context,
        request: &Rotate,
        overlap: Option<Duration>,
        rotated: Done<Rotated>,
        time: Timestamp,
    ) -> Done<Rotated> {
        let rotated = rotated.or_pending(|rotated| rotated.end_pending = true);
        if overlap != Some(Duration::ZERO) {
            return rotated;
        }
        match self.revoke_succeeded(context, request, time).await {
            Ok((committed, predecessor)) => {
                rotated.also(committed, |rotated| rotated.predecessor = predecessor)
            }
            Err(error) => {
                tracing::warn!(%error, "a rotated credential could not be ended at once: it ends by itself within a minute");
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

    /// That there is no live successor yet and that the policy lets there be one so; when it dies by itself.
    async fn check_rotation(
        &self,
        tx: &mut dyn WriteTx,
        request: &Rotate,
        overlap: Duration,
        before: &Credential,
        held: &Held,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        if let Some(successor) = tx.find_successor(before.id, now).await? {
            let error = ServiceError::from(Reason::AlreadyRotated);
            return Err(error.with("successor_id", successor.id.to_string()));
        }
        let mut violations = Violations::default();
        violations.check("overlap", held.policy.check_overlap(overlap));
        let field = Expiration::field(request.expiration);
        let lifetime = match request.expiration {
            Some(Expiration::At(time)) => Some(time.saturating_since(now)),
            Some(Expiration::After(ttl)) => Some(ttl),
            None => before.expire_time.map(|end| end.saturating_since(before.create_time)),
        };
        let lifetime = if request.expiration.is_some() {
            violations.check(field, held.policy.check_lifetime(lifetime));
            lifetime
        } else {
            violations.check(field, held.policy.inherited_lifetime(lifetime)).flatten()
        };
        violations.finish()?;
        if !overlap.is_zero() {
            // The one that is succeeded gives its place to the successor, and lives on for a while beside it.
            self.check_live(tx, held, now, 1).await?;
        }
        Ok(lifetime.map(|lifetime| now.saturating_add(lifetime)))
    }
}

/// Refuses what is dead already.
fn check_alive(credential: &Credential, now: Timestamp) -> Result<()> {
    match credential.state(now) {
        CredentialState::Active | CredentialState::Disabled => Ok(()),
        CredentialState::Expired => Err(Reason::CredentialExpired.into()),
        CredentialState::Revoked => Err(Reason::CredentialRevoked.into()),
    }
}

/// What the audit log keeps of one side of a rotation.
fn rotation<'a>(
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

/// The credential with its end after the overlap; without one it has so long until it is revoked, in a step of its own.
fn ended(before: &Credential, overlap: Duration, now: Timestamp) -> Credential {
    let mut after = before.clone();
    after.version += 1;
    let end = now.saturating_add(if overlap.is_zero() { ENDING_MAX } else { overlap });
    after.expire_time = Some(before.expire_time.map_or(end, |own| own.min(end)));
    after
}

fn fingerprint(request: &Rotate) -> Digest {
    // None named and zero are two requests. Earlier versions wrote what names none as 0.
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
