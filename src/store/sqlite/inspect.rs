//! What a file holds, found out before anything is set in it: no pragma that writes, and no log left behind.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, FromRow as _, Row as _, SqliteConnection};

use super::file::Access;
use super::open::{connect, reading};
use crate::store::migrations::{self, APPLIED, Applied, SQLITE, Schema};
use crate::store::{Result, StoreError};

/// Where a store can be instead.
const ADVICE: &str = "name the right one by --database-url";

/// How long it waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at a file that is there.
pub(super) async fn inspect(path: &Path, access: Access) -> Result<Schema> {
    let options = match access {
        // Open to write, so that SQLite leaves no log behind that only it could take away.
        Access::Write => SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("query_only", "ON")
            .disable_statement_logging(),
        Access::Read { settled } => reading(path, settled),
    };
    let mut connection = connect(&options).await?;
    let schema = schema(&mut connection).await?;
    connection.close().await?;
    Ok(schema)
}

/// What this connection's database holds.
pub(super) async fn schema(connection: &mut SqliteConnection) -> Result<Schema> {
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
    Ok(Schema::of_store(&applied?, SQLITE))
}

/// Whether the migrations began with ours.
async fn is_ours(connection: &mut SqliteConnection) -> Result<bool> {
    let found =
        sqlx::query("SELECT 1 FROM _sqlx_migrations WHERE version = 1 AND hex(checksum) = $1")
            .bind(migrations::first_checksum(SQLITE))
            .fetch_optional(connection)
            .await
            .map_err(StoreError::from);
    match found {
        Ok(row) => Ok(row.is_some()),
        // There is no such table, or it has no such columns.
        Err(StoreError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
