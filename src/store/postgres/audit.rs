//! The audit log: appending, listing, numbering, retention and redaction.

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::session::{read, transact};
use super::transaction::{PostgresTx, run};
use super::{PostgresStore, Result, Session, sql_time};
use crate::model::{AuditEvent, EventId, Timestamp, UserId};
use crate::store::audit::NUMBERS_EXAMINED;
use crate::store::error::expect_rows;
use crate::store::sql::audit_event_columns;
use crate::store::{
    AuditFilter, AuditLogHead, AuditOrder, AuditStore, AuditTx, NumberedEvents, audit_row,
};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>> {
        read!(self, async |db| {
            let newest_first = filter.order == AuditOrder::NewestFirst;
            let (begin, end) = if newest_first {
                (
                    concat!("SELECT ", audit_event_columns!(), " FROM audit_events WHERE id < "),
                    " ORDER BY id DESC LIMIT ",
                )
            } else {
                (
                    concat!("SELECT ", audit_event_columns!(), " FROM audit_events WHERE id > "),
                    " ORDER BY id LIMIT ",
                )
            };
            let before_all = if newest_first { Uuid::max() } else { Uuid::nil() };
            let mut query = QueryBuilder::<Postgres>::new(begin);
            query.push_bind(after.map_or(before_all, |id| id.0));
            push_filter(&mut query, filter);
            query.push(end).push_bind(i64::from(limit));
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            rows.iter().map(audit_row::audit_event).collect()
        })
    }

    async fn number_audit_events(&self, limit: u32) -> Result<AuditLogHead> {
        let found = read!(self, async |db| head(db).await)?;
        if !found.has_unnumbered {
            return Ok(found);
        }
        transact!(self, async |db| {
            db.query("SELECT number_audit_events($1)")
                .bind(i32::try_from(limit).unwrap_or(i32::MAX))
                .execute(db.connection())
                .await?;
            head(db).await
        })
    }

    async fn list_numbered_events(
        &self,
        filter: &AuditFilter,
        after: i64,
        last: i64,
        limit: u32,
    ) -> Result<NumberedEvents> {
        read!(self, async |db| {
            // Numbers of purged events are skipped.
            let row = db
                .query("SELECT min(seq) FROM audit_events WHERE seq > $1")
                .bind(after)
                .fetch_one(db.connection())
                .await?;
            let first = audit_row::maybe_number(&row)?.unwrap_or(last.saturating_add(1));
            let end = first.saturating_add(NUMBERS_EXAMINED - 1).min(last);
            let mut query = QueryBuilder::<Postgres>::new(concat!(
                "SELECT ",
                audit_event_columns!(),
                ", seq FROM audit_events WHERE seq > "
            ));
            query.push_bind(after).push(" AND seq <= ").push_bind(end);
            push_filter(&mut query, filter);
            query.push(" ORDER BY seq LIMIT ").push_bind(i64::from(limit));
            let rows = db.query_from(&mut query).fetch_all(db.connection()).await?;
            let events = rows.iter().map(audit_row::numbered_event).collect::<Result<Vec<_>>>()?;
            Ok(NumberedEvents::of(events, after, end, limit))
        })
    }

    async fn find_event_id(&self, number: i64) -> Result<Option<EventId>> {
        read!(self, async |db| {
            let row = db
                .query("SELECT id FROM audit_events WHERE seq = $1")
                .bind(number)
                .fetch_optional(db.connection())
                .await?;
            row.as_ref().map(audit_row::event_id).transpose()
        })
    }

    async fn empty_log(&self) -> Result<bool> {
        Ok(true)
    }
}

