//! The audit log.

use async_trait::async_trait;
use uuid::Uuid;

use super::Result;
use crate::model::{AuditAction, AuditEvent, EventId, Timestamp, UserId, WorkspaceId};

/// Largest part of the log, by number, that [`AuditStore::list_numbered_events`] examines. With a narrow filter a page
/// would otherwise read millions of events.
pub(super) const NUMBERS_EXAMINED: i64 = 10_000;

/// Reads the audit log, and numbers its events for followers.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Lists the audit events that match the filter and follow `after` in its order, by id, which is also by time.
    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>>;

    /// Numbers at most `limit` committed events that have no number yet, in order of their ids, in its own
    /// transaction. Returns what the log is like afterwards.
    ///
    /// Ids are made before their transaction commits, so an event can appear before one that was read already. Numbers
    /// are given after the commit, under the lock of one row: whoever has read up to a number misses nothing before it.
    async fn number_audit_events(&self, limit: u32) -> Result<AuditLogHead>;

    /// Lists the audit events that match the filter and have a number above `after`, by number. Examines a bounded
    /// part of the log, up to `last` of an [`AuditLogHead`] that was read before.
    async fn list_numbered_events(
        &self,
        filter: &AuditFilter,
        after: i64,
        last: i64,
        limit: u32,
    ) -> Result<NumberedEvents>;

    /// Returns the id of the event with this number. `None` if it was purged, or if there never was one.
    async fn find_event_id(&self, number: i64) -> Result<Option<EventId>>;

    /// Empties the write-ahead log of an SQLite file, which has the texts that were erased from the file. Returns whether
    /// it is empty, which another process prevents while it reads or writes. Does nothing for Postgres, whose logs are
    /// those of the whole server.
    async fn empty_log(&self) -> Result<bool>;
}

/// Appends to the audit log, applies its retention, and redacts it.
#[async_trait]
pub trait AuditTx: Send {
    /// Appends several events in one statement, in addition to the event that [`super::WriteTx::commit`] takes. For
    /// calls that change many things.
    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()>;
    /// Deletes the events older than `cutoff`, oldest first and at most `limit` of them. Returns the number deleted.
    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64>;
    /// Replaces the free text of these events: `before`, `after`, `reason` and `remote_address`. The other fields must
    /// be as they are in the log, and no text may appear or disappear. Returns the number of events that exist.
    async fn redact_audit_events(&mut self, events: &[AuditEvent]) -> Result<u64>;
    /// Replaces the names of at most `limit` revoked personal access tokens of this user by `name`, and so the creators and
    /// hints that only an import can have given. Deletes their annotations, their allowlists and the addresses of their last
    /// uses. Returns the number changed, 0 when all are.
    async fn redact_pats(&mut self, user: &UserId, name: &str, limit: u32) -> Result<u64>;
}

/// Order of a list of audit events, by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditOrder {
    /// Oldest first.
    #[default]
    OldestFirst,
    /// Newest first.
    NewestFirst,
}

/// What a follower has to know of the audit log before it reads a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditLogHead {
    /// Identity of this log, which a backup keeps. Another store has another one.
    pub log_id: Uuid,
    /// Last number that was given to an event.
    pub last: i64,
    /// Whether committed events without a number remain.
    pub has_unnumbered: bool,
}

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Number, from 1.
    pub number: i64,
    /// The event.
    pub event: AuditEvent,
}

/// A part of the audit log in the order of its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvents {
    /// Events that match the filter.
    pub events: Vec<NumberedEvent>,
    /// Number up to which all events were examined: the next page follows it.
    pub examined: i64,
}

impl NumberedEvents {
    /// Makes a page of at most `limit` events from those in the part of the log after `after`, up to `end`.
    pub(super) fn of(events: Vec<NumberedEvent>, after: i64, end: i64, limit: u32) -> Self {
        let is_full = events.len() >= limit as usize;
        let last = events.last().filter(|_| is_full).map(|event| event.number);
        Self { events, examined: last.unwrap_or(end).max(after) }
    }
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
    /// Action, under its present name or an earlier one. Events under any name of the action match.
    pub action: Option<String>,
    /// Workspace that the event is about: itself, one of its keys, or one of its memberships.
    pub workspace_id: Option<WorkspaceId>,
    /// User whom the event is about: themselves, one of their personal access tokens, or one of their memberships.
    pub about_user: Option<UserId>,
    /// Owner of the personal access token that the event is about.
    pub pats_of: Option<UserId>,
    /// Whether refused calls are left out.
    pub without_refusals: bool,
    /// Order of the list. Followers read by number, whatever it says.
    pub order: AuditOrder,
}

impl AuditFilter {
    /// Returns every name under which the log has events of the requested action.
    pub(super) fn action_names(&self) -> Vec<String> {
        self.action.as_deref().map(AuditAction::names_of).unwrap_or_default()
    }
}
