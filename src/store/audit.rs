//! The audit log.

use async_trait::async_trait;

use super::Result;
use crate::model::{AuditEvent, EventId, Timestamp, UserId};

/// Reads the audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Audit events that the filter names after this one, by id, which is by time.
    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>>;
}

/// Appends to the audit log, and applies its retention.
#[async_trait]
pub trait AuditTx: Send {
    /// Appends events beside the one that [`super::WriteTx::commit`] takes, all at once: where one call changes many things.
    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()>;
    /// Retention: drops the oldest events from before `cutoff`, up to `limit` of them; how many.
    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64>;
}

/// Which audit events to list. What is `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Not before this.
    pub start_time: Option<Timestamp>,
    /// Before this.
    pub end_time: Option<Timestamp>,
    /// Of this caller, by name.
    pub caller: Option<String>,
    /// On behalf of this user.
    pub acting_user: Option<UserId>,
    /// On this kind of thing.
    pub target_kind: Option<String>,
    /// On this thing.
    pub target_id: Option<String>,
    /// Of this action.
    pub action: Option<String>,
}
