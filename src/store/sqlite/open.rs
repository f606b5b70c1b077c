//! Opening and migrating a file, with the settings that durability and safety depend on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use super::SqliteStore;
use super::error::or_full;
use super::feed::now;
use super::file::{self, Access};
use super::inspect::{inspect, schema};
use super::pools::Pools;
use super::watched::{Watched, beside, identity};
use crate::store::contraction::{self, LiveReplica, Release, ReleaseWait};
use crate::store::migrations::{self, MigrationList, MigrationSummary, SQLITE};
use crate::store::{Result, StoreError};

/// How long a connection waits for the lock of another process.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start waits for another process that is starting or migrating.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Oldest safe SQLite. In earlier versions a checkpoint can corrupt the file
/// (<https://sqlite.org/wal.html#walresetbug>).
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

impl SqliteStore {
    /// Opens the file for a server. Creates it if it does not exist, and migrates it.
    pub async fn open(path: &Path) -> Result<Self> {
        migrate(path, SQLITE).await?;
        Self::open_to_serve(path).await
    }

    /// Opens the file for a server, as [`Self::open_existing`] does. Refuses a read-only file that no process has open:
    /// SQLite would read it as immutable, and the server would miss every revocation.
    pub async fn open_to_serve(path: &Path) -> Result<Self> {
        if let (path, Access::Read { immutable: true }) = file::require(path)? {
            return Err(StoreError::Denied(format!(
                "this user may only read {}, but a server must write to the file and its directory",
                path.display()
            )));
        }
        Self::open_existing(path).await
    }

    /// Opens an existing file whose schema is current. A read-only file can be read.
    pub async fn open_existing(path: &Path) -> Result<Self> {
        let had_log = has_log(path);
        Self::open_file(path).await.map_err(|error| with_likely_cause(error, path, had_log))
    }

