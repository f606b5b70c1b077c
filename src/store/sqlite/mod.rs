//! The store in an SQLite file: WAL, every commit synced, one connection that writes and a few that read.
//!
//! All SQL for SQLite is here and nothing else. `diff -r` against `postgres` shows the dialect.

mod audit;
mod backup;
mod bulk;
mod callers;
mod changes;
mod credentials;
mod digests;
mod directory;
mod feed;
mod file;
mod listing;
mod look;
mod open;
mod policies;
mod pools;
mod requests;
mod restore;
mod rights;
mod transaction;
mod transfer;
mod untold;
mod watched;

pub use backup::backup;
pub use open::{migrate, pending};
pub use restore::Restoring;
pub use rights::lacking;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Sqlite, SqlitePool, Transaction};

use self::pools::Pools;
use self::transaction::SqliteTx;
use self::watched::Watched;
use super::{
    AuditFilter, Change, ChangeFeed, CredentialFilter, CredentialPosition, ExportFilter,
    ImportFound, ImportNames, Listed, ReadStore, Replicas, Result, RevokeFilter, Store, StoreError,
    StoredCredential, WriteTx,
};
use crate::model::{
    AuditEvent, Caller, CallerId, Credential, CredentialId, Digest, EventId, Facts, LastUse,
    Membership, ReplicaId, Revision, StoreTime, Timestamp, User, UserId, Workspace, WorkspaceId,
    WorkspacePolicy,
};

/// The store in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Made anew after the file read as damaged.
    pools: RwLock<Pools>,
    options: SqliteConnectOptions,
    /// The file itself.
    file: Arc<Watched>,
    /// Whether a file that read as damaged is whole, while that is looked at.
    check: Mutex<Option<pools::Check>>,
}

impl SqliteStore {
    fn read_pool(&self) -> SqlitePool {
        self.pools.read().read.clone()
    }

    fn write_pool(&self) -> SqlitePool {
        self.pools.read().write.clone()
    }

    /// A connection that reads.
    async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        self.file.check()?;
        let connection = self.read_pool().acquire().await?;
        // It may have waited for its turn at a file that is given up meanwhile.
        self.file.check()?;
        Ok(connection)
    }

    /// A transaction that writes. One that reads before it writes would fail at once, without waiting, if another wrote
    /// between: so it takes the lock at its beginning.
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.file.check()?;
        let begun = self.write_pool().begin_with("BEGIN IMMEDIATE").await;
        self.file.note(begun.map_err(StoreError::from))
    }

    /// Runs what writes, to its commit. It counts only if the file is still there to be found.
    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<()> {
        self.file.check()?;
        self.file.note(transaction.commit().await.map_err(StoreError::from))?;
        self.file.check()
    }
}

/// Runs a read.
macro_rules! read {
    ($store:expr, $db:ident => $read:expr) => {{
        let mut held = $store.reader().await?;
        let $db = &mut *held;
        $store.file.note($read.await)
    }};
}

/// A time as SQLite keeps it.
fn at(time: Timestamp) -> i64 {
    time.unix_micros()
}

#[async_trait]
impl ReadStore for SqliteStore {
    async fn ping(&self) -> Result<()> {
        let doubts = self.file.writes.doubts();
        // Taking the lock finds a file that may only be read.
        let mut transaction = self.begin_write().await?;
        let Some(doubts) = doubts else { return Ok(transaction.rollback().await?) };
        self.file.note(rights::try_to_write(&mut transaction).await)?;
        self.commit(transaction).await?;
        self.file.writes.prove(doubts);
        Ok(())
    }

    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts> {
        read!(self, db => credentials::look_up(db, digest, workspace))
    }

    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>> {
        read!(self, db => credentials::find(db, id))
    }

    async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Listed> {
        read!(self, db => listing::list(db, filter, now, after, limit))
    }

