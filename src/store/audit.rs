//! The audit log.

use async_trait::async_trait;

use super::Result;
use crate::model::{AuditEvent, EventId, Timestamp, UserId};

/// Reads the audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Lists the audit events that match the filter and follow `after`, by id, which is also by time.
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
    /// Appends several events in one statement, in addition to the event that [`super::WriteTx::commit`] takes. For
    /// calls that change many things.
    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()>;
    /// Deletes the events older than `cutoff`, oldest first and at most `limit` of them. Returns the number deleted.
    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64>;
}

/// Selects audit events. A field that is `None` does not restrict the selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Earliest time, inclusive.
    pub start_time: Option<Timestamp>,
    /// Latest time, exclusive.
    pub end_time: Option<Timestamp>,
    /// Name of the caller.
    pub caller: Option<String>,
    /// User on whose behalf the caller acted.
    pub acting_user: Option<UserId>,
    /// Kind of the target.
    pub target_kind: Option<String>,
    /// Id of the target.
    pub target_id: Option<String>,
    /// Action.
    pub action: Option<String>,
}
