//! The store in a Postgres database, 14 or later: native column types, one pool that reads and one that writes.
//!
//! All SQL for Postgres is here and nothing else. `diff -r` against `sqlite` shows the dialect.

mod audit;
mod bulk;
mod callers;
mod changes;
mod credentials;
mod digests;
mod directory;
mod feed;
mod held;
mod hosts;
mod lane;
mod listing;
mod look;
mod open;
mod policies;
mod pools;
mod primary;
mod reach;
mod requests;
mod rights;
mod session;
mod transaction;
mod transfer;
mod turns;
mod untold;
mod url;

pub use open::{lacking, migrate, others, pending};
pub use pools::PoolSizes;
pub use url::place_of_url;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;

use self::pools::Connections;
use self::primary::{Primary, Seen};
use self::session::{Purpose, Session, again, decide, read};
use self::transaction::PostgresTx;
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

/// The store in a Postgres database.
#[derive(Debug)]
pub struct PostgresStore {
    connections: Connections,
    primary: Arc<Primary>,
    sizes: PoolSizes,
}

/// Runs what writes, in a transaction of its own, to its commit.
macro_rules! transact {
    ($store:expr, $db:ident => $write:expr) => {{
        let mut session = $store.begin_write().await?;
        let $db = &mut session;
        let mut outcome = $write.await;
        if outcome.is_ok() {
            outcome = session.commit().await.and(outcome);
        }
        $store.primary.writes.note(&outcome);
        outcome
    }};
}

/// A time as Postgres keeps it.
fn at(time: Timestamp) -> OffsetDateTime {
    time.date_time()
}

#[async_trait]
impl ReadStore for PostgresStore {
    async fn ping(&self) -> Result<()> {
        let doubts = self.primary.writes.doubts();
        decide!(self, db => rights::ping(db))?;
        if let Some(doubts) = doubts {
            // Rolled back: a disk that is full is found when the rows are to be placed.
            rights::try_to_write(&mut self.begin_write().await?).await?;
            self.primary.writes.prove(doubts);
        }
        Ok(())
    }

    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts> {
        decide!(self, db => credentials::look_up(db, digest, workspace))
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
        transact!(self, db => bulk::write_last_uses(db, uses))
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
        decide!(self, db => callers::find_by_digest(db, digest))
    }

    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>> {
        decide!(self, db => callers::find_by_san(db, san))
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
        transact!(self, db => changes::delete(db, cutoff, limit))
    }

    async fn revision(&self) -> Result<Revision> {
        decide!(self, db => changes::revision(db))
    }

    async fn time(&self) -> Result<StoreTime> {
        read!(self, db => changes::time(db))
    }

    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        decide!(self, db => credentials::look_up_many(db, asked))
    }

    async fn has_untold(&self) -> Result<bool> {
        read!(self, db => untold::any(db))
    }

    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>> {
        Ok(Box::new(feed::PostgresFeed::open(self).await?))
    }

    async fn list_replicas(&self) -> Result<Replicas> {
        decide!(self, db => feed::list_replicas(db))
    }

    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        read!(self, db => feed::find_host(db, id))
    }

    async fn fence_replica(&self, id: ReplicaId, seq: i64) -> Result<bool> {
        transact!(self, db => feed::fence(db, id, seq))
    }

    async fn gone(&self) -> StoreError {
        self.primary.reach.gone().await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>> {
        let (session, primary) = (self.begin_write().await?, Arc::clone(&self.primary));
        Ok(Box::new(PostgresTx { session, primary, name }))
    }
}
