//! Opens the database that a URL names. Only [`Location::parse`] decides which database that is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::migrations::{self, POSTGRES, SQLITE};
use super::postgres::{self, PoolSizes};
use super::sqlite;
use super::{MigrationSummary, PostgresStore, Release, Result, SqliteStore, Store, StoreError};

/// The database that a URL names.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// Path of an SQLite file.
    Sqlite(PathBuf),
    /// URL of a Postgres database.
    Postgres(String),
}

/// Omits the URL of a Postgres database, which may contain a password.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.debug_tuple("Postgres").finish_non_exhaustive(),
        }
    }
}

impl Location {
    /// Parses a URL by its scheme: `sqlite:PATH`, `sqlite://PATH` or `postgres://…`. Errors do not repeat the URL, which
    /// may contain a password.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(rest) = url.strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.contains('?') {
                let text = "a sqlite: URL takes no parameters, and its path must have no '?'";
                return Err(StoreError::InvalidLocation(text.to_owned()));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        let text = "the database URL must begin with sqlite: or postgres://";
        Err(StoreError::InvalidLocation(text.to_owned()))
    }
}

/// Opens the database for a server after migrating it. If there is nothing to migrate, the right to read is enough.
pub async fn open(location: &Location) -> Result<Arc<dyn Store>> {
    open_with(location, PoolSizes::default()).await
}

/// Like [`open`], with these limits on connections to Postgres.
pub async fn open_with(location: &Location, sizes: PoolSizes) -> Result<Arc<dyn Store>> {
    Ok(match location {
        Location::Sqlite(path) => Arc::new(SqliteStore::open(path).await?),
        Location::Postgres(url) => Arc::new(Box::pin(PostgresStore::open(url, sizes)).await?),
    })
}

/// Opens an existing database without creating or migrating anything. Its schema must have this program's version. For
/// reading, the right to read is enough.
pub async fn open_existing(location: &Location) -> Result<Arc<dyn Store>> {
    match location {
        Location::Sqlite(path) => Ok(Arc::new(SqliteStore::open_existing(path).await?)),
        Location::Postgres(_) => open_existing_with(location, PoolSizes::default()).await,
    }
}

/// Like [`open_existing`], for a server, with these limits on connections to Postgres.
pub async fn open_existing_with(location: &Location, sizes: PoolSizes) -> Result<Arc<dyn Store>> {
    Ok(match location {
        Location::Sqlite(path) => Arc::new(SqliteStore::open_to_serve(path).await?),
        Location::Postgres(url) => {
            Arc::new(Box::pin(PostgresStore::open_existing(url, sizes)).await?)
        }
    })
}

/// Returns whether a failure to open this database may be temporary, as with a database server. A file that cannot be
/// opened will not become available by itself.
pub const fn may_be_unreachable(location: &Location) -> bool {
    matches!(location, Location::Postgres(_))
}

/// Migrates the schema to this program's version. Safe to run from several processes at once.
pub async fn migrate(location: &Location) -> Result<MigrationSummary> {
    match location {
        Location::Sqlite(path) => sqlite::migrate(path, SQLITE).await,
        Location::Postgres(url) => postgres::migrate(url, POSTGRES).await,
    }
}

/// Migrates the schema as a release did whose newest migration is this one. For tests of upgrades.
pub async fn migrate_to(location: &Location, newest: i64) -> Result<MigrationSummary> {
    match location {
        Location::Sqlite(path) => sqlite::migrate(path, migrations::up_to(newest, SQLITE)).await,
        Location::Postgres(url) => {
            postgres::migrate(url, migrations::up_to(newest, POSTGRES)).await
        }
    }
}

/// Migrates the schema as a later release does, which has these migrations too: version, name and SQL. For tests of
/// upgrades.
pub async fn migrate_beyond(
    location: &Location,
    later: &[(i64, &'static str, &'static str)],
) -> Result<MigrationSummary> {
    match location {
        Location::Sqlite(path) => {
            sqlite::migrate(path, migrations::followed_by(later, SQLITE)).await
        }
        Location::Postgres(url) => {
            postgres::migrate(url, migrations::followed_by(later, POSTGRES)).await
        }
    }
}

/// Waits until no server of an earlier release is live, as a migration does that removes what such servers use. A server
/// that has crashed is given up after its lease.
///
/// # Errors
/// [`StoreError::Unusable`], with the host and the release, if such a server is running.
pub async fn require_release(location: &Location, release: Release) -> Result<()> {
    match location {
        Location::Sqlite(path) => sqlite::require_release(path, release).await,
        Location::Postgres(url) => postgres::require_release(url, release).await,
    }
}

/// Returns what [`migrate`] would do, without changing anything.
pub async fn pending_migrations(location: &Location) -> Result<MigrationSummary> {
    match location {
        Location::Sqlite(path) => sqlite::pending_migrations(path).await,
        Location::Postgres(url) => postgres::pending_migrations(url).await,
    }
}

/// Returns the names of tables of other programs in a database without a store, or `None` if it has none. For SQLite it
/// is always `None`: a file with other tables is refused when it is opened.
pub async fn foreign_tables(location: &Location) -> Result<Option<String>> {
    match location {
        Location::Sqlite(_) => Ok(None),
        Location::Postgres(url) => postgres::foreign_tables(url).await,
    }
}

/// Describes the rights that the database user lacks for management calls, or returns `None` if none is missing.
pub async fn missing_rights(location: &Location) -> Result<Option<String>> {
    match location {
        Location::Sqlite(path) => Ok(sqlite::missing_rights(path)),
        Location::Postgres(url) => postgres::missing_rights(url).await,
    }
}

/// Returns the location of the store for messages, without a password. The path of a file is absolute.
pub fn display_url(location: &Location) -> Result<String> {
    Ok(match location {
        Location::Sqlite(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!("sqlite:{}", path.display())
        }
        Location::Postgres(url) => postgres::display_url(url)?,
    })
}

/// Writes a backup of the database to a new file. For SQLite only; Postgres has `pg_dump`.
pub async fn backup(location: &Location, to: &Path) -> Result<()> {
    match location {
        Location::Sqlite(path) => sqlite::backup(path, to).await,
        Location::Postgres(_) => Err(StoreError::InvalidLocation(
            "only SQLite stores are backed up here: for Postgres use pg_dump".to_owned(),
        )),
    }
}

/// Begins to replace the database with a backup. For SQLite only, like [`backup`].
pub async fn restore(location: &Location, from: &Path) -> Result<sqlite::PreparedRestore> {
    match location {
        Location::Sqlite(path) => sqlite::PreparedRestore::begin(path, from).await,
        Location::Postgres(_) => Err(StoreError::InvalidLocation(
            "only SQLite stores are restored here: for Postgres use pg_restore".to_owned(),
        )),
    }
}
