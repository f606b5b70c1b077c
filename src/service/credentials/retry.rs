//! Retries: calls with the same request id create one credential. docs/api.md describes the rules.
//!
//! A retry cannot show the first token again, because that was never stored. While the credential is new and unused,
//! the retry gets a fresh token, and the first one stops working.

use sha2::{Digest as _, Sha256};

use crate::model::limits::{REPLAY_AGE_MAX, REQUEST_ID_RETENTION};
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, CredentialState, Digest, RequestId,
    Timestamp, UserId,
};
use crate::service::audit::Entry;
use crate::service::commit::{Done, Transaction};
use crate::service::{
    Context, Created, FieldViolation, Reason, Requester, Result, Service, ServiceError, view,
};
use crate::store::{ClaimedRequest, Lock, WriteTx};
use crate::token::Token;

/// The id of a request and the fingerprint of its body.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct RequestKey {
    pub(in crate::service) id: RequestId,
    pub(in crate::service) fingerprint: Digest,
}

/// SHA-256 of the request fields in a fixed order, each preceded by its length.
pub(in crate::service) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Starts the fingerprint of a request of this RPC.
    pub(in crate::service) fn of(rpc: &str) -> Self {
        Self(Sha256::new()).field(rpc)
    }

    pub(in crate::service) fn field(mut self, value: &str) -> Self {
        self.0.update(value.len().to_be_bytes());
        self.0.update(value.as_bytes());
        self
    }

    pub(in crate::service) fn fields<'v>(
        self,
        values: impl ExactSizeIterator<Item = &'v str>,
    ) -> Self {
        let counted = self.field(&values.len().to_string());
        values.fold(counted, Self::field)
    }

    pub(in crate::service) fn finish(self) -> Digest {
        Digest::from_hash(self.0.finalize().into())
    }
}

impl Service {
    /// Records that the request creates this credential. Returns the earlier request if the id was used before.
    ///
    /// # Errors
    /// [`Reason::ArgumentInvalid`] if the earlier request had a different body.
    pub(in crate::service) async fn claim_request_id(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        retry: Option<RequestKey>,
        credential_id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<ClaimedRequest>> {
        let Some(RequestKey { id: request_id, fingerprint }) = retry else { return Ok(None) };
        let requester = match &context.requester {
            Requester::Caller(caller) => format!("caller:{}", caller.id),
            Requester::Operator(name) => format!("operator:{name}"),
        };
        let request =
            ClaimedRequest { requester, request_id, fingerprint, credential_id, create_time: now };
        let forget_before = self.clock.earliest_now().saturating_sub(REQUEST_ID_RETENTION);
        let earlier = tx.claim_request(&request, forget_before).await?;
        if earlier.as_ref().is_some_and(|earlier| !earlier.fingerprint.equals(&fingerprint)) {
            return Err(ServiceError::invalid(vec![FieldViolation {
                field: "request_id".to_owned(),
                description: format!(
                    "was used for another request within {} hours: use a new one",
                    REQUEST_ID_RETENTION.as_secs() / 3_600
                ),
            }]));
        }
        Ok(earlier)
    }

    /// Replaces the token of the credential that an earlier try created, if that token cannot have been used yet.
    pub(in crate::service) async fn replay(
        &self,
        mut tx: Transaction,
        context: &Context,
        acting_user: Option<&UserId>,
        earlier: &ClaimedRequest,
    ) -> Result<Done<Created>> {
        let id = earlier.credential_id;
        let now = self.clock.now();
        let found = tx.find_credential(id, Lock::Update).await?;
        let before =
            found.filter(|found| is_replayable(found, now) && !self.last_uses.is_noted(id));
        let before = before.ok_or_else(|| {
            ServiceError::from(Reason::RequestReplayed).with("credential_id", id.to_string())
        })?;
        let token = Token::mint(before.kind.into(), &*self.random)?;
        let mut credential = before.clone();
        credential.hint = token.hint();
        credential.version += 1;
        tx.update_credential(&credential).await?;
        self.lookup.note_new_digest(&token.digest());
        tx.replace_digest(id, &token.digest()).await?;
        let entry = Entry {
            action: AuditAction::CredentialReplay,
            target: AuditTarget::Credential(id),
            acting_user,
            before: Some(view::credential(&before, now)),
            after: Some(view::credential(&credential, now)),
            reason: None,
        };
        let event = self.audit_event(context, entry)?;
        let committed = self.commit(tx, &event).await?;
        Ok(committed.done(Created { credential, token }).narrowing())
    }
}

/// Whether the token may be replaced: the credential is new, has not ended, and was not seen in use.
fn is_replayable(credential: &Credential, now: Timestamp) -> bool {
    let young = now.saturating_since(credential.create_time) < REPLAY_AGE_MAX;
    let alive = match credential.state(now) {
        CredentialState::Active | CredentialState::Disabled => true,
        CredentialState::Expired | CredentialState::Revoked => false,
    };
    young && alive && credential.last_use.is_none()
}
