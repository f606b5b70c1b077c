//! What the audit log has yet to tell.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::model::{Credential, CredentialId, Timestamp, UserId, WorkspaceId};

/// Tells whether the audit log has yet to tell of credentials that died with their owner.
#[async_trait]
pub trait PendingEndsStore: Send + Sync {
    /// Whether there are credentials that died with their owner, of which the audit log has yet to tell.
    async fn has_pending_ends(&self) -> Result<bool>;
}

/// Works through what the audit log has yet to tell.
#[async_trait]
pub trait PendingEndsTx: Send {
    /// The oldest of what the audit log has yet to tell that no other transaction holds, held.
    async fn take_pending_ends(&mut self) -> Result<Option<PendingEnds>>;
    /// The next of its credentials, by id, with their owner's watermark in their `revoke_time`.
    async fn list_pending_ends(
        &mut self,
        pending: &PendingEnds,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// Inserts it, or notes how far it has come.
    async fn save_pending_ends(&mut self, pending: &PendingEnds) -> Result<()>;
    /// Drops it: all is told.
    async fn delete_pending_ends(&mut self, id: Uuid) -> Result<()>;
}

/// Credentials that died with their owner, of which the audit log has yet to tell, each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEnds {
    /// Its own; older ones come first.
    pub id: Uuid,
    /// Whose they were.
    pub owner: PendingEndsOwner,
    /// The generation that they are of, which ended with the owner.
    pub generation: i64,
    /// When.
    pub revoke_time: Timestamp,
    /// Who did it, as the log has it.
    pub caller: String,
    /// From where.
    pub remote_address: Option<String>,
    /// Why.
    pub reason: String,
    /// Those up to this one, by id, are told.
    pub last_written_id: CredentialId,
    /// So many are.
    pub written_count: i64,
}

/// Whose credentials died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingEndsOwner {
    /// Keys of this workspace.
    Workspace(WorkspaceId),
    /// Personal access tokens of this user.
    User(UserId),
}
