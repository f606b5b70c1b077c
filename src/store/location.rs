//! A URL becomes a database: the one place that knows which.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::postgres::{self, PoolSizes};
use super::sqlite;
use super::{Migrated, PostgresStore, Result, SqliteStore, Store, StoreError};

/// Opens the database of this URL for a server, and migrates it first: `sqlite:PATH`, `sqlite://PATH` or `postgres://…`. Where
/// nothing is to be migrated, that takes no rights but to read.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    open_with(url, PoolSizes::default()).await
}

/// The same, with so many connections to Postgres at the most.
pub async fn open_with(url: &str, sizes: PoolSizes) -> Result<Arc<dyn Store>> {
    Ok(match Location::parse(url)? {
        Location::Sqlite(path) => Arc::new(SqliteStore::open(&path).await?),
        Location::Postgres(url) => Arc::new(Box::pin(PostgresStore::open(url, sizes)).await?),
    })
}

/// Opens the database of this URL as it is: makes nothing, migrates nothing, and refuses it unless its schema is this
/// program's. Rights to read are enough, for reading.
pub async fn open_as_is(url: &str) -> Result<Arc<dyn Store>> {
    match Location::parse(url)? {
        Location::Sqlite(path) => Ok(Arc::new(SqliteStore::open_as_is(&path).await?)),
        Location::Postgres(_) => open_as_is_with(url, PoolSizes::default()).await,
    }
}

/// The same for a server, with so many connections to Postgres at the most.
pub async fn open_as_is_with(url: &str, sizes: PoolSizes) -> Result<Arc<dyn Store>> {
    Ok(match Location::parse(url)? {
        Location::Sqlite(path) => Arc::new(SqliteStore::open_to_serve(&path).await?),
        Location::Postgres(url) => Arc::new(Box::pin(PostgresStore::open_as_is(url, sizes)).await?),
    })
}

/// Whether this URL's database may be away for a while, as a server may; a file that cannot be opened stays so.
pub fn may_be_away(url: &str) -> bool {
    matches!(Location::parse(url), Ok(Location::Postgres(_)))
}

/// Brings the schema of this URL's database to this program's version; safe to run from many processes at once.
pub async fn migrate(url: &str) -> Result<Migrated> {
    match Location::parse(url)? {
        Location::Sqlite(path) => sqlite::migrate(&path).await,
        Location::Postgres(url) => postgres::migrate(url).await,
    }
}

/// What [`migrate`] would do; touches nothing.
pub async fn pending(url: &str) -> Result<Migrated> {
    match Location::parse(url)? {
        Location::Sqlite(path) => sqlite::pending(&path).await,
        Location::Postgres(url) => postgres::pending(url).await,
    }
}

/// What other programs have in this URL's database, in words, of one without a store. An SQLite file that has anything is
/// refused by itself.
pub async fn others(url: &str) -> Result<Option<String>> {
    match Location::parse(url)? {
        Location::Sqlite(_) => Ok(None),
        Location::Postgres(url) => postgres::others(url).await,
    }
}

/// What whoever opens this URL's database may not do of what management needs, in words; nothing if they may do it all.
pub async fn lacking(url: &str) -> Result<Option<String>> {
    match Location::parse(url)? {
        Location::Sqlite(path) => Ok(sqlite::lacking(&path)),
        Location::Postgres(url) => postgres::lacking(url).await,
    }
}

/// Which store this URL speaks of, to be shown: without a password, and a file by its whole path.
pub fn place(url: &str) -> Result<String> {
    Ok(match Location::parse(url)? {
        Location::Sqlite(path) => {
            format!("sqlite:{}", std::path::absolute(&path).unwrap_or(path).display())
        }
        Location::Postgres(url) => postgres::place_of_url(url)?,
    })
}

/// Writes a copy of this URL's database to a file that is not there yet. Of SQLite only: Postgres has `pg_dump`.
pub async fn backup(url: &str, to: &Path) -> Result<()> {
    match Location::parse(url)? {
        Location::Sqlite(path) => sqlite::backup(&path, to).await,
        Location::Postgres(_) => {
            Err(StoreError::Misnamed("of Postgres, pg_dump makes backups".to_owned()))
        }
    }
}

/// Begins to put a backup in the place of this URL's database. Of SQLite only, as [`backup`].
pub async fn restore(url: &str, from: &Path) -> Result<sqlite::Restoring> {
    match Location::parse(url)? {
        Location::Sqlite(path) => sqlite::Restoring::begin(&path, from).await,
        Location::Postgres(_) => {
            Err(StoreError::Misnamed("of Postgres, pg_restore restores backups".to_owned()))
        }
    }
}

/// Which database a URL speaks of.
pub enum Location<'u> {
    /// An SQLite file, by its path.
    Sqlite(PathBuf),
    /// A Postgres database, by its URL.
    Postgres(&'u str),
}

impl<'u> Location<'u> {
    /// By scheme. What is wrong is said without the URL, which may hold a password.
    pub fn parse(url: &'u str) -> Result<Self> {
        if let Some(rest) = url.strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.contains('?') {
                let text = "a sqlite: URL takes no parameters, and its path must have no '?'";
                return Err(StoreError::Misnamed(text.to_owned()));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url));
        }
        let text = "the database URL must begin with sqlite: or postgres://";
        Err(StoreError::Misnamed(text.to_owned()))
    }
}
