//! A transaction that writes. It holds the one lock there is from its beginning, so [`Lock`] asks for nothing more.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::watched::Watched;
use super::{
    Result, audit, bulk, callers, changes, credentials, directory, policies, requests, transfer,
    untold,
};
use crate::model::{
    AuditEvent, Caller, CallerId, Credential, CredentialId, Digest, Membership, Owner, Revision,
    Slug, Timestamp, User, UserId, Workspace, WorkspaceId, WorkspacePolicy,
};
use crate::store::{
    ClaimedRequest, ImportFound, ImportNames, Lock, NameHolder, RevokeFilter, StoreError,
    StoredCredential, Untold, WriteTx,
};

/// Dropping it rolls back.
pub(super) struct SqliteTx {
    pub(super) transaction: Transaction<'static, Sqlite>,
    pub(super) file: Arc<Watched>,
    /// What went wrong in it: SQLite may have rolled it back by itself then, and another statement would be on its own.
    pub(super) failed: Option<StoreError>,
    pub(super) name: &'static str,
}

impl SqliteTx {
    /// Refuses whatever comes after a failure.
    fn go_on(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Takes in the outcome of a statement. A constraint that was violated undoes that statement alone.
    fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let outcome = self.file.note(outcome);
        self.failed = match &outcome {
            Ok(_) | Err(StoreError::Conflict { .. }) => None,
            Err(error) => Some(error.clone()),
        };
        outcome
    }
}

/// Runs a statement, unless one has failed.
macro_rules! verb {
    ($this:expr, $tx:ident => $verb:expr) => {{
        $this.go_on()?;
        let outcome = {
            let $tx = &mut *$this.transaction;
            $verb.await
        };
        $this.note(outcome)
    }};
}

#[async_trait]
impl WriteTx for SqliteTx {
    async fn lock_workspace_names(&mut self) -> Result<()> {
        Ok(())
    }

    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>> {
        verb!(self, tx => directory::find_name_holder(tx, name, now))
    }

    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()> {
        verb!(self, tx => directory::reserve_slug(tx, slug, id, release_time))
    }

    async fn release_slug(&mut self, slug: &Slug) -> Result<()> {
        verb!(self, tx => directory::release_slug(tx, slug))
    }

    async fn find_workspace(&mut self, name: &str, _lock: Lock) -> Result<Option<Workspace>> {
        verb!(self, tx => directory::find_workspace(tx, name))
    }

    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        _lock: Lock,
    ) -> Result<Option<Workspace>> {
        verb!(self, tx => directory::find_workspace_row(tx, id))
    }

    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        verb!(self, tx => directory::put_workspace(tx, workspace))
    }

    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        _lock: Lock,
    ) -> Result<Option<WorkspacePolicy>> {
        verb!(self, tx => policies::find(tx, id))
    }

    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()> {
        verb!(self, tx => policies::put(tx, id, policy))
    }

    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()> {
        verb!(self, tx => policies::delete(tx, id))
    }

    async fn find_user_row(&mut self, id: &UserId, _lock: Lock) -> Result<Option<User>> {
        verb!(self, tx => directory::find_user_row(tx, id))
    }

    async fn put_user(&mut self, user: &User) -> Result<()> {
        verb!(self, tx => directory::put_user(tx, user))
    }

    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        _lock: Lock,
    ) -> Result<Option<Membership>> {
        verb!(self, tx => directory::find_membership(tx, workspace, user))
    }

    async fn put_membership(&mut self, membership: &Membership) -> Result<()> {
        verb!(self, tx => directory::put_membership(tx, membership))
    }

    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool> {
        verb!(self, tx => directory::delete_membership(tx, workspace, user))
    }

    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64> {
        verb!(self, tx => directory::delete_memberships_of_workspace(tx, workspace))
    }

    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64> {
        verb!(self, tx => directory::delete_memberships_of_user(tx, user))
    }

    async fn find_credential(
        &mut self,
        id: CredentialId,
        _lock: Lock,
    ) -> Result<Option<Credential>> {
        verb!(self, tx => credentials::find(tx, id))
    }

    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>> {
        verb!(self, tx => credentials::find(tx, id))
    }

    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        _lock: Lock,
    ) -> Result<Option<Credential>> {
        verb!(self, tx => credentials::find_by_digest(tx, digest))
    }

    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()> {
        verb!(self, tx => credentials::insert(tx, credential, digest))
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<()> {
        verb!(self, tx => credentials::update(tx, credential))
    }

    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        verb!(self, tx => transfer::find(tx, names))
    }

    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        verb!(self, tx => transfer::find(tx, names))
    }

    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()> {
        verb!(self, tx => transfer::insert(tx, credentials))
    }

    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()> {
        verb!(self, tx => transfer::renew_epoch(tx, epoch))
    }

    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>> {
        verb!(self, tx => bulk::find(tx, ids))
    }

    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        verb!(self, tx => bulk::list_revocable(tx, filter, after, limit))
    }

    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()> {
        verb!(self, tx => bulk::revoke(tx, ids, time))
    }

    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()> {
        verb!(self, tx => bulk::delete(tx, ids))
    }

    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()> {
        verb!(self, tx => credentials::replace_digest(tx, id, digest))
    }

    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        verb!(self, tx => credentials::find_successor(tx, id, now))
    }

    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32> {
        verb!(self, tx => credentials::count_live(tx, owner, generation, now, most))
    }

    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>> {
        verb!(self, tx => requests::claim(tx, request, forget_before))
    }

    async fn take_untold(&mut self) -> Result<Option<Untold>> {
        verb!(self, tx => untold::take(tx))
    }

    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>> {
        verb!(self, tx => untold::list(tx, untold, limit))
    }

    async fn save_untold(&mut self, untold: &Untold) -> Result<()> {
        verb!(self, tx => untold::save(tx, untold))
    }

    async fn delete_untold(&mut self, id: Uuid) -> Result<()> {
        verb!(self, tx => untold::delete(tx, id))
    }

    async fn find_caller(&mut self, id: CallerId, _lock: Lock) -> Result<Option<Caller>> {
        verb!(self, tx => callers::find(tx, id))
    }

    async fn find_caller_by_name(&mut self, name: &str, _lock: Lock) -> Result<Option<Caller>> {
        verb!(self, tx => callers::find_by_name(tx, name))
    }

    async fn insert_caller(&mut self, caller: &Caller) -> Result<()> {
        verb!(self, tx => callers::insert(tx, caller))
    }

    async fn update_caller(&mut self, caller: &Caller) -> Result<()> {
        verb!(self, tx => callers::update(tx, caller))
    }

    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()> {
        verb!(self, tx => audit::insert_many(tx, events))
    }

    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        verb!(self, tx => audit::delete(tx, cutoff, limit))
    }

    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        verb!(self, tx => audit::insert(tx, audit))?;
        let revision = verb!(self, tx => changes::revision(tx))?;
        let Self { transaction, file, name, .. } = *self;
        // What fails here is rolled back, by SQLite or when the connection is given back; see `is_clean`.
        file.note(transaction.commit().await.map_err(StoreError::from))?;
        // It counts only if it is in the file that others find.
        file.check()?;
        tracing::debug!(transaction = name, revision = revision.0, "committed");
        Ok(revision)
    }
}
