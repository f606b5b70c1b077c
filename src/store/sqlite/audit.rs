//! The audit log: appending, listing, numbering, retention and redaction.

use async_trait::async_trait;
use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::transaction::{SqliteTx, run};
use super::{Result, SqliteStore, read, sql_time, transact};
use crate::model::{AuditEvent, EventId, Timestamp, UserId};
use crate::store::audit::NUMBERS_EXAMINED;
use crate::store::error::expect_rows;
use crate::store::sql::{audit_event_columns, audit_event_user, audit_event_workspace};
use crate::store::{
    AuditFilter, AuditLogHead, AuditOrder, AuditStore, AuditTx, NumberedEvents, StoreError,
    audit_row,
};

/// How long emptying the log waits for other processes, in milliseconds.
const EMPTY_LOG_TIMEOUT: &str = "PRAGMA busy_timeout = 500";
/// What every connection has otherwise: `open::BUSY_TIMEOUT`.
const BUSY_TIMEOUT_AGAIN: &str = "PRAGMA busy_timeout = 5000";

#[async_trait]
impl AuditStore for SqliteStore {
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
            let mut query = QueryBuilder::<Sqlite>::new(begin);
            query.push_bind(after.map_or(before_all, |id| id.0));
            push_filter(&mut query, filter, "");
            query.push(end).push_bind(i64::from(limit));
            let rows = query.build().fetch_all(db).await?;
            rows.iter().map(audit_row::audit_event).collect()
        })
    }

    async fn number_audit_events(&self, limit: u32) -> Result<AuditLogHead> {
        let found = read!(self, async |db| head(db).await)?;
        if !found.has_unnumbered {
            return Ok(found);
        }
        transact!(self, async |db| {
            sqlx::query(
                "UPDATE audit_events SET seq = (SELECT last FROM audit_counter) + unnumbered.place \
                 FROM (SELECT first.id AS first_id, row_number() OVER (ORDER BY first.id) AS place \
                       FROM (SELECT id FROM audit_events INDEXED BY audit_events_unnumbered \
                             WHERE seq IS NULL ORDER BY id LIMIT $1) AS first) AS unnumbered \
                 WHERE audit_events.id = unnumbered.first_id",
            )
            .bind(i64::from(limit))
            .execute(&mut *db)
            .await?;
            sqlx::query(
                "UPDATE audit_counter SET last = max(last, COALESCE((SELECT max(seq) FROM audit_events), 0))",
            )
            .execute(&mut *db)
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
            let row = sqlx::query("SELECT min(seq) FROM audit_events WHERE seq > $1")
                .bind(after)
                .fetch_one(&mut *db)
                .await?;
            let first = audit_row::maybe_number(&row)?.unwrap_or(last.saturating_add(1));
            let end = first.saturating_add(NUMBERS_EXAMINED - 1).min(last);
            let mut query = QueryBuilder::<Sqlite>::new(concat!(
                "SELECT ",
                audit_event_columns!(),
                ", seq FROM audit_events WHERE seq > "
            ));
            query.push_bind(after).push(" AND seq <= ").push_bind(end);
            push_filter(&mut query, filter, "+");
            query.push(" ORDER BY seq LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(db).await?;
            let events = rows.iter().map(audit_row::numbered_event).collect::<Result<Vec<_>>>()?;
            Ok(NumberedEvents::of(events, after, end, limit))
        })
    }

    async fn find_event_id(&self, number: i64) -> Result<Option<EventId>> {
        read!(self, async |db| {
            let row = sqlx::query("SELECT id FROM audit_events WHERE seq = $1")
                .bind(number)
                .fetch_optional(db)
                .await?;
            row.as_ref().map(audit_row::event_id).transpose()
        })
    }

    async fn empty_log(&self) -> Result<bool> {
        self.file.check()?;
        let mut db = self.write_pool().acquire().await?;
        // It holds the lock of writers while it waits for readers.
        sqlx::query(EMPTY_LOG_TIMEOUT).execute(&mut *db).await?;
        let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *db).await;
        sqlx::query(BUSY_TIMEOUT_AGAIN).execute(&mut *db).await?;
        let row = self.file.record(emptied.map_err(StoreError::from))?;
        Ok(row.try_get::<i64, _>(0)? == 0)
    }
}

