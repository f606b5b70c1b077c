//! The change log.

use async_trait::async_trait;

use super::Result;
use crate::model::{CallerId, Digest, Revision, StoreTime, Timestamp, UserId, WorkspaceId};

/// Reads and purges the change log, which triggers write.
#[async_trait]
pub trait ChangeStore: Send + Sync {
    /// The rows of the change log after this revision, in order.
    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>>;
    /// Drops the oldest rows of the change log, up to `limit` of them, in a transaction of its own: those from before
    /// `cutoff` that every replica has applied, and never the newest. How many it dropped.
    ///
    /// It drops a prefix, whatever the database's clock did: a gap would be read over.
    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64>;
    /// The newest revision.
    async fn revision(&self) -> Result<Revision>;
    /// What time it is, as far as the store can tell.
    async fn time(&self) -> Result<StoreTime>;
}

/// A row of the change log: what may have turned an answer around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub revision: Revision,
    /// What changed.
    pub entity: ChangedEntity,
}

/// What changed, as a cache must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedEntity {
    /// The credential of this digest.
    Credential(Digest),
    /// A user, or their memberships.
    User(UserId),
    /// A workspace.
    Workspace(WorkspaceId),
    /// A caller.
    Caller(CallerId),
    /// All digests that were unknown: an import may have made some of them known. What is known stays as it is.
    UnknownDigests,
}
