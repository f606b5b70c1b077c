//! Services that call this one.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{Caller, CallerId, Digest};

/// Reads callers.
#[async_trait]
pub trait CallerStore: Send + Sync {
    /// The caller whose service token this is, or was before its last rotation, be it dead by now; revoked or not.
    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>>;
    /// The caller of this client certificate's subject alternative name, unless revoked.
    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>>;
    /// Callers after this one, by id, revoked ones included.
    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>>;
}

/// Reads and writes callers.
#[async_trait]
pub trait CallerTx: Send {
    /// The caller, revoked or not.
    async fn find_caller(&mut self, id: CallerId, lock: Lock) -> Result<Option<Caller>>;
    /// The caller of this name, unless revoked.
    async fn find_caller_by_name(&mut self, name: &str, lock: Lock) -> Result<Option<Caller>>;
    /// Inserts the caller.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its id or identity, or the name among those not revoked, is taken.
    async fn insert_caller(&mut self, caller: &Caller) -> Result<()>;
    /// Makes the caller's row look so, but for the time of its making.
    ///
    /// # Errors
    /// As [`Self::insert_caller`].
    async fn update_caller(&mut self, caller: &Caller) -> Result<()>;
}
