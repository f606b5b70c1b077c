//! What the audit log has yet to tell.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::model::{Credential, CredentialId, Timestamp, UserId, WorkspaceId};

/// Tells whether the audit log has yet to tell of credentials that died with their owner.
#[async_trait]
pub trait UntoldStore: Send + Sync {
    /// Whether there are credentials that died with their owner, of which the audit log has yet to tell.
    async fn has_untold(&self) -> Result<bool>;
}

/// Works through what the audit log has yet to tell.
#[async_trait]
pub trait UntoldTx: Send {
    /// The oldest of what the audit log has yet to tell that no other transaction holds, held.
    async fn take_untold(&mut self) -> Result<Option<Untold>>;
    /// The next of its credentials, by id, with their owner's watermark in their `revoke_time`.
    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>>;
    /// Inserts it, or notes how far it has come.
    async fn save_untold(&mut self, untold: &Untold) -> Result<()>;
    /// Drops it: all is told.
    async fn delete_untold(&mut self, id: Uuid) -> Result<()>;
}

/// Credentials that died with their owner, of which the audit log has yet to tell, each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Its own; older ones come first.
    pub id: Uuid,
    /// Whose they were.
    pub owner: UntoldOwner,
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
    pub told_id: CredentialId,
    /// So many are.
    pub told_count: i64,
}

/// Whose credentials died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UntoldOwner {
    /// Keys of this workspace.
    Workspace(WorkspaceId),
    /// Personal access tokens of this user.
    User(UserId),
}
