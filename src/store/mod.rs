//! Where credentials, the directory, callers, the audit log and the change log are kept: traits by noun, two databases.
//!
//! The rules, which `tests/it/store` holds both to:
//!
//! 1. Every method can fail, and a failure is a [`StoreError`]: what is not there is `None`, not an error.
//! 2. Reads see what was committed before they began. [`CredentialStore::look_up`] is one statement, hence one snapshot.
//! 3. Writing goes through [`Store::begin`] and leaves by [`WriteTx::commit`], which takes the audit event with it.
//!    The rows of the change log are written by triggers, so that none can be forgotten, not even with psql.
//! 4. A dropped [`WriteTx`] leaves nothing behind. It is never owned by a request's future, which a client can cancel:
//!    `service` runs it in a task of its own.
//! 5. Locks are taken in the order requests, workspace names, workspaces, their policies, users, memberships,
//!    credentials, callers, and the revision counter last, so that no two transactions wait for each other.
//! 6. No method takes a raw token. Digests go in; they come out for caches, in the change log, and for export.
//! 7. Bound values never stand in an error's text.

mod audit;
mod bulk;
mod callers;
mod changes;
mod columns;
mod credentials;
mod directory;
mod error;
mod feed;
mod lineage;
mod listing;
mod location;
mod migrations;
mod policies;
mod requests;
mod row;
mod sql;
mod transfer;
mod untold;
mod writes;

pub mod postgres;
pub mod sqlite;

pub use audit::{AuditFilter, AuditStore, AuditTx};
pub use bulk::{BulkStore, BulkTx, RevokeFilter};
pub use callers::{CallerStore, CallerTx};
pub use changes::{Change, ChangeStore, ChangedEntity};
pub use credentials::{CredentialStore, CredentialTx};
pub use directory::{DirectoryStore, DirectoryTx, NameHolder};
pub use error::{StoreError, Unique};
pub use feed::{ChangeFeed, FeedStore, Hint, Incarnation, Published, Replica, Replicas, Synced};
pub use lineage::{Admitted, Floor, Life, Lineage, Place, Refused};
pub use listing::{CredentialFilter, CredentialOrder, CredentialPosition, Listed, ListingStore};
pub use location::{
    Location, backup, lacking, may_be_away, migrate, open, open_as_is, open_as_is_with, open_with,
    others, pending, place, restore,
};
pub use migrations::Migrated;
pub use policies::{PolicyStore, PolicyTx};
pub use postgres::{PoolSizes, PostgresStore};
pub use requests::{ClaimedRequest, RequestTx};
pub use sqlite::{Restoring, SqliteStore};
pub use transfer::{
    ExportFilter, ImportFound, ImportNames, StoredCredential, TakenCredential, TransferStore,
    TransferTx,
};
pub use untold::{Untold, UntoldOwner, UntoldStore, UntoldTx};

use async_trait::async_trait;

use crate::model::{AuditEvent, Revision};

/// How long a turn at a connection is waited for, at the most: longer than anybody waits for an answer by default, and then
/// the deadline of the request comes first. A store that is away is another thing, and told sooner.
const TURN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// What every method gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The database but for [`Store::begin`]: what reads, and the little that is written beside management calls and changes no
/// answer. This is what use cases have; how they write is `service/commit.rs`.
#[async_trait]
pub trait ReadStore:
    CredentialStore
    + ListingStore
    + BulkStore
    + TransferStore
    + DirectoryStore
    + PolicyStore
    + CallerStore
    + AuditStore
    + UntoldStore
    + ChangeStore
    + FeedStore
{
    /// Whether the database answers, and takes writes. It is written to, with nothing left of it, only if that is in doubt: at
    /// first, and after a write of anybody that found the disk full or was denied.
    async fn ping(&self) -> Result<()>;

    /// When the store is known to be away, and whoever waits for it waits in vain; never, where that cannot be known.
    async fn gone(&self) -> StoreError {
        std::future::pending().await
    }

    /// Ends every connection.
    async fn close(&self);
}

/// The database, for reading, and for beginning to write.
#[async_trait]
pub trait Store: ReadStore {
    /// Begins to write. `name` is for traces.
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>>;
}

/// A transaction: small verbs, one exit.
#[async_trait]
pub trait WriteTx:
    CredentialTx
    + BulkTx
    + TransferTx
    + DirectoryTx
    + PolicyTx
    + CallerTx
    + RequestTx
    + AuditTx
    + UntoldTx
{
    /// Commits all of it with the audit event and the rows of the change log; the newest revision.
    async fn commit(self: Box<Self>, audit: &AuditEvent) -> Result<Revision>;
}

/// How firmly a transaction holds what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Others may read it in their transactions, and none may change it.
    Share,
    /// It is about to be changed.
    Update,
}
