//! The audit log: appending, listing and retention.

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::session::read;
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, sql_time};
use crate::model::{AuditEvent, EventId, Timestamp, UserId};
use crate::store::error::expect_rows;
use crate::store::sql::audit_event_columns;
use crate::store::{AuditFilter, AuditStore, AuditTx, row};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        read!(self, async |db| {
            // Only the conditions in the filter go into the statement, so that Postgres can use the index for them.
            let mut query = QueryBuilder::<Postgres>::new(concat!(
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
            let target_id = filter.target_id.as_deref();
            let conditions = [
                (" AND target_id <> '' AND target_id = ", target_id),
                (" AND acting_user = ", filter.acting_user.as_ref().map(UserId::as_str)),
                (" AND action = ", filter.action.as_deref()),
                (" AND caller = ", filter.caller.as_deref()),
                (" AND target_kind = ", filter.target_kind.as_deref()),
            ];
            for (condition, value) in conditions {
                let Some(value) = value else { continue };
                query.push(condition).push_bind(value.to_owned());
            }
            query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(row::audit_event).collect()
        })
    }
}

#[async_trait]
impl AuditTx for PostgresTx {
    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()> {
        run!(self, async |db| {
            // One statement for all events, with an array for each column.
            if events.is_empty() {
                return Ok(());
            }
            let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
            let times: Vec<OffsetDateTime> =
                events.iter().map(|event| sql_time(event.time)).collect();
            let done = db
                .query(concat!(
                    "INSERT INTO audit_events (",
                    audit_event_columns!(),
                    ") SELECT * FROM unnest( \
                         $1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
                         $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])"
                ))
                .bind(ids)
                .bind(times)
                .bind(texts(events, |event| event.action.as_str()))
                .bind(texts(events, |event| event.caller.as_str()))
                .bind(texts(events, |event| event.acting_user.as_ref().map(UserId::as_str)))
                .bind(texts(events, |event| event.target_kind.as_str()))
                .bind(texts(events, |event| event.target_id.as_str()))
                .bind(texts(events, |event| event.remote_address.as_deref()))
                .bind(texts(events, |event| event.before.as_deref()))
                .bind(texts(events, |event| event.after.as_deref()))
                .bind(texts(events, |event| event.reason.as_deref()))
                .bind(texts(events, |event| event.refusal.as_deref()))
                .execute(db.connection())
                .await?;
            expect_rows(events.len() as u64, done.rows_affected())
        })
    }

    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64> {
        run!(self, async |db| {
            db.query("SET LOCAL sophic_auth.audit_retention = 'on'")
                .execute(db.connection())
                .await?;
            let done = db
                .query(
                    "DELETE FROM audit_events \
                 WHERE id IN (SELECT id FROM audit_events WHERE id < $1 AND time < $2 ORDER BY id LIMIT $3)",
                )
                .bind(EventId::first_after(cutoff).0)
                .bind(sql_time(cutoff))
                .bind(i64::from(limit))
                .execute(db.connection())
                .await?;
            db.query("SET LOCAL sophic_auth.audit_retention = 'off'")
                .execute(db.connection())
                .await?;
            Ok(done.rows_affected())
        })
    }
}

/// Appends one event.
pub(super) async fn insert(db: &mut Session, event: &AuditEvent) -> Result<()> {
    db.query(concat!(
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
    .execute(db.connection())
    .await?;
    Ok(())
}

fn texts<'e, T: 'e>(events: &'e [AuditEvent], of: impl Fn(&'e AuditEvent) -> T) -> Vec<T> {
    events.iter().map(of).collect()
}
