//! A transaction that writes. It holds the one lock there is from its beginning, so [`Lock`] asks for nothing more.

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{
    Result, audit, bulk, callers, changes, credentials, directory, policies, requests, transfer,
    untold,
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
pub(super) struct SqliteTx {
    pub(super) transaction: Transaction<'static, Sqlite>,
    pub(super) name: &'static str,
}

#[async_trait]
impl WriteTx for SqliteTx {
    async fn lock_workspace_names(&mut self) -> Result<()> {
        Ok(())
    }

    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>> {
        directory::find_name_holder(&mut self.transaction, name, now).await
    }

    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()> {
        directory::reserve_slug(&mut self.transaction, slug, id, release_time).await
    }

    async fn release_slug(&mut self, slug: &Slug) -> Result<()> {
        directory::release_slug(&mut self.transaction, slug).await
    }

    async fn find_workspace(&mut self, name: &str, _lock: Lock) -> Result<Option<Workspace>> {
        directory::find_workspace(&mut self.transaction, name).await
    }

    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        _lock: Lock,
    ) -> Result<Option<Workspace>> {
        directory::find_workspace_row(&mut self.transaction, id).await
    }

    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()> {
        directory::put_workspace(&mut self.transaction, workspace).await
    }

    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        _lock: Lock,
    ) -> Result<Option<WorkspacePolicy>> {
        policies::find(&mut self.transaction, id).await
    }

    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()> {
        policies::put(&mut self.transaction, id, policy).await
    }

    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()> {
        policies::delete(&mut self.transaction, id).await
    }

    async fn find_user_row(&mut self, id: &UserId, _lock: Lock) -> Result<Option<User>> {
        directory::find_user_row(&mut self.transaction, id).await
    }

    async fn put_user(&mut self, user: &User) -> Result<()> {
        directory::put_user(&mut self.transaction, user).await
    }

    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        _lock: Lock,
    ) -> Result<Option<Membership>> {
        directory::find_membership(&mut self.transaction, workspace, user).await
    }

    async fn put_membership(&mut self, membership: &Membership) -> Result<()> {
        directory::put_membership(&mut self.transaction, membership).await
    }

    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool> {
        directory::delete_membership(&mut self.transaction, workspace, user).await
    }

    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64> {
        directory::delete_memberships_of_workspace(&mut self.transaction, workspace).await
    }

    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64> {
        directory::delete_memberships_of_user(&mut self.transaction, user).await
    }

    async fn find_credential(
        &mut self,
        id: CredentialId,
        _lock: Lock,
    ) -> Result<Option<Credential>> {
        credentials::find(&mut self.transaction, id).await
    }

    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>> {
        credentials::find(&mut self.transaction, id).await
    }

    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        _lock: Lock,
    ) -> Result<Option<Credential>> {
        credentials::find_by_digest(&mut self.transaction, digest).await
    }

    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()> {
        credentials::insert(&mut self.transaction, credential, digest).await
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<()> {
        credentials::update(&mut self.transaction, credential).await
    }

    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        transfer::find(&mut self.transaction, names).await
    }

    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound> {
        transfer::find(&mut self.transaction, names).await
    }

    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()> {
        transfer::insert(&mut self.transaction, credentials).await
    }

    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()> {
        transfer::renew_epoch(&mut self.transaction, epoch).await
    }

    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>> {
        bulk::find(&mut self.transaction, ids).await
    }

    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>> {
        bulk::list_revocable(&mut self.transaction, filter, after, limit).await
    }

    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()> {
        bulk::revoke(&mut self.transaction, ids, time).await
    }

    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()> {
        bulk::delete(&mut self.transaction, ids).await
    }

    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()> {
        credentials::replace_digest(&mut self.transaction, id, digest).await
    }

    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>> {
        credentials::find_successor(&mut self.transaction, id, now).await
    }

    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32> {
        credentials::count_live(&mut self.transaction, owner, generation, now, most).await
    }

    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>> {
        requests::claim(&mut self.transaction, request, forget_before).await
    }

    async fn take_untold(&mut self) -> Result<Option<Untold>> {
        untold::take(&mut self.transaction).await
    }

    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>> {
        untold::list(&mut self.transaction, untold, limit).await
    }

    async fn save_untold(&mut self, untold: &Untold) -> Result<()> {
        untold::save(&mut self.transaction, untold).await
    }

    async fn delete_untold(&mut self, id: Uuid) -> Result<()> {
        untold::delete(&mut self.transaction, id).await
    }

    async fn find_caller(&mut self, id: CallerId, _lock: Lock) -> Result<Option<Caller>> {
        callers::find(&mut self.transaction, id).await
    }

    async fn find_caller_by_name(&mut self, name: &str, _lock: Lock) -> Result<Option<Caller>> {
        callers::find_by_name(&mut self.transaction, name).await
    }

    async fn insert_caller(&mut self, caller: &Caller) -> Result<()> {
        callers::insert(&mut self.transaction, caller).await
    }

    async fn update_caller(&mut self, caller: &Caller) -> Result<()> {
        callers::update(&mut self.transaction, caller).await
    }

    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()> {
        audit::insert_many(&mut self.transaction, events).await
    }

    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        audit::delete(&mut self.transaction, cutoff, limit).await
    }

    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        audit::insert(&mut self.transaction, audit).await?;
        let revision = changes::revision(&mut self.transaction).await?;
        self.transaction.commit().await?;
        tracing::debug!(transaction = self.name, revision = revision.0, "committed");
        Ok(revision)
    }
}
