//! The audit log: appended to and read.

use super::{Result, Session, at};
use crate::model::{AuditEvent, EventId};
use crate::store::row;
use crate::store::sql::audit_event_columns;

/// Appends an event.
pub(super) async fn insert(db: &mut Session, event: &AuditEvent) -> Result<()> {
    db.query(concat!(
        "INSERT INTO audit_events (",
        audit_event_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    ))
    .bind(event.id.0)
    .bind(at(event.time))
    .bind(&event.action)
    .bind(&event.caller)
    .bind(event.acting_user.as_ref().map(|user| user.as_str()))
    .bind(&event.target_kind)
    .bind(&event.target_id)
    .bind(&event.remote_address)
    .bind(&event.before)
    .bind(&event.after)
    .bind(&event.reason)
    .execute(db.connection())
    .await?;
    Ok(())
}

/// Events after this one, by id.
pub(super) async fn list(
    db: &mut Session,
    after: Option<EventId>,
    limit: u32,
) -> Result<Vec<AuditEvent>> {
    let rows = db
        .query(concat!(
            "SELECT ",
            audit_event_columns!(),
            " FROM audit_events WHERE id > $1 ORDER BY id LIMIT $2"
        ))
        .bind(after.map(|id| id.0).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(db.connection())
        .await?;
    rows.iter().map(row::audit_event).collect()
}
