//! Request ids, which keep a retry from creating a second credential.

use async_trait::async_trait;

use super::Result;
use crate::model::{CredentialId, Digest, RequestId, Timestamp};

/// Number of expired rows that each claim deletes. It is more than a claim adds, so expired rows do not pile up.
pub(super) const EXPIRED_PER_CLAIM: i64 = 100;

/// Stores the request ids of calls that created a credential.
#[async_trait]
pub trait RequestIdTx: Send {
    /// Claims this request id for its credential. If the same requester has used the id after `forget_before`, returns
    /// that earlier request and stores nothing. If two requests race, the second waits until the first has committed or
    /// failed.
    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>>;
}

/// A stored request that created a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// Requester. Request ids of different requesters are independent.
    pub requester: String,
    /// Request id.
    pub request_id: RequestId,
    /// SHA-256 of the request's body. It never covers a token.
    pub fingerprint: Digest,
    /// Credential that the request created, or the caller that it rotated.
    pub credential_id: CredentialId,
    /// Time of the request.
    pub create_time: Timestamp,
}
