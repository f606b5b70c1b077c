//! Inspects a database before anything is done to it.

use sqlx::{FromRow as _, PgConnection, Row as _};

use crate::store::migrations::{self, APPLIED, Applied, MigrationList, POSTGRES, Schema};
use crate::store::{Result, StoreError};

/// Tables and views in the schema of the store, without those of extensions.
const TABLES: &str = "SELECT c.relname::text FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema() \
         AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND NOT EXISTS ( \
             SELECT 1 FROM pg_depend d \
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
     ORDER BY c.relname";

/// All names of tables, functions and types in that schema.
const NAMES: &str = "SELECT DISTINCT name FROM ( \
         SELECT relname::text AS name, relnamespace AS schema FROM pg_class \
         UNION ALL SELECT proname::text, pronamespace FROM pg_proc \
         UNION ALL SELECT typname::text, typnamespace FROM pg_type) AS found \
     WHERE schema = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) \
     ORDER BY name";

/// Advice if the names of the store are taken.
const ADVICE: &str = "name the right one by --database-url, or give it a separate schema: `CREATE SCHEMA sophic_auth`, and \
     ?options=-c%20search_path%3Dsophic_auth at the end of the URL";

/// Returns the content of the connection's database. It must run outside a transaction, because a statement may be
/// refused. `list` has the migrations of the program.
pub(super) async fn schema(connection: &mut PgConnection, list: MigrationList) -> Result<Schema> {
    if let Some(store) = store(connection, list).await? {
        return Ok(store);
    }
    let ours: Vec<_> = migrations::created_names(list).collect();
    let mut names = listed(connection, NAMES).await?;
    names.retain(|name| ours.contains(&name.as_str()));
    if !names.is_empty() {
        // Another process may have created the store between the two checks.
        let made = store(connection, list).await?;
        return Ok(made.unwrap_or(Schema::Occupied { names, advice: ADVICE }));
    }
    let tables = listed(connection, TABLES).await?;
    Ok(if tables.is_empty() { Schema::Empty } else { Schema::Shared(tables) })
}

/// Returns the store, if there is one.
async fn store(connection: &mut PgConnection, list: MigrationList) -> Result<Option<Schema>> {
    if !is_ours(connection).await? {
        return Ok(None);
    }
    let rows = sqlx::raw_sql(APPLIED).fetch_all(connection).await?;
    let applied: sqlx::Result<Vec<_>> = rows.iter().map(Applied::from_row).collect();
    Ok(Some(Schema::of_store(&applied?, list)))
}

async fn listed(connection: &mut PgConnection, statement: &'static str) -> Result<Vec<String>> {
    let rows = sqlx::raw_sql(statement).fetch_all(connection).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?)
}

/// Returns whether the first recorded migration is ours.
async fn is_ours(connection: &mut PgConnection) -> Result<bool> {
    // Selects from a table, for the reason given in `version`.
    let row =
        sqlx::raw_sql("SELECT to_regclass('_sqlx_migrations') IS NOT NULL FROM pg_class LIMIT 1")
            .fetch_one(&mut *connection)
            .await?;
    if !row.try_get::<bool, _>(0)? {
        return Ok(false);
    }
    let found = sqlx::raw_sql(
        "SELECT upper(encode(checksum, 'hex')) FROM _sqlx_migrations WHERE version = 1",
    )
    .fetch_optional(connection)
    .await
    .map_err(StoreError::from);
    match found {
        Ok(Some(row)) => Ok(row.try_get::<String, _>(0)? == migrations::first_checksum(POSTGRES)),
        // Another program's table of this name may lack these columns, and the statement is refused.
        Ok(None) | Err(StoreError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
