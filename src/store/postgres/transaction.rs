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

#[async_trait]
impl WriteTx for PostgresTx {
    async fn lock_workspace_names(&mut self) -> Result<()> {
        directory::lock_names(&mut self.session).await
    }

    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>> {
        directory::find_name_holder(&mut self.session, name, now).await
    }

    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()> {
        directory::reserve_slug(&mut self.session, slug, id, release_time).await
    }

    async fn release_slug(&mut self, slug: &Slug) -> Result<()> {
        directory::release_slug(&mut self.session, slug).await
    }

    async fn find_workspace(&mut self, name: &str, lock: Lock) -> Result<Option<Workspace>> {
        directory::find_workspace_locked(&mut self.session, name, lock).await
    }

    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<Workspace>> {
        directory::find_workspace_row_locked(&mut self.session, id, lock).await
    }

    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        directory::put_workspace(&mut self.session, workspace).await
    }

    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<WorkspacePolicy>> {
        policies::find_locked(&mut self.session, id, lock).await
    }

    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()> {
        policies::put(&mut self.session, id, policy).await
    }

    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()> {
        policies::delete(&mut self.session, id).await
    }

    async fn find_user_row(&mut self, id: &UserId, lock: Lock) -> Result<Option<User>> {
        directory::find_user_row_locked(&mut self.session, id, lock).await
    }

    async fn put_user(&mut self, user: &User) -> Result<()> {
        directory::put_user(&mut self.session, user).await
    }

    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        lock: Lock,
    ) -> Result<Option<Membership>> {
        directory::find_membership_locked(&mut self.session, workspace, user, lock).await
    }

    async fn put_membership(&mut self, membership: &Membership) -> Result<()> {
        directory::put_membership(&mut self.session, membership).await
    }

    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool> {
        directory::delete_membership(&mut self.session, workspace, user).await
    }

    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64> {
        directory::delete_memberships_of_workspace(&mut self.session, workspace).await
    }

    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64> {
        directory::delete_memberships_of_user(&mut self.session, user).await
    }

    async fn find_credential(
        &mut self,
        id: CredentialId,
        lock: Lock,
    ) -> Result<Option<Credential>> {
        credentials::find_locked(&mut self.session, id, lock).await
    }

    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>> {
        credentials::find(&mut self.session, id).await
    }

    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        lock: Lock,
    ) -> Result<Option<Credential>> {
        credentials::find_by_digest_locked(&mut self.session, digest, lock).await
    }

    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()> {
        credentials::insert(&mut self.session, credential, digest).await
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<()> {
        credentials::update(&mut self.session, credential).await
    }

    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        transfer::find_locked(&mut self.session, names).await
    }

    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        transfer::find(&mut self.session, names).await
    }

    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()> {
        transfer::insert(&mut self.session, credentials).await
    }

    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()> {
        transfer::renew_epoch(&mut self.session, epoch).await
    }

    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>> {
        bulk::find_locked(&mut self.session, ids).await
    }

    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        bulk::list_revocable_locked(&mut self.session, filter, after, limit).await
    }

    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()> {
        bulk::revoke(&mut self.session, ids, time).await
    }

    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()> {
        bulk::delete(&mut self.session, ids).await
    }

    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()> {
        credentials::replace_digest(&mut self.session, id, digest).await
    }

    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        credentials::find_successor(&mut self.session, id, now).await
    }

    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32> {
        credentials::count_live(&mut self.session, owner, generation, now, most).await
    }

    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>> {
        requests::claim(&mut self.session, request, forget_before).await
    }

    async fn take_untold(&mut self) -> Result<Option<Untold>> {
        untold::take(&mut self.session).await
    }

    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>> {
        untold::list(&mut self.session, untold, limit).await
    }

    async fn save_untold(&mut self, untold: &Untold) -> Result<()> {
        untold::save(&mut self.session, untold).await
    }

    async fn delete_untold(&mut self, id: Uuid) -> Result<()> {
        untold::delete(&mut self.session, id).await
    }

    async fn find_caller(&mut self, id: CallerId, lock: Lock) -> Result<Option<Caller>> {
        callers::find_locked(&mut self.session, id, lock).await
    }

    async fn find_caller_by_name(&mut self, name: &str, lock: Lock) -> Result<Option<Caller>> {
        callers::find_by_name_locked(&mut self.session, name, lock).await
    }

    async fn insert_caller(&mut self, caller: &Caller) -> Result<()> {
        callers::insert(&mut self.session, caller).await
    }

    async fn update_caller(&mut self, caller: &Caller) -> Result<()> {
        callers::update(&mut self.session, caller).await
    }

    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()> {
        audit::insert_many(&mut self.session, events).await
    }

    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        audit::delete(&mut self.session, cutoff, limit).await
    }

    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        audit::insert(&mut self.session, audit).await?;
        // The deferred triggers run now, at the very end: they lock the counter, which every other writer waits for.
        let floor = self.primary.floor();
        let (place, revision) = changes::append(&mut self.session).await?;
        // What was read in it was of no primary, then, or of one that was behind: nothing of it happens.
        self.primary.admit(self.session.generation, &floor, &place, revision)?;
        self.session.commit().await?;
        self.primary.confirm(&place, revision);
        tracing::debug!(transaction = self.name, revision = revision.0, "committed");
        Ok(revision)
    }
}
