//! Whether this role may do what the service does, and whether the database takes it.

use sqlx::{PgConnection, Row as _};

use super::hosts::origin;
use super::primary::StatementResult;
use super::{Result, Session, StoreError};
use crate::store::row;

/// What the role lacks of what management needs, in words; NULL where it lacks nothing. Deleting is only asked for where
/// management deletes: purging and retention may be another role's. Rights to some columns are enough, as far as can be told
/// beforehand.
macro_rules! missing_rights {
    () => {
        "(SELECT 'the role ' || current_user || ' lacks ' || string_agg(lacked, '; ' ORDER BY lacked DESC) \
          FROM (SELECT verb || ' on ' || string_agg(name, ', ' ORDER BY name) AS lacked \
                FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb \
                CROSS JOIN unnest(ARRAY['audit_events', 'callers', 'changes', 'counter', 'credentials', \
                    'memberships', 'replicas', 'requests', 'reserved_slugs', 'untold', 'users', \
                    'workspace_policies', 'workspaces']) AS name \
                WHERE CASE verb \
                    WHEN 'SELECT' THEN NOT has_any_column_privilege(name, verb) \
                    WHEN 'INSERT' THEN name <> 'counter' AND NOT has_any_column_privilege(name, verb) \
                    WHEN 'UPDATE' THEN name = ANY (ARRAY['callers', 'counter', 'credentials', 'memberships', \
                        'replicas', 'untold', 'users', 'workspace_policies', 'workspaces']) \
                        AND NOT has_any_column_privilege(name, verb) \
                    ELSE name = ANY (ARRAY['memberships', 'replicas', 'requests', 'reserved_slugs', 'untold', \
                        'workspace_policies']) \
                        AND NOT has_table_privilege(name, verb) END \
                GROUP BY verb) AS verbs)"
    };
}

/// Fails where the database takes no writes of this role; where it was asked, and at which revision. WriteHealth nothing.
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
            let text = "it takes no writes of this role: default_transaction_read_only is on";
            Err(StoreError::Denied(text.to_owned()))
        }
        None => Ok(()),
    };
    Ok(StatementResult { origin, revision, value })
}

/// What the role lacks, if it lacks anything.
pub(super) async fn missing_rights(connection: &mut PgConnection) -> Result<Option<String>> {
    let row = sqlx::raw_sql(concat!("SELECT ", missing_rights!())).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

/// WriteHealth about as much as a management call does, into the table that each of them writes to; to be rolled back.
pub(super) async fn try_to_write(db: &mut Session) -> Result<()> {
    let statement = db.query(
        "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id, before) \
         SELECT gen_random_uuid(), clock_timestamp(), 'try', 'try', 'try', i::text, repeat(md5(i::text), 40) \
         FROM generate_series(1, 32) AS i",
    );
    statement.execute(db.connection()).await?;
    Ok(())
}