/// Appends the conditions of the filter to a statement. It has only those that are set, so that SQLite can use an index
/// for each. The first condition selects the index, unless `plus` is `+` from the beginning. The conditions are in order
/// of selectivity, because SQLite keeps no statistics to choose by. The unary `+` keeps SQLite from choosing the index of
/// a later condition.
fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &AuditFilter, mut plus: &'static str) {
    if let Some(start) = filter.start_time {
        query.push(" AND ").push(plus).push("id >= ").push_bind(EventId::first_of(start).0);
        query.push(" AND time >= ").push_bind(sql_time(start));
    }
    if let Some(end) = filter.end_time {
        query.push(" AND ").push(plus).push("id < ").push_bind(EventId::first_after(end).0);
        query.push(" AND time < ").push_bind(sql_time(end));
    }
    let user = |user: &Option<UserId>| user.as_ref().map(ToString::to_string);
    let about_user = concat!("(", audit_event_user!(), ") = ");
    let conditions = [
        ("target_id <> '' AND ", "target_id = ", filter.target_id.clone()),
        (
            "",
            concat!("(", audit_event_workspace!(), ") = "),
            filter.workspace_id.as_ref().map(ToString::to_string),
        ),
        ("", about_user, user(&filter.about_user)),
        ("+target_kind = 'credential' AND ", about_user, user(&filter.pats_of)),
        ("", "acting_user = ", user(&filter.acting_user)),
    ];
    for (implied, column, value) in conditions {
        let Some(value) = value else { continue };
        query.push(" AND ").push(implied).push(plus).push(column).push_bind(value);
        plus = "+";
    }
    let mut names = filter.action_names().into_iter();
    if let Some(name) = names.next() {
        query.push(" AND ").push(plus).push("action IN (").push_bind(name);
        for name in names {
            query.push(", ").push_bind(name);
        }
        query.push(")");
        plus = "+";
    }
    let conditions =
        [("caller = ", filter.caller.clone()), ("target_kind = ", filter.target_kind.clone())];
    for (column, value) in conditions {
        let Some(value) = value else { continue };
        query.push(" AND ").push(plus).push(column).push_bind(value);
        plus = "+";
    }
    if filter.without_refusals {
        query.push(" AND refusal IS NULL");
    }
}

/// Reads what a follower has to know of the log.
async fn head(db: &mut SqliteConnection) -> Result<AuditLogHead> {
    let row = sqlx::query(
        "SELECT log_id, last, EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL) \
         FROM audit_counter WHERE id = 1",
    )
    .fetch_one(db)
    .await?;
    audit_row::audit_log_head(&row)
}

/// Whether a creator is one that the service writes. An import can give any text.
macro_rules! chosen_creator {
    () => {
        "((creator GLOB 'user:?*' AND creator NOT GLOB 'user:*[^A-Za-z0-9_-]*') \
          OR (creator GLOB 'caller:?*' AND creator NOT GLOB 'caller:*[^a-z0-9.-]*') \
          OR creator GLOB 'operator:*')"
    };
}

/// Whether a hint is one that the service makes. An import can give any text.
macro_rules! chosen_hint {
    () => {
        "(hint = 'imported' OR hint GLOB '...????' OR hint GLOB 'sophic_[kps]??_...????')"
    };
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

    async fn redact_audit_events(&mut self, events: &[AuditEvent]) -> Result<u64> {
        run!(self, async |db| {
            sqlx::query("UPDATE audit_redaction SET enabled = 1").execute(&mut *db).await?;
            let rows = events.iter().map(|event| {
                let AuditEvent { before, after, reason, remote_address, .. } = event;
                json!([hex::encode(event.id.0.as_bytes()), before, after, reason, remote_address])
            });
            let done = sqlx::query(
                "UPDATE audit_events SET before = redacted.before, after = redacted.after, \
                     reason = redacted.reason, remote_address = redacted.remote_address \
                 FROM (SELECT unhex(value ->> 0) AS redacted_id, value ->> 1 AS before, value ->> 2 AS after, \
                           value ->> 3 AS reason, value ->> 4 AS remote_address \
                       FROM json_each($1)) AS redacted \
                 WHERE audit_events.id = redacted.redacted_id",
            )
            .bind(Value::Array(rows.collect()).to_string())
            .execute(&mut *db)
            .await?;
            sqlx::query("UPDATE audit_redaction SET enabled = 0").execute(db).await?;
            Ok(done.rows_affected())
        })
    }

    async fn redact_pats(&mut self, user: &UserId, name: &str, limit: u32) -> Result<u64> {
        run!(self, async |db| {
            let done = sqlx::query(
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
            .execute(db)
            .await?;
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
