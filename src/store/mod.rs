//! Storage for credentials, the directory, callers, the audit log and the change log. There is one trait per noun, and
//! two implementations: SQLite and Postgres.
//!
//! Both implementations follow these rules, and `tests/it/store` checks them:
//!
//! 1. Every method can fail, with a [`StoreError`]. A missing row is `None`, not an error.
//! 2. A read sees everything that was committed before it began. [`CredentialStore::look_up`] is a single statement, so
//!    it reads from one snapshot.
//! 3. Every write goes through [`Store::begin`] and ends with [`WriteTx::commit`], which also stores the audit event.
//!    Triggers write the rows of the change log, so a change made with `psql` is logged too.
//! 4. A dropped [`WriteTx`] is rolled back. `service` runs each transaction in its own task, never in the future of a
//!    request, because the client can cancel that.
//! 5. To avoid deadlocks, locks are taken in this order: requests, workspace names, workspaces, their policies, users,
//!    memberships, credentials, callers (several in the order of their ids), and the revision counter last. The lock of
//!    [`RulesTx::require_rules`] may be taken anywhere before the counter: who waits for the others never holds it alone.
//!    The counter of audit events is locked only in a transaction of its own.
//! 6. No method takes a raw token, only its digest. Digests are returned for caches, in the change log, and for export.
//! 7. The text of an error never contains a bound value.

mod audit;
mod audit_row;
mod bulk;
mod caller_row;
mod callers;
mod changes;
mod column_reader;
mod contraction;
mod credentials;
mod directory;
mod error;
mod feed;
mod lineage;
mod listing;
mod location;
mod migrations;
mod pending_ends;
mod policies;
mod request_ids;
mod row;
mod rules;
mod sql;
mod status;
mod transfer;
mod workspace_uses;
mod write_health;

pub mod postgres;
pub mod sqlite;

pub use audit::{
    AuditFilter, AuditLogHead, AuditOrder, AuditStore, AuditTx, NumberedEvent, NumberedEvents,
};
pub use bulk::{BulkStore, BulkTx, RevokeFilter};
pub use callers::{CallerStore, CallerTx};
pub use changes::{Change, ChangeStore, ChangedEntity};
pub use contraction::Release;
pub use credentials::{CredentialStore, CredentialTx};
pub use directory::{DirectoryStore, DirectoryTx, NameHolder};
pub use error::{StoreError, Unique};
pub use feed::{
    ChangeFeed, FeedStore, Hint, IncarnationId, Published, Replica, Replicas, Synced, host_name,
};
pub use lineage::{Admitted, Floor, Incarnation, Lineage, Origin, StaleOrigin};
pub use listing::{
    CredentialFilter, CredentialOrder, CredentialPage, CredentialPosition, ListingStore,
};
pub use location::{
    Location, backup, display_url, foreign_tables, may_be_unreachable, migrate, migrate_beyond,
    migrate_to, missing_rights, open, open_existing, open_existing_with, open_with,
    pending_migrations, require_release, restore,
};
pub use migrations::MigrationSummary;
pub use pending_ends::{PendingEnds, PendingEndsOwner, PendingEndsStore, PendingEndsTx};
pub use policies::{PolicyStore, PolicyTx};
pub use postgres::{PoolSizes, PostgresStore};
pub use request_ids::{ClaimedRequest, RequestIdTx};
pub use rules::{OldReplica, RULES, RulesStore, RulesTx, VERSION};
pub use sqlite::{PreparedRestore, SqliteStore};
pub use status::{EntityCounts, ExpiringCount, ReplicaDetails, StatusStore, StoreKind};
pub use transfer::{
    ExportFilter, ImportFound, ImportNames, StoredCredential, TakenCredential, TransferStore,
    TransferTx,
};
pub use workspace_uses::{UsePosition, UsedPat, WorkspaceUseStore, WorkspaceUseTx};

use async_trait::async_trait;

use crate::model::{AuditEvent, Revision};

/// Maximum wait for a pooled connection. Longer than the default request timeout, so that normally the request's
/// deadline ends the wait. An unreachable store is reported sooner.
const PERMIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// Result of every store method.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The store without [`Store::begin`]: all reads, and the few writes that are not management calls and change no
/// answer. Use cases get this trait, so that only `service/commit.rs` can begin a transaction.
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
    + PendingEndsStore
    + WorkspaceUseStore
    + ChangeStore
    + FeedStore
    + StatusStore
    + RulesStore
{
    /// Checks that the database answers and accepts writes. It makes a test write, which leaves no rows behind, only if
    /// there is a doubt: at the start, and after a write failed because the disk was full or a right was missing.
    async fn ping(&self) -> Result<()>;

    /// Resolves when the store is known to be unreachable. Never resolves if the implementation cannot know that.
    async fn until_unreachable(&self) -> StoreError {
        std::future::pending().await
    }

    /// Closes all connections.
    async fn close(&self);
}

/// The store, including the right to begin a transaction.
#[async_trait]
pub trait Store: ReadStore {
    /// Begins a transaction that writes. `name` appears in traces.
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>>;
}

/// A transaction that writes.
#[async_trait]
pub trait WriteTx:
    CredentialTx
    + BulkTx
    + TransferTx
    + DirectoryTx
    + PolicyTx
    + CallerTx
    + RequestIdTx
    + AuditTx
    + PendingEndsTx
    + WorkspaceUseTx
    + RulesTx
{
    /// Commits the transaction together with the audit event and the rows of the change log. Returns the newest
    /// revision.
    async fn commit(self: Box<Self>, audit: &AuditEvent) -> Result<Revision>;
}

/// The lock that a transaction takes on a row it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Other transactions may lock the row for sharing too, but none may change it.
    Share,
    /// The row is about to be changed. No other transaction may lock it.
    Update,
}
