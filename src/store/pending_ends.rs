//! Pending end events: audit events, still to be written, for credentials that ended with their owner.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::model::{Credential, CredentialId, Timestamp, UserId, WorkspaceId};

/// Reads whether there are pending end events.
#[async_trait]
pub trait PendingEndsStore: Send + Sync {
    /// Returns whether any end events are pending.
    async fn has_pending_ends(&self) -> Result<bool>;
}

/// Works through the pending end events.
#[async_trait]
pub trait PendingEndsTx: Send {
    /// Returns the oldest pending end events that no other transaction has locked, and locks them.
    async fn take_pending_ends(&mut self) -> Result<Option<PendingEnds>>;
    /// Lists the next of the owner's credentials, by id, with the time of the owner's generation as their
    /// `revoke_time`.
    async fn list_pending_ends(
        &mut self,
        pending: &PendingEnds,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// Inserts the record, or updates its progress.
    async fn save_pending_ends(&mut self, pending: &PendingEnds) -> Result<()>;
    /// Deletes the record: all its events are written.
    async fn delete_pending_ends(&mut self, id: Uuid) -> Result<()>;
}

/// The credentials of one deleted owner whose end events are pending. Each credential gets its own event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEnds {
    /// Id of the record. Older records come first.
    pub id: Uuid,
    /// Owner of the credentials.
    pub owner: PendingEndsOwner,
    /// Generation of the credentials, which ended with the owner.
    pub generation: i64,
    /// Time at which the credentials ended.
    pub revoke_time: Timestamp,
    /// Caller that ended the owner, as the audit log names it.
    pub caller: String,
    /// Address of that caller.
    pub remote_address: Option<String>,
    /// Reason that the caller gave.
    pub reason: String,
    /// Last credential whose event is written, by id. Column `told_id`.
    pub last_written_id: CredentialId,
    /// Number of events written. Column `told_count`.
    pub written_count: i64,
}

/// Owner whose credentials ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingEndsOwner {
    /// Keys of this workspace.
    Workspace(WorkspaceId),
    /// Personal access tokens of this user.
    User(UserId),
}
