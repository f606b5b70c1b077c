//! A transaction that writes: READ COMMITTED, with the row locks that [`Lock`] asks for.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::primary::Primary;
use super::{
    Result, Session, audit, bulk, callers, changes, credentials, directory, policies, requests,
    transfer, untold,
};
use crate::model::{
    AuditEvent, Caller, CallerId, Credential, CredentialId, Digest, Membership, Owner, Revision,
    Slug, Timestamp, User, UserId, Workspace, WorkspaceId, WorkspacePolicy,
};
use crate::store::{
    ClaimedRequest, ImportFound, ImportNames, Lock, NameHolder, RevokeFilter, StoredCredential,
    Untold, WriteTx,
};

/// Dropping it rolls back.
pub(super) struct PostgresTx {
    pub(super) session: Session,
    pub(super) primary: Arc<Primary>,
    pub(super) name: &'static str,
}

/// Runs a statement, and takes in how writing goes.
macro_rules! verb {
    ($this:expr, $db:ident => $verb:expr) => {{
        let outcome = {
            let $db = &mut $this.session;
            $verb.await
        };
        $this.primary.writes.note(&outcome);
        outcome
    }};
}

#[async_trait]
impl WriteTx for PostgresTx {
    async fn lock_workspace_names(&mut self) -> Result<()> {
        verb!(self, db => directory::lock_names(db))
    }

    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>> {
        verb!(self, db => directory::find_name_holder(db, name, now))
    }

    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()> {
        verb!(self, db => directory::reserve_slug(db, slug, id, release_time))
    }

    async fn release_slug(&mut self, slug: &Slug) -> Result<()> {
        verb!(self, db => directory::release_slug(db, slug))
    }

    async fn find_workspace(&mut self, name: &str, lock: Lock) -> Result<Option<Workspace>> {
        verb!(self, db => directory::find_workspace_locked(db, name, lock))
    }

    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<Workspace>> {
        verb!(self, db => directory::find_workspace_row_locked(db, id, lock))
    }

    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        verb!(self, db => directory::put_workspace(db, workspace))
    }

    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<WorkspacePolicy>> {
        verb!(self, db => policies::find_locked(db, id, lock))
    }

    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()> {
        verb!(self, db => policies::put(db, id, policy))
    }

    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()> {
        verb!(self, db => policies::delete(db, id))
    }

    async fn find_user_row(&mut self, id: &UserId, lock: Lock) -> Result<Option<User>> {
        verb!(self, db => directory::find_user_row_locked(db, id, lock))
    }

    async fn put_user(&mut self, user: &User) -> Result<()> {
        verb!(self, db => directory::put_user(db, user))
    }

    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        lock: Lock,
    ) -> Result<Option<Membership>> {
        verb!(self, db => directory::find_membership_locked(db, workspace, user, lock))
    }

    async fn put_membership(&mut self, membership: &Membership) -> Result<()> {
        verb!(self, db => directory::put_membership(db, membership))
    }

    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool> {
        verb!(self, db => directory::delete_membership(db, workspace, user))
    }

    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64> {
        verb!(self, db => directory::delete_memberships_of_workspace(db, workspace))
    }

    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64> {
        verb!(self, db => directory::delete_memberships_of_user(db, user))
    }

    async fn find_credential(
        &mut self,
        id: CredentialId,
        lock: Lock,
    ) -> Result<Option<Credential>> {
        verb!(self, db => credentials::find_locked(db, id, lock))
    }

    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>> {
        verb!(self, db => credentials::find(db, id))
    }

    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        lock: Lock,
    ) -> Result<Option<Credential>> {
        verb!(self, db => credentials::find_by_digest_locked(db, digest, lock))
    }

    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()> {
        verb!(self, db => credentials::insert(db, credential, digest))
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<()> {
        verb!(self, db => credentials::update(db, credential))
    }

    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        verb!(self, db => transfer::find_locked(db, names))
    }

    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        verb!(self, db => transfer::find(db, names))
    }

    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()> {
        verb!(self, db => transfer::insert(db, credentials))
    }

    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()> {
        verb!(self, db => transfer::renew_epoch(db, epoch))
    }

    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>> {
        verb!(self, db => bulk::find_locked(db, ids))
    }

    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        verb!(self, db => bulk::list_revocable_locked(db, filter, after, limit))
    }

    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()> {
        verb!(self, db => bulk::revoke(db, ids, time))
    }

    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()> {
        verb!(self, db => bulk::delete(db, ids))
    }

    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()> {
        verb!(self, db => credentials::replace_digest(db, id, digest))
    }

    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        verb!(self, db => credentials::find_successor(db, id, now))
    }

    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32> {
        verb!(self, db => credentials::count_live(db, owner, generation, now, most))
    }

    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>> {
        verb!(self, db => requests::claim(db, request, forget_before))
    }

    async fn take_untold(&mut self) -> Result<Option<Untold>> {
        verb!(self, db => untold::take(db))
    }

    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>> {
        verb!(self, db => untold::list(db, untold, limit))
    }

    async fn save_untold(&mut self, untold: &Untold) -> Result<()> {
        verb!(self, db => untold::save(db, untold))
    }

    async fn delete_untold(&mut self, id: Uuid) -> Result<()> {
        verb!(self, db => untold::delete(db, id))
    }

    async fn find_caller(&mut self, id: CallerId, lock: Lock) -> Result<Option<Caller>> {
        verb!(self, db => callers::find_locked(db, id, lock))
    }

    async fn find_caller_by_name(&mut self, name: &str, lock: Lock) -> Result<Option<Caller>> {
        verb!(self, db => callers::find_by_name_locked(db, name, lock))
    }

    async fn insert_caller(&mut self, caller: &Caller) -> Result<()> {
        verb!(self, db => callers::insert(db, caller))
    }

    async fn update_caller(&mut self, caller: &Caller) -> Result<()> {
        verb!(self, db => callers::update(db, caller))
    }

    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()> {
        verb!(self, db => audit::insert_many(db, events))
    }

    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        verb!(self, db => audit::delete(db, cutoff, limit))
    }

    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        verb!(self, db => audit::insert(db, audit))?;
        // The deferred triggers run now, at the very end: they lock the counter, which every other writer waits for.
        let floor = self.primary.floor();
        let (place, revision) = verb!(self, db => changes::append(db))?;
        // What was read in it was of no primary, then, or of one that was behind: nothing of it happens.
        self.primary.admit(self.session.generation, &floor, &place, revision)?;
        let committed = self.session.commit().await;
        self.primary.writes.note(&committed);
        committed?;
        self.primary.confirm(&place, revision);
        tracing::debug!(transaction = self.name, revision = revision.0, "committed");
        Ok(revision)
    }
}