    async fn explain_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Vec<String>> {
        read!(self, db => listing::explain(db, filter, now, after, limit))
    }

    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>> {
        read!(self, db => transfer::export(db, filter, after, limit))
    }

    async fn list_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<Digest>> {
        read!(self, db => digests::list(db, after, limit))
    }

    async fn explain_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<String>> {
        read!(self, db => digests::explain(db, after, limit))
    }

    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound> {
        read!(self, db => transfer::find(db, names))
    }

    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        read!(self, db => bulk::list_revocable(db, filter, after, limit))
    }

    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64> {
        read!(self, db => bulk::count_revocable(db, filter))
    }

    async fn list_dead(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>> {
        read!(self, db => bulk::list_dead(db, cutoff, limit))
    }

    async fn write_last_uses(&self, uses: &[(CredentialId, LastUse)]) -> Result<u64> {
        let mut transaction = self.begin_write().await?;
        let written = self.file.note(bulk::write_last_uses(&mut transaction, uses).await)?;
        self.commit(transaction).await?;
        Ok(written)
    }

    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        read!(self, db => directory::find_workspace(db, name))
    }

    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>> {
        read!(self, db => directory::list_workspaces(db, after, limit))
    }

    async fn find_workspace_policy(&self, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>> {
        read!(self, db => policies::find(db, id))
    }

    async fn list_workspace_policies(
        &self,
        first: &WorkspaceId,
        last: &WorkspaceId,
    ) -> Result<Vec<(WorkspaceId, WorkspacePolicy)>> {
        read!(self, db => policies::list(db, first, last))
    }

    async fn find_user(&self, id: &UserId) -> Result<Option<User>> {
        read!(self, db => directory::find_user(db, id))
    }

    async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>> {
        read!(self, db => directory::list_users(db, after, limit))
    }

    async fn find_membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>> {
        read!(self, db => directory::find_membership(db, workspace, user))
    }

    async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceId>,
        user: Option<&UserId>,
        after: Option<(&WorkspaceId, &UserId)>,
        limit: u32,
    ) -> Result<Vec<Membership>> {
        read!(self, db => directory::list_memberships(db, workspace, user, after, limit))
    }

    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>> {
        read!(self, db => callers::find_by_digest(db, digest))
    }

    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>> {
        read!(self, db => callers::find_by_san(db, san))
    }

    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>> {
        read!(self, db => callers::list(db, after, limit))
    }

    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        read!(self, db => audit::list(db, filter, after, limit))
    }

    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>> {
        read!(self, db => changes::list(db, after, limit))
    }

    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        let mut transaction = self.begin_write().await?;
        let deleted = self.file.note(changes::delete(&mut transaction, cutoff, limit).await)?;
        self.commit(transaction).await?;
        Ok(deleted)
    }

    async fn revision(&self) -> Result<Revision> {
        read!(self, db => changes::revision(db))
    }

    async fn time(&self) -> Result<StoreTime> {
        read!(self, db => changes::time(db))
    }

    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>> {
        read!(self, db => credentials::look_up_many(db, asked))
    }

    async fn has_untold(&self) -> Result<bool> {
        read!(self, db => untold::any(db))
    }

    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(feed::SqliteFeed::open(self).await?))
    }

    async fn list_replicas(&self) -> Result<Replicas> {
        read!(self, db => feed::list_replicas(db))
    }

    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        read!(self, db => feed::find_host(db, id))
    }

    async fn fence_replica(&self, id: ReplicaId, seq: i64) -> Result<bool> {
        self.file.check()?;
        self.file.note(feed::fence(&mut *self.write_pool().acquire().await?, id, seq).await)
    }

    async fn close(&self) {
        self.file.close();
        self.read_pool().close().await;
        // Last: the last connection to close folds the write-ahead log into the file.
        self.write_pool().close().await;
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>> {
        let (transaction, file) = (self.begin_write().await?, Arc::clone(&self.file));
        Ok(Box::new(SqliteTx { transaction, file, failed: None, name }))
    }
}