/// Appends the conditions of the filter to a statement. Only those that are set go into it, so that Postgres can use
/// the index for them.
fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &AuditFilter) {
    if let Some(start) = filter.start_time {
        query.push(" AND id >= ").push_bind(EventId::first_of(start).0);
        query.push(" AND time >= ").push_bind(sql_time(start));
    }
    if let Some(end) = filter.end_time {
        query.push(" AND id < ").push_bind(EventId::first_after(end).0);
        query.push(" AND time < ").push_bind(sql_time(end));
    }
    let user = |user: &Option<UserId>| user.as_ref().map(ToString::to_string);
    let conditions = [
        (" AND target_id <> '' AND target_id = ", filter.target_id.clone()),
        (
            " AND audit_event_workspace(target_kind, target_id, before, after) = ",
            filter.workspace_id.as_ref().map(ToString::to_string),
        ),
        (
            " AND audit_event_user(target_kind, target_id, before, after) = ",
            user(&filter.about_user),
        ),
        (
            " AND target_kind = 'credential' \
             AND audit_event_user(target_kind, target_id, before, after) = ",
            user(&filter.pats_of),
        ),
        (" AND acting_user = ", user(&filter.acting_user)),
        (" AND caller = ", filter.caller.clone()),
        (" AND target_kind = ", filter.target_kind.clone()),
    ];
    for (condition, value) in conditions {
        let Some(value) = value else { continue };
        query.push(condition).push_bind(value);
    }
    match &filter.action_names()[..] {
        [] => {}
        [name] => {
            query.push(" AND action = ").push_bind(name.clone());
        }
        names => {
            query.push(" AND action = ANY (").push_bind(names.to_vec()).push(")");
        }
    }
    if filter.without_refusals {
        query.push(" AND refusal IS NULL");
    }
}

/// Reads what a follower has to know of the log.
async fn head(db: &mut Session) -> Result<AuditLogHead> {
    let row = db
        .query(
            "SELECT log_id, last, EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL) \
             FROM audit_counter WHERE id = 1",
        )
        .fetch_one(db.connection())
        .await?;
    audit_row::audit_log_head(&row)
}

/// Whether a creator is one that the service writes. An import can give any text.
macro_rules! chosen_creator {
    () => {
        "creator ~ '^(user:[A-Za-z0-9_-]+|caller:[a-z0-9.-]+|operator:.*)$'"
    };
}

/// Whether a hint is one that the service makes. An import can give any text.
macro_rules! chosen_hint {
    () => {
        "(hint = 'imported' OR hint ~ '^(sophic_(key|pat|svc)_)?\\.{3}.{4}$')"
    };
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

    async fn redact_audit_events(&mut self, events: &[AuditEvent]) -> Result<u64> {
        run!(self, async |db| {
            db.query("SET LOCAL sophic_auth.audit_redaction = 'on'")
                .execute(db.connection())
                .await?;
            let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
            let done = db
                .query(
                    "UPDATE audit_events SET before = redacted.before, after = redacted.after, \
                         reason = redacted.reason, remote_address = redacted.remote_address \
                     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) \
                         AS redacted (id, before, after, reason, remote_address) \
                     WHERE audit_events.id = redacted.id",
                )
                .bind(ids)
                .bind(texts(events, |event| event.before.as_deref()))
                .bind(texts(events, |event| event.after.as_deref()))
                .bind(texts(events, |event| event.reason.as_deref()))
                .bind(texts(events, |event| event.remote_address.as_deref()))
                .execute(db.connection())
                .await?;
            db.query("SET LOCAL sophic_auth.audit_redaction = 'off'")
                .execute(db.connection())
                .await?;
            Ok(done.rows_affected())
        })
    }

    async fn redact_pats(&mut self, user: &UserId, name: &str, limit: u32) -> Result<u64> {
        run!(self, async |db| {
            let done = db
                .query(
                    concat!(
                        "UPDATE credentials SET name = $2, annotations = '{}', ip_allowlist = '', last_use_ip = NULL, \
                             creator = CASE WHEN ", chosen_creator!(), " THEN creator ELSE $2 END, \
                             hint = CASE WHEN ", chosen_hint!(), " THEN hint ELSE $2 END, \
                             version = version + 1 \
                         WHERE id IN ( \
                             SELECT c.id FROM credentials AS c \
                             JOIN users AS u ON u.id = c.user_id AND c.generation < u.generation \
                             WHERE c.user_id = $1 \
                               AND (c.name <> $2 OR c.annotations <> '{}' OR c.ip_allowlist <> '' \
                                    OR c.last_use_ip IS NOT NULL \
                                    OR NOT (creator = $2 OR ", chosen_creator!(), ") \
                                    OR NOT (hint = $2 OR ", chosen_hint!(), ")) \
                             ORDER BY c.id LIMIT $3)",
                    ),
                )
                .bind(user.as_str())
                .bind(name)
                .bind(i64::from(limit))
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
