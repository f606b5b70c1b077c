//! Whether the store can be used, and whether memory can take its place.

use super::Service;
use crate::model::Digest;
use crate::store::StoreError;

/// What the answers in memory are good for while the store is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// They are as good as the store's.
    Current,
    /// They are the last that were known, and are given marked as stale.
    LastKnown,
    /// They are too old.
    Useless,
}

impl Service {
    /// Reads as an introspection does.
    ///
    /// # Errors
    /// The store's, for logs.
    pub async fn probe_reads(&self) -> Result<(), StoreError> {
        // No token has this digest.
        self.store.look_up(&Digest::from_hash([0; 32]), None).await.map(drop)
    }

    /// Checks that the store takes writes.
    ///
    /// # Errors
    /// The store's, for logs.
    pub async fn probe_writes(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    /// What memory is good for.
    pub fn memory(&self) -> Memory {
        if self.lookup.is_current() {
            Memory::Current
        } else if self.lookup.bridges() {
            Memory::LastKnown
        } else {
            Memory::Useless
        }
    }
}
