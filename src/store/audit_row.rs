//! Decodes the rows of the audit log, for both databases, like `row.rs`.

use super::audit::AuditLogHead;
use super::column_reader::{ColumnReader, Columns};
use super::{NumberedEvent, Result};
use crate::model::{AuditEvent, EventId, UserId};

/// Reads `audit_event_columns`.
pub(super) fn audit_event(row: &impl Columns) -> Result<AuditEvent> {
    read(&mut ColumnReader::new(row, "audit_events"))
}

/// Reads `audit_event_columns` and then the event's number.
pub(super) fn numbered_event(row: &impl Columns) -> Result<NumberedEvent> {
    let mut columns = ColumnReader::new(row, "audit_events");
    let event = read(&mut columns)?;
    Ok(NumberedEvent { number: columns.int("seq")?, event })
}

/// Reads the identity of the audit log, its last number, and whether events without a number remain.
pub(super) fn audit_log_head(row: &impl Columns) -> Result<AuditLogHead> {
    let mut columns = ColumnReader::new(row, "audit_counter");
    Ok(AuditLogHead {
        log_id: columns.uuid("log_id")?,
        last: columns.int("last")?,
        has_unnumbered: columns.flag("has_unnumbered")?,
    })
}

/// Reads the id of an event.
pub(super) fn event_id(row: &impl Columns) -> Result<EventId> {
    Ok(EventId(ColumnReader::new(row, "audit_events").uuid("id")?))
}

/// Reads a number of events, `None` for NULL.
pub(super) fn maybe_number(row: &impl Columns) -> Result<Option<i64>> {
    ColumnReader::new(row, "audit_events").maybe_int("seq")
}

fn read(columns: &mut ColumnReader<'_, impl Columns>) -> Result<AuditEvent> {
    Ok(AuditEvent {
        id: EventId(columns.uuid("id")?),
        time: columns.time("time")?,
        action: columns.text("action")?,
        caller: columns.text("caller")?,
        acting_user: columns.maybe_parsed("acting_user", UserId::parse)?,
        target_kind: columns.text("target_kind")?,
        target_id: columns.text("target_id")?,
        remote_address: columns.maybe_text("remote_address")?,
        before: columns.maybe_text("before")?,
        after: columns.maybe_text("after")?,
        reason: columns.maybe_text("reason")?,
        refusal: columns.maybe_text("refusal")?,
    })
}
