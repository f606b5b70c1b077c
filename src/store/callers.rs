//! Callers: services with a service token or a client certificate.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{Caller, CallerId, Digest, LastUse, RotationId};

/// Reads callers.
#[async_trait]
pub trait CallerStore: Send + Sync {
    /// Returns the caller whose service token, current or previous, has this digest. Expired previous tokens and
    /// revoked callers are included.
    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>>;
    /// Returns the caller with this subject alternative name in its client certificate, unless it is revoked.
    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>>;
    /// Lists the callers after `after`, by id, including revoked ones.
    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>>;
    /// Records when and from where callers were last used, like
    /// [`write_last_uses`](super::BulkStore::write_last_uses). Returns the number recorded.
    async fn write_caller_uses(&self, uses: &[(CallerId, LastUse)]) -> Result<u64>;
}

/// Reads and writes callers.
#[async_trait]
pub trait CallerTx: Send {
    /// Returns the caller, even if it is revoked.
    async fn find_caller(&mut self, id: CallerId, lock: Lock) -> Result<Option<Caller>>;
    /// Returns the caller of this name, unless it is revoked. Takes no lock: callers are locked by their ids, in order.
    async fn peek_caller_by_name(&mut self, name: &str) -> Result<Option<Caller>>;
    /// Returns the caller whose last rotation this is, even if it is revoked. Takes no lock.
    async fn peek_caller_by_rotation(&mut self, rotation: RotationId) -> Result<Option<Caller>>;
    /// Inserts the caller.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if the id or the identity is taken, or if a caller that is
    /// not revoked has the name.
    async fn insert_caller(&mut self, caller: &Caller) -> Result<()>;
    /// Replaces the caller's row, except its creation time, creator and last use.
    ///
    /// # Errors
    /// As [`Self::insert_caller`].
    async fn update_caller(&mut self, caller: &Caller) -> Result<()>;
}
