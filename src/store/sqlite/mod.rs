//! The store in an SQLite file: WAL, every commit synced, one connection that writes and a few that read.
//!
//! All SQL for SQLite is here and nothing else. `diff -r` against `postgres` shows the dialect.

mod audit;
mod backup;
mod bulk;
mod callers;
mod changes;
mod credentials;
mod directory;
mod feed;
mod file;
mod listing;
mod open;
mod policies;
mod requests;
mod transaction;
mod transfer;
mod untold;

pub use backup::backup;
pub use open::migrate;

use async_trait::async_trait;
use sqlx::SqlitePool;

use self::transaction::SqliteTx;
use super::{
    AuditFilter, Change, ChangeFeed, CredentialFilter, CredentialPosition, ExportFilter,
    ImportFound, ImportNames, Listed, LookedUp, ReadStore, Replicas, Result, RevokeFilter, Store,
    StoredCredential, WriteTx,
};
use crate::model::{
    AuditEvent, Caller, CallerId, Credential, CredentialId, Digest, EventId, LastUse, Membership,
    ReplicaId, Revision, Timestamp, User, UserId, Workspace, WorkspaceId, WorkspacePolicy,
};

/// The store in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// One connection, since SQLite has one writer at a time: waiting for it here is fair, waiting in SQLite is not.
    write: SqlitePool,
    /// Connections that are refused every write.
    read: SqlitePool,
}

/// A time as SQLite keeps it.
fn at(time: Timestamp) -> i64 {
    time.unix_micros()
}

#[async_trait]
impl ReadStore for SqliteStore {
    async fn ping(&self) -> Result<()> {
        // Taking the lock finds a file or disk that is read-only; nothing is written.
        let transaction = self.write.begin_with("BEGIN IMMEDIATE").await?;
        Ok(transaction.rollback().await?)
    }

    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<LookedUp> {
        credentials::look_up(&mut *self.read.acquire().await?, digest, workspace).await
    }

    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>> {
        credentials::find(&mut *self.read.acquire().await?, id).await
    }

    async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Listed> {
        listing::list(&mut *self.read.acquire().await?, filter, now, after, limit).await
    }

    async fn explain_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Vec<String>> {
        listing::explain(&mut *self.read.acquire().await?, filter, now, after, limit).await
    }

    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>> {
        transfer::export(&mut *self.read.acquire().await?, filter, after, limit).await
    }

    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound> {
        transfer::find(&mut *self.read.acquire().await?, names).await
    }

    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        bulk::list_revocable(&mut *self.read.acquire().await?, filter, after, limit).await
    }

    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64> {
        bulk::count_revocable(&mut *self.read.acquire().await?, filter).await
    }

    async fn list_dead(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>> {
        bulk::list_dead(&mut *self.read.acquire().await?, cutoff, limit).await
    }

    async fn write_last_uses(&self, uses: &[(CredentialId, LastUse)]) -> Result<u64> {
        let mut transaction = self.write.begin_with("BEGIN IMMEDIATE").await?;
        let written = bulk::write_last_uses(&mut transaction, uses).await?;
        transaction.commit().await?;
        Ok(written)
    }

    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>> {
        directory::find_workspace(&mut *self.read.acquire().await?, name).await
    }

    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>> {
        directory::list_workspaces(&mut *self.read.acquire().await?, after, limit).await
    }

    async fn find_workspace_policy(&self, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>> {
        policies::find(&mut *self.read.acquire().await?, id).await
    }

    async fn list_workspace_policies(
        &self,
        first: &WorkspaceId,
        last: &WorkspaceId,
    ) -> Result<Vec<(WorkspaceId, WorkspacePolicy)>> {
        policies::list(&mut *self.read.acquire().await?, first, last).await
    }

    async fn find_user(&self, id: &UserId) -> Result<Option<User>> {
        directory::find_user(&mut *self.read.acquire().await?, id).await
    }

    async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>> {
        directory::list_users(&mut *self.read.acquire().await?, after, limit).await
    }

    async fn find_membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>> {
        directory::find_membership(&mut *self.read.acquire().await?, workspace, user).await
    }

    async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceId>,
        user: Option<&UserId>,
        after: Option<(&WorkspaceId, &UserId)>,
        limit: u32,
    ) -> Result<Vec<Membership>> {
        directory::list_memberships(&mut *self.read.acquire().await?, workspace, user, after, limit)
            .await
    }

    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>> {
        callers::find_by_digest(&mut *self.read.acquire().await?, digest).await
    }

    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>> {
        callers::find_by_san(&mut *self.read.acquire().await?, san).await
    }

    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>> {
        callers::list(&mut *self.read.acquire().await?, after, limit).await
    }

    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        audit::list(&mut *self.read.acquire().await?, filter, after, limit).await
    }

    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>> {
        changes::list(&mut *self.read.acquire().await?, after, limit).await
    }

    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        let mut transaction = self.write.begin_with("BEGIN IMMEDIATE").await?;
        let deleted = changes::delete(&mut transaction, cutoff, limit).await?;
        transaction.commit().await?;
        Ok(deleted)
    }

    async fn revision(&self) -> Result<Revision> {
        changes::revision(&mut *self.read.acquire().await?).await
    }

    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<LookedUp>> {
        credentials::look_up_many(&mut *self.read.acquire().await?, asked).await
    }

    async fn has_untold(&self) -> Result<bool> {
        untold::any(&mut *self.read.acquire().await?).await
    }

    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(feed::SqliteFeed::open(self).await?))
    }

    async fn list_replicas(&self) -> Result<Replicas> {
        feed::list_replicas(&mut *self.read.acquire().await?).await
    }

    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        feed::find_host(&mut *self.read.acquire().await?, id).await
    }

    async fn fence_replica(&self, id: ReplicaId, seq: i64) -> Result<bool> {
        feed::fence(&mut *self.write.acquire().await?, id, seq).await
    }

    async fn close(&self) {
        self.read.close().await;
        // Last: the last connection to close folds the write-ahead log into the file.
        self.write.close().await;
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>> {
        // A transaction that reads before it writes would fail at once, without waiting, if another wrote between.
        let transaction = self.write.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Box::new(SqliteTx { transaction, name }))
    }
}