    async fn open_file(path: &Path) -> Result<Self> {
        let (path, access) = file::require(path)?;
        inspect(&path, access, SQLITE)
            .await?
            .require_current(&path.display().to_string(), SQLITE)?;
        let options = match access {
            Access::Write => options(&path),
            Access::Read { immutable } => read_only_options(&path, immutable),
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

/// Migrates the file's schema to the newest version of these migrations.
pub(in crate::store) async fn migrate(
    path: &Path,
    list: MigrationList,
) -> Result<MigrationSummary> {
    let had_log = has_log(path);
    migrate_file(path, list).await.map_err(|error| with_likely_cause(error, path, had_log))
}

async fn migrate_file(path: &Path, list: MigrationList) -> Result<MigrationSummary> {
    let shown = path.display().to_string();
    let found = match file::require(path) {
        Err(StoreError::Missing(_)) => 0,
        existing => {
            let (path, access) = existing?;
            let schema = inspect(&path, access, list).await?;
            if let Some(version) = schema.current_version() {
                return Ok(MigrationSummary::between(version, version, list));
            }
            schema.version_to_migrate(&shown, list)?
        }
    };
    let path = file::create_if_missing(path)?;
    if let Some(release) = Release::required(found, list).filter(|_| found > 0) {
        let mut connection = connect(&options(&path)).await?;
        wait_for_release(&mut connection, found, release).await?;
        connection.close().await?;
    }
    let migrated = migrate_locked(&path, &shown, list).await;
    migrated
        .map_err(|error| match error {
            StoreError::Denied(_) | StoreError::Unavailable(_)
                if file::is_mounted_read_only(&path) =>
            {
                StoreError::read_only(&format!("the file system of {shown} is mounted read-only"))
            }
            error => error,
        })
        .map_err(|error| migrations::denied_error(found, list, error))
}

/// Applies the pending migrations.
async fn migrate_locked(path: &Path, shown: &str, list: MigrationList) -> Result<MigrationSummary> {
    let mut connection = connect(&options(path).busy_timeout(MIGRATE_TIMEOUT)).await?;
    // Other processes wait for this lock. All migrations are one transaction.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let from = schema(&mut transaction, list).await?.version_to_migrate(shown, list)?;
    if let Some(release) = Release::required(from, list).filter(|_| from > 0) {
        contraction::refuse_before(release, &live_replicas(&mut transaction, from).await?)?;
    }
    migrations::run(&mut *transaction, list).await?;
    let to = version(&mut transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(MigrationSummary::between(from, to, list))
}

/// Waits until no server of an earlier release is live.
pub async fn require_release(path: &Path, release: Release) -> Result<()> {
    let mut connection = connect(&options(path)).await?;
    let version = version(&mut connection).await?;
    wait_for_release(&mut connection, version, release).await?;
    connection.close().await?;
    Ok(())
}

/// Waits until no replica of an earlier release is live, and marks those as ended that have crashed.
async fn wait_for_release(
    connection: &mut SqliteConnection,
    version: i64,
    release: Release,
) -> Result<()> {
    let mut wait = ReleaseWait::begin(release);
    let crashed = loop {
        if let Some(crashed) = wait.look(live_replicas(connection, version).await?)? {
            break crashed;
        }
        wait.pause().await;
    };
    for replica in crashed {
        sqlx::query(concat!(
            "UPDATE replicas SET end_time = ",
            now!(),
            " WHERE replica_id = $1 AND seq = $2 AND end_time IS NULL"
        ))
        .bind(replica.id)
        .bind(replica.seq)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Returns the replicas that have not ended.
async fn live_replicas(
    connection: &mut SqliteConnection,
    version: i64,
) -> Result<Vec<LiveReplica>> {
    let rows = sqlx::query(contraction::select_live(version)).fetch_all(&mut *connection).await?;
    rows.iter().map(LiveReplica::read).collect()
}

/// Returns whether the file has a write-ahead log that is not empty.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// Adds the likely cause to an error about a damaged file, and tells a full disk from a failing one. A log does not identify the file that it belongs to, so a
/// log left beside a copied file damages the copy.
fn with_likely_cause(error: StoreError, path: &Path, had_log: bool) -> StoreError {
    match error {
        StoreError::Lost(text) if had_log => StoreError::Lost(format!(
            "{text}; if it was copied here by hand, the log {} beside it belonged to another file and corrupted it: put the \
             copy in place with `sophic-auth restore`",
            beside(path, "-wal").display()
        )),
        error => or_full(error, path),
    }
}

/// Returns what `migrate` would do. Does not create a missing file.
pub async fn pending_migrations(path: &Path) -> Result<MigrationSummary> {
    let (path, access) = match file::require(path) {
        Err(StoreError::Missing(_)) => return MigrationSummary::pending(0, SQLITE),
        existing => existing?,
    };
    let from = inspect(&path, access, SQLITE)
        .await?
        .version_to_migrate(&path.display().to_string(), SQLITE)?;
    MigrationSummary::pending(from, SQLITE)
}

/// Options for reading only. Beside a file that no process has open, SQLite would create a log, which may be impossible
/// and would hinder the owner of the file. The `immutable` flag prevents that.
pub(super) fn read_only_options(path: &Path, immutable: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(immutable)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cell_size_check", "ON")
        .disable_statement_logging()
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // Readers and the writer do not block each other.
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL would lose the last commits in a power cut, possibly a revocation.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Deleted content is overwritten, because names are personal data.
        .pragma("secure_delete", "ON")
        // Detects a damaged page before its content is used.
        .pragma("cell_size_check", "ON")
        // Truncates a log that grew during a long read.
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

/// Connects. Retries while another process switches the file to WAL mode too, for which SQLite does not wait.
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

/// Refuses an SQLite library with the bug that [`VERSION_MIN`] avoids. The bundled one does not have it.
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

/// Returns the version of the schema, `0` if there is none.
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
