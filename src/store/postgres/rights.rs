//! Whether the role has the rights that the service needs, and whether the database accepts writes.

use sqlx::{PgConnection, Row as _};

use super::hosts::origin;
use super::primary::StatementResult;
use super::{Result, Session, StoreError};
use crate::store::row;

/// Describes the rights that the role lacks for management, as text; NULL if none is missing. DELETE is required only
/// on tables from which management deletes, because another role may do purging and retention. Rights to some columns
/// of a table are enough.
macro_rules! missing_rights {
    () => {
        "(SELECT 'the role ' || current_user || ' lacks ' || string_agg(lacked, '; ' ORDER BY lacked DESC) \
          FROM (SELECT verb || ' on ' || string_agg(name, ', ' ORDER BY name) AS lacked \
                FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb \
                CROSS JOIN unnest(ARRAY['audit_events', 'callers', 'changes', 'counter', 'credentials', \
                    'memberships', 'replicas', 'requests', 'reserved_slugs', 'rules_lock', 'untold', 'users', \
                    'workspace_policies', 'workspace_uses', 'workspaces']) AS name \
                WHERE CASE verb \
                    WHEN 'SELECT' THEN NOT has_any_column_privilege(name, verb) \
                    WHEN 'INSERT' THEN name <> ALL (ARRAY['counter', 'rules_lock']) AND NOT has_any_column_privilege(name, verb) \
                    WHEN 'UPDATE' THEN name = ANY (ARRAY['callers', 'counter', 'credentials', 'memberships', \
                        'replicas', 'rules_lock', 'untold', 'users', 'workspace_policies', 'workspace_uses', \
                        'workspaces']) \
                        AND NOT has_any_column_privilege(name, verb) \
                    ELSE name = ANY (ARRAY['memberships', 'replicas', 'requests', 'reserved_slugs', 'untold', \
                        'workspace_policies']) \
                        AND NOT has_table_privilege(name, verb) END \
                GROUP BY verb) AS verbs)"
    };
}

/// Fails if the role lacks a right or the database rejects its writes. Writes nothing.
pub(super) async fn ping(db: &mut Session) -> Result<StatementResult<()>> {
    let row = db
        .query(concat!(
            "SELECT ",
            origin!(),
            ", revision, current_setting('default_transaction_read_only') = 'on', ",
            missing_rights!(),
            " FROM counter WHERE id = 1"
        ))
        .fetch_one(db.connection())
        .await?;
    let (origin, revision) = row::origin_and_revision(&row)?;
    let value = match row.try_get(3)? {
        Some(missing) => Err(StoreError::Denied(missing)),
        None if row.try_get(2)? => {
            Err(StoreError::read_only("default_transaction_read_only is on for this role"))
        }
        None => Ok(()),
    };
    Ok(StatementResult { origin, revision, value })
}

/// Describes the rights that the role lacks, or returns `None` if none is missing.
pub(super) async fn missing_rights(connection: &mut PgConnection) -> Result<Option<String>> {
    let row = sqlx::raw_sql(concat!("SELECT ", missing_rights!())).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// Writes about as much as a management call, into the table that every call writes to. The caller rolls it back.
pub(super) async fn try_to_write(db: &mut Session) -> Result<()> {
    let statement = db.query(
        "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id, before) \
         SELECT gen_random_uuid(), clock_timestamp(), 'try', 'try', 'try', i::text, repeat(md5(i::text), 40) \
         FROM generate_series(1, 32) AS i",
    );
    statement.execute(db.connection()).await?;
    Ok(())
}
