//! Request ids of calls that made a credential.

use async_trait::async_trait;

use super::Result;
use crate::model::{CredentialId, Digest, RequestId, Timestamp};

/// Remembers the request ids of calls that made a credential.
#[async_trait]
pub trait RequestTx: Send {
    /// Notes that this request makes its credential. If one of the same requester and id did after `forget_before`, that
    /// one is given instead, and nothing is noted. Of two that race, the second waits for the first to end.
    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>>;
}

/// A request that made a credential, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// Who asked: each has request ids of its own.
    pub requester: String,
    /// The id.
    pub request_id: RequestId,
    /// SHA-256 of the request's body; of no token.
    pub fingerprint: Digest,
    /// What it made; of the rotation of a caller, that.
    pub credential_id: CredentialId,
    /// When.
    pub create_time: Timestamp,
}
