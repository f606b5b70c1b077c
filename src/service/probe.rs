//! Probes of the store, and of the memory that can answer in its place.

use super::Service;
use crate::model::Digest;
use crate::store::StoreError;

/// Usability of the answers in memory while the store is unreachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryState {
    /// The lease is valid: answers are as current as the store's.
    Current,
    /// The lease has expired, but the last known answers are still given, marked as stale.
    LastKnown,
    /// The answers are too old to be given.
    TooOld,
}

impl Service {
    /// Reads from the store as an introspection does.
    ///
    /// # Errors
    /// The store's error, for logs.
    pub async fn probe_reads(&self) -> Result<(), StoreError> {
        // No token has this digest.
        self.store.look_up(&Digest::from_hash([0; 32]), None).await.map(drop)
    }

    /// Checks that the store accepts writes.
    ///
    /// # Errors
    /// The store's error, for logs.
    pub async fn probe_writes(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    /// Returns the usability of the answers in memory.
    pub fn memory_state(&self) -> MemoryState {
        if self.lookup.is_current() {
            MemoryState::Current
        } else if self.lookup.serves_stale() {
            MemoryState::LastKnown
        } else {
            MemoryState::TooOld
        }
    }
}
