//! Inspects a file before anything in it is changed: runs no pragma that writes, and leaves no log behind.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, FromRow as _, Row as _, SqliteConnection};

use super::error::or_full;
use super::file::Access;
use super::open::{BUSY_TIMEOUT, connect, read_only_options};
use crate::store::migrations::{self, APPLIED, Applied, MigrationList, SQLITE, Schema};
use crate::store::{Result, StoreError};

/// Advice for a file that is not a store of ours.
const ADVICE: &str = "name the right one by --database-url";

/// Reads the schema of an existing file, for a program with these migrations.
pub(super) async fn inspect(path: &Path, access: Access, list: MigrationList) -> Result<Schema> {
    let options = match access {
        // Opened for writing, so that SQLite removes its log when it closes the file.
        Access::Write => SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "ON")
            .disable_statement_logging(),
        Access::Read { immutable } => read_only_options(path, immutable),
    };
    let read = async {
        let mut connection = connect(&options).await?;
        let schema = schema(&mut connection, list).await?;
        connection.close().await?;
        Ok(schema)
    };
    read.await.map_err(|error| or_full(error, path))
}

/// Returns the schema of the connected database, for a program with these migrations.
pub(super) async fn schema(
    connection: &mut SqliteConnection,
    list: MigrationList,
) -> Result<Schema> {
    let rows = sqlx::query(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         ORDER BY name LIMIT 100",
    )
    .fetch_all(&mut *connection)
    .await?;
    let names: sqlx::Result<Vec<String>> = rows.iter().map(|row| row.try_get(0)).collect();
    let names = names?;
    if names.is_empty() {
        return Ok(Schema::Empty);
    }
    if !is_ours(connection).await? {
        return Ok(Schema::Occupied { names, advice: ADVICE });
    }
    let rows = sqlx::query(APPLIED).fetch_all(connection).await?;
    let applied: sqlx::Result<Vec<_>> = rows.iter().map(Applied::from_row).collect();
    Ok(Schema::of_store(&applied?, list))
}

/// Returns whether the first migration in the database is ours.
async fn is_ours(connection: &mut SqliteConnection) -> Result<bool> {
    let found =
        sqlx::query("SELECT 1 FROM _sqlx_migrations WHERE version = 1 AND hex(checksum) = $1")
            .bind(migrations::first_checksum(SQLITE))
            .fetch_optional(connection)
            .await
            .map_err(StoreError::from);
    match found {
        Ok(row) => Ok(row.is_some()),
        // The table does not exist, or has other columns.
        Err(StoreError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
