//! The audit log: appending events, reading them, and deleting old ones.

use async_trait::async_trait;
use serde_json::{Value, json};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time};
use crate::model::{AuditEvent, EventId, Timestamp, UserId};
use crate::store::error::expect_rows;
use crate::store::sql::audit_event_columns;
use crate::store::{AuditFilter, AuditStore, AuditTx, row};

#[async_trait]
impl AuditStore for SqliteStore {
    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        read!(self, async |db| {
            // The statement has only the conditions that the filter sets, so that SQLite can use an index for each.
            let mut query = QueryBuilder::<Sqlite>::new(concat!(
                "SELECT ",
                audit_event_columns!(),
                " FROM audit_events WHERE id > "
            ));
            query.push_bind(after.map_or_else(Uuid::nil, |id| id.0));
            if let Some(start) = filter.start_time {
                query.push(" AND id >= ").push_bind(EventId::first_of(start).0);
                query.push(" AND time >= ").push_bind(sql_time(start));
            }
            if let Some(end) = filter.end_time {
                query.push(" AND id < ").push_bind(EventId::first_after(end).0);
                query.push(" AND time < ").push_bind(sql_time(end));
            }
            // The first condition selects the index. The conditions are in order of selectivity, because SQLite keeps
            // no statistics to choose by. The unary `+` keeps SQLite from choosing the index of a later condition.
            let mut plus = "";
            let target_id = filter.target_id.as_deref();
            let conditions = [
                ("target_id <> '' AND ", "target_id = ", target_id),
                ("", "acting_user = ", filter.acting_user.as_ref().map(UserId::as_str)),
                ("", "action = ", filter.action.as_deref()),
                ("", "caller = ", filter.caller.as_deref()),
                ("", "target_kind = ", filter.target_kind.as_deref()),
            ];
            for (implied, column, value) in conditions {
                let Some(value) = value else { continue };
                query
                    .push(" AND ")
                    .push(implied)
                    .push(plus)
                    .push(column)
                    .push_bind(value.to_owned());
                plus = "+";
            }
            query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(db).await?;
            rows.iter().map(row::audit_event).collect()
        })
    }
}

#[async_trait]
impl AuditTx for SqliteTx {
    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()> {
        run!(self, async |db| {
            // One statement inserts all of them. They are bound as JSON, with the id in hexadecimal.
            if events.is_empty() {
                return Ok(());
            }
            let rows: Vec<_> = events.iter().map(fields).collect();
            let done = sqlx::query(concat!(
                "INSERT INTO audit_events (",
                audit_event_columns!(),
                ") SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
                     value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11 \
                 FROM json_each($1)"
            ))
            .bind(Value::Array(rows).to_string())
            .execute(db)
            .await?;
            expect_rows(events.len() as u64, done.rows_affected())
        })
    }

    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        run!(self, async |db| {
            sqlx::query("UPDATE audit_retention SET enabled = 1").execute(&mut *db).await?;
            let done = sqlx::query(
                "DELETE FROM audit_events \
                 WHERE id IN (SELECT id FROM audit_events WHERE id < $1 AND time < $2 ORDER BY id LIMIT $3)",
            )
            .bind(EventId::first_after(cutoff).0)
            .bind(sql_time(cutoff))
            .bind(i64::from(limit))
            .execute(&mut *db)
            .await?;
            sqlx::query("UPDATE audit_retention SET enabled = 0").execute(db).await?;
            Ok(done.rows_affected())
        })
    }
}

/// Appends an event.
pub(super) async fn insert(db: &mut SqliteConnection, event: &AuditEvent) -> Result<()> {
    sqlx::query(concat!(
        "INSERT INTO audit_events (",
        audit_event_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    ))
    .bind(event.id.0)
    .bind(sql_time(event.time))
    .bind(&event.action)
    .bind(&event.caller)
    .bind(event.acting_user.as_ref().map(crate::model::UserId::as_str))
    .bind(&event.target_kind)
    .bind(&event.target_id)
    .bind(&event.remote_address)
    .bind(&event.before)
    .bind(&event.after)
    .bind(&event.reason)
    .bind(&event.refusal)
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the event as a JSON array, in the order of the columns.
fn fields(event: &AuditEvent) -> Value {
    json!([
        hex::encode(event.id.0.as_bytes()),
        sql_time(event.time),
        event.action,
        event.caller,
        event.acting_user.as_ref().map(UserId::as_str),
        event.target_kind,
        event.target_id,
        event.remote_address,
        event.before,
        event.after,
        event.reason,
        event.refusal,
    ])
}
