//! The change log.

use async_trait::async_trait;

use super::Result;
use crate::model::{CallerId, Digest, Revision, StoreTime, Timestamp, UserId, WorkspaceId};

/// Reads and purges the change log, which triggers write.
#[async_trait]
pub trait ChangeStore: Send + Sync {
    /// Lists the rows of the change log after this revision, in order.
    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>>;
    /// Deletes the oldest rows of the change log, at most `limit` of them, in its own transaction. Only rows older
    /// than `cutoff` that every replica has applied are deleted, and never the newest row. Returns the number
    /// deleted.
    ///
    /// The deleted rows are always a prefix of the log, even if the database's clock jumped. A reader would not notice
    /// a gap.
    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64>;
    /// Returns the newest revision.
    async fn revision(&self) -> Result<Revision>;
    /// Returns the current time as the store knows it.
    async fn time(&self) -> Result<StoreTime>;
}

/// A row of the change log: a change that may alter the answer of an introspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Number of the change.
    pub revision: Revision,
    /// The entity that changed.
    pub entity: ChangedEntity,
}

/// The entity that changed, in the form in which a cache looks it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedEntity {
    /// The credential of this digest.
    Credential(Digest),
    /// A user, or the user's memberships.
    User(UserId),
    /// A workspace.
    Workspace(WorkspaceId),
    /// A caller.
    Caller(CallerId),
    /// All unknown digests: an import may have added some of them. Entries for known digests remain valid.
    UnknownDigests,
}
