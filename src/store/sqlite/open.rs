//! Opening and migrating, and the settings that the promises rest on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::SqliteStore;
use super::file::{self, Access};
use super::inspect::{inspect, schema};
use super::pools::Pools;
use super::watched::{Watched, beside, identity};
use crate::store::migrations::{self, MigrationSummary, SQLITE};
use crate::store::{Result, StoreError};

/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long starting up waits for another process that is starting up or migrating.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Before it, a checkpoint at a bad moment could corrupt the file (<https://sqlite.org/wal.html#walresetbug>).
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

impl SqliteStore {
    /// Opens the file for a server, which is made if it is not there, and migrates it.
    pub async fn open(path: &Path) -> Result<Self> {
        migrate(path).await?;
        Self::open_to_serve(path).await
    }

    /// Opens the file for a server, as [`Self::open_existing`] does. One that may only be read and that nobody has open would be
    /// read as if nothing ever changed in it: a revocation would not be heard of.
    pub async fn open_to_serve(path: &Path) -> Result<Self> {
        if let (path, Access::Read { settled: true }) = file::existing(path)? {
            return Err(StoreError::Denied(format!(
                "{} may only be read by this user, and a server has to write to it, as to its folder",
                path.display()
            )));
        }
        Self::open_existing(path).await
    }

    /// Opens the file, which must be there, and whose schema must be this program's. Where it may only be read, it can be
    /// read.
    pub async fn open_existing(path: &Path) -> Result<Self> {
        let had_log = has_log(path);
        Self::open_file(path).await.map_err(|error| explained(error, path, had_log))
    }

    async fn open_file(path: &Path) -> Result<Self> {
        let (path, access) = file::existing(path)?;
        inspect(&path, access).await?.require_current(&path.display().to_string(), SQLITE)?;
        let options = match access {
            Access::Write => options(&path),
            Access::Read { settled } => reading(&path, settled),
        };
        let before = identity(&path);
        connect(&options).await?.close().await?;
        let pools = Pools::open(&options).await?;
        let file = Watched::new(&path);
        if !file.is(before) {
            let text = format!("{} was replaced while it was opened: try again", path.display());
            return Err(StoreError::Unusable(text));
        }
        Ok(Self {
            pools: RwLock::new(pools),
            options,
            file: Arc::new(file),
            check: Mutex::default(),
        })
    }
}

/// Brings the file's schema to this program's version.
pub async fn migrate(path: &Path) -> Result<MigrationSummary> {
    let had_log = has_log(path);
    migrate_file(path).await.map_err(|error| explained(error, path, had_log))
}

async fn migrate_file(path: &Path) -> Result<MigrationSummary> {
    let shown = path.display().to_string();
    let found = match file::existing(path) {
        Err(StoreError::Missing(_)) => 0,
        existing => {
            let (path, access) = existing?;
            let schema = inspect(&path, access).await?;
            if let Some(version) = schema.current_version() {
                return Ok(MigrationSummary::between(version, version, SQLITE));
            }
            schema.version_to_migrate(&shown, SQLITE)?
        }
    };
    let path = file::prepare(path)?;
    let migrated = migrate_locked(&path, &shown).await;
    migrated.map_err(|error| migrations::denied_error(found, SQLITE, error))
}

/// Does what is missing.
async fn migrate_locked(path: &Path, shown: &str) -> Result<MigrationSummary> {
    let mut connection = connect(&options(path).busy_timeout(MIGRATE_TIMEOUT)).await?;
    // The lock that other processes wait for, and one transaction for all of it.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let from = schema(&mut transaction).await?.version_to_migrate(shown, SQLITE)?;
    migrations::run(&mut *transaction, SQLITE).await?;
    let to = version(&mut transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(MigrationSummary::between(from, to, SQLITE))
}

/// Whether a write-ahead log lies beside the file that has something in it.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Of a file that is damaged, what may have been done to it: a log says nothing of the file that it belongs to.
fn explained(error: StoreError, path: &Path, had_log: bool) -> StoreError {
    match error {
        StoreError::Lost(text) if had_log => StoreError::Lost(format!(
            "{text}; if it was copied here by hand, the log {} beside it was another file's, and spoiled it: put the copy in \
             place by `sophic-auth restore`",
            beside(path, "-wal").display()
        )),
        error => error,
    }
}

/// What [`migrate`] would do. A file that is not there is not made.
pub async fn pending_migrations(path: &Path) -> Result<MigrationSummary> {
    let (path, access) = match file::existing(path) {
        Err(StoreError::Missing(_)) => return MigrationSummary::pending(0, SQLITE),
        existing => existing?,
    };
    let from =
        inspect(&path, access).await?.version_to_migrate(&path.display().to_string(), SQLITE)?;
    MigrationSummary::pending(from, SQLITE)
}

/// For reading only. Beside a file that nobody has open SQLite would make a log, which may not be possible, and would be in
/// the way of its owner: it is told that nothing changes meanwhile.
pub(super) fn reading(path: &Path, settled: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(settled)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cell_size_check", "ON")
        .disable_statement_logging()
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // Readers and the writer do not wait for each other.
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL would lose the last commits in a power cut, and a revocation among them.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // What is deleted is overwritten: names are about people.
        .pragma("secure_delete", "ON")
        // Finds a damaged page before it is believed.
        .pragma("cell_size_check", "ON")
        // A log that a long reader let grow is cut back.
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

/// Connects, and waits where going over to WAL meets another process that does the same: SQLite itself does not.
pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection> {
    let deadline = tokio::time::Instant::now() + BUSY_TIMEOUT;
    let mut connection = loop {
        match options.connect().await.map_err(StoreError::from) {
            Err(StoreError::Unavailable(_) | StoreError::Busy(_))
                if tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connection => break connection?,
        }
    };
    refuse_old_sqlite(&mut connection).await?;
    Ok(connection)
}

/// Refuses a library with the bug of [`VERSION_MIN`], were one ever linked instead of the bundled one.
async fn refuse_old_sqlite(connection: &mut SqliteConnection) -> Result<()> {
    let text: String =
        sqlx::query("SELECT sqlite_version()").fetch_one(connection).await?.try_get(0)?;
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    let version = (part(), part(), part());
    if version < VERSION_MIN {
        let (major, minor, patch) = VERSION_MIN;
        return Err(StoreError::Unusable(format!(
            "SQLite {text} is linked, which can corrupt databases: {major}.{minor}.{patch} or later is needed"
        )));
    }
    Ok(())
}

/// The schema's version; 0 without any.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<i64> {
    let migrated = sqlx::query(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if migrated.is_none() {
        return Ok(0);
    }
    let row = sqlx::query("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}
