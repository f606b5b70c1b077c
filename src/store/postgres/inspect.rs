//! What a database holds, found out before anything is done in it.

use sqlx::{FromRow as _, PgConnection, Row as _};

use crate::store::migrations::{self, APPLIED, Applied, POSTGRES, Schema};
use crate::store::{Result, StoreError};

/// Tables and views where ours would be, but for those of extensions.
const TABLES: &str = "SELECT c.relname::text FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema() \
         AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND NOT EXISTS ( \
             SELECT 1 FROM pg_depend d \
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
     ORDER BY c.relname";

/// Whatever has a name there.
const NAMES: &str = "SELECT DISTINCT name FROM ( \
         SELECT relname::text AS name, relnamespace AS schema FROM pg_class \
         UNION ALL SELECT proname::text, pronamespace FROM pg_proc \
         UNION ALL SELECT typname::text, typnamespace FROM pg_type) AS found \
     WHERE schema = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) \
     ORDER BY name";

/// Where a store can be whose names are taken.
const ADVICE: &str = "name the right one by --database-url, or give it a schema of its own: `CREATE SCHEMA sophic_auth`, and \
     ?options=-c%20search_path%3Dsophic_auth at the end of the URL";

/// What this connection's database holds. Outside of a transaction: what it asks may be refused.
pub(super) async fn schema(connection: &mut PgConnection) -> Result<Schema> {
    if let Some(store) = store(connection).await? {
        return Ok(store);
    }
    let ours: Vec<_> = migrations::created_names(POSTGRES).collect();
    let mut names = listed(connection, NAMES).await?;
    names.retain(|name| ours.contains(&name.as_str()));
    if !names.is_empty() {
        // Another process may have made the store between the two looks.
        let made = store(connection).await?;
        return Ok(made.unwrap_or(Schema::Occupied { names, advice: ADVICE }));
    }
    let tables = listed(connection, TABLES).await?;
    Ok(if tables.is_empty() { Schema::Empty } else { Schema::Shared(tables) })
}

/// The store, if there is one.
async fn store(connection: &mut PgConnection) -> Result<Option<Schema>> {
    if !is_ours(connection).await? {
        return Ok(None);
    }
    let rows = sqlx::raw_sql(APPLIED).fetch_all(connection).await?;
    let applied: sqlx::Result<Vec<_>> = rows.iter().map(Applied::from_row).collect();
    Ok(Some(Schema::of_store(&applied?, POSTGRES)))
}

async fn listed(connection: &mut PgConnection, statement: &'static str) -> Result<Vec<String>> {
    let rows = sqlx::raw_sql(statement).fetch_all(connection).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?)
}

/// Whether the migrations began with ours.
async fn is_ours(connection: &mut PgConnection) -> Result<bool> {
    // Of a table, for the reason that `version` has.
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
        // Refused where it has no such columns.
        Ok(None) | Err(StoreError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
