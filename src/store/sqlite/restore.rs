//! Restoring a backup in the place of the database. The backup is checked first and put in place in one step, and
//! nothing of the old database is mixed in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};
use sqlx::sqlite::SqliteJournalMode;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};
use tempfile::TempDir;

use super::file;
use super::inspect::{inspect, schema};
use super::open::{connect, migrate, options};
use super::watched::{beside, identity};
use crate::model::Timestamp;
use crate::store::migrations::{self, MigrationSummary, SQLITE, Schema};
use crate::store::{Result, StoreError};

/// Maximum number of names to try for the old database.
const NAMES_MAX: u32 = 1_000;

/// A copy of a backup beside the database that it will replace. Dropping it removes the copy.
#[derive(Debug)]
pub struct PreparedRestore {
    folder: TempDir,
    target: PathBuf,
    /// Path of the copy. It can be opened as a store until [`Self::finish`], and must be closed before that.
    pub copy: PathBuf,
    /// The version of its schema before and after migrating.
    pub migrated: MigrationSummary,
    /// Time of the last audit event in the backup.
    pub until: Option<Timestamp>,
}

impl PreparedRestore {
    /// Copies the backup and checks the copy. Refuses while any process has the database open.
    pub async fn begin(target: &Path, backup: &Path) -> Result<Self> {
        let target = resolve_links(target)?;
        let backup = std::path::absolute(backup).map_err(|error| refuse(error.to_string()))?;
        let shown = backup.display();
        if !backup.is_file() {
            return Err(StoreError::InvalidLocation(format!("there is no backup {shown}")));
        }
        if identity(&backup) == identity(&target) {
            let text = format!("{shown} is the database itself, not a backup of it");
            return Err(StoreError::InvalidLocation(text));
        }
        let log = beside(&backup, "-wal");
        if fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(refuse(format!(
                "{shown} is not a finished backup: part of it is in {}. Create one from it: `sophic-auth --database-url \
                 sqlite:{shown} backup FILE`",
                log.display()
            )));
        }
        drop(lock(&target)?);
        refuse_foreign_database(&target).await?;
        let parent = target.parent().unwrap_or(&target);
        let folder = tempfile::Builder::new()
            .prefix(".sophic-auth-restore-")
            .tempdir_in(parent)
            .map_err(|error| refuse(format!("{} cannot be written: {error}", parent.display())))?;
        let copy = folder.path().join("store.db");
        copy_file(&backup, &copy)?;
        let unfit = |error| refuse(format!("{shown} is not a usable backup: {error}"));
        check(&copy).await.map_err(unfit)?;
        let migrated = migrate(&copy, SQLITE).await.map_err(unfit)?;
        let until = forget_replicas(&copy).await?;
        Ok(Self { folder, target, copy, migrated, until })
    }

    /// Returns the path of the database that will be replaced, if it exists.
    pub fn replaced(&self) -> Option<&Path> {
        self.target.exists().then_some(&*self.target)
    }

    /// Moves the copy into place. Returns the path under which the old database is kept.
    pub async fn finish(self) -> Result<Option<PathBuf>> {
        let Self { folder, target, copy, .. } = self;
        let fails = |error: std::io::Error| {
            refuse(format!("{} cannot be replaced: {error}", target.display()))
        };
        File::open(&copy).and_then(|file| file.sync_all()).map_err(fails)?;
        merge_log(&target).await?;
        // The lock is held until the new file is in place. No SQLite connection of this process has the file open, so
        // closing the descriptor drops no lock of one.
        let held = lock(&target)?;
        let kept = held.is_some().then(|| move_aside(&target)).transpose().map_err(fails)?;
        fs::rename(&copy, &target).map_err(fails)?;
        let parent = target.parent().unwrap_or(&target);
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(fails)?;
        drop((held, folder));
        Ok(kept)
    }
}

fn refuse(text: String) -> StoreError {
    StoreError::Unusable(text)
}

/// Refuses to replace the database of another program. A damaged file, or one that is not a database, is replaced.
async fn refuse_foreign_database(target: &Path) -> Result<()> {
    let Ok((target, access)) = file::require(target) else { return Ok(()) };
    match inspect(&target, access, SQLITE).await {
        Ok(schema @ Schema::Occupied { .. }) => {
            schema.existing_version(&target.display().to_string(), SQLITE).map(|_| ())
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the path of the file, with symbolic links resolved.
fn resolve_links(target: &Path) -> Result<PathBuf> {
    let target = std::path::absolute(target).map_err(|error| refuse(error.to_string()))?;
    match fs::symlink_metadata(&target) {
        Err(_) => Ok(target),
        Ok(_) => fs::canonicalize(&target)
            .map_err(|error| refuse(format!("{} cannot be used: {error}", target.display()))),
    }
}

/// Locks the whole file, which fails while any process has it open in SQLite: every connection in WAL mode holds a lock
/// as long as it is open (<https://sqlite.org/walformat.html>). Returns `None` if there is no file.
fn lock(target: &Path) -> Result<Option<File>> {
    let file = match File::options().read(true).write(true).open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(format!("{} cannot be used: {error}", target.display()))),
    };
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(_) => Err(in_use(target)),
    }
}

fn in_use(target: &Path) -> StoreError {
    let shown = target.display();
    refuse(format!("another process has {shown} open, as a server does: stop it first"))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let copied = || {
        let mut source = File::open(from)?;
        // Mode 0600, even if the backup has another mode.
        let mut copy = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        copy.set_permissions(fs::Permissions::from_mode(0o600))?;
        std::io::copy(&mut source, &mut copy)?;
        copy.sync_all()
    };
    copied().map_err(|error: std::io::Error| {
        refuse(format!("{} cannot be copied: {error}", from.display()))
    })
}

/// Checks that the copy is undamaged and a store of this program.
async fn check(copy: &Path) -> Result<()> {
    let mut db = connect(&options(copy)).await?;
    match schema(&mut db, SQLITE).await? {
        Schema::Store { version, .. } => migrations::refuse_newer(version, SQLITE)?,
        Schema::Empty | Schema::Shared(_) | Schema::Occupied { .. } => {
            return Err(refuse("it is not a store of sophic-auth".to_owned()));
        }
    }
    let row = sqlx::query("PRAGMA integrity_check(1)").fetch_one(&mut db).await?;
    let verdict: String = row.try_get(0)?;
    if verdict != "ok" {
        return Err(refuse(format!("it is damaged: {verdict}")));
    }
    if sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut db).await?.is_some() {
        return Err(refuse("it is damaged: a row refers to a row that is missing".to_owned()));
    }
    Ok(db.close().await?)
}

/// Deletes the rows of servers that ran at the time of the backup, for which no revocation must wait. Returns the time
/// of the last audit event.
async fn forget_replicas(copy: &Path) -> Result<Option<Timestamp>> {
    let mut db = connect(&options(copy)).await?;
    // A backup of a running server has rows without an end time, which a trigger protects from deletion.
    sqlx::query("UPDATE replicas SET end_time = heartbeat WHERE end_time IS NULL")
        .execute(&mut db)
        .await?;
    sqlx::query("DELETE FROM replicas").execute(&mut db).await?;
    let until = last_event(&mut db).await?;
    db.close().await?;
    Ok(until)
}

async fn last_event(db: &mut SqliteConnection) -> Result<Option<Timestamp>> {
    let row = sqlx::query("SELECT time FROM audit_events ORDER BY id DESC LIMIT 1")
        .fetch_optional(db)
        .await?;
    let micros = row.map(|row| row.try_get::<i64, _>(0)).transpose()?;
    Ok(micros.and_then(Timestamp::from_unix_micros))
}

/// Merges the log into the file that will be kept, which needs exclusive access. If the file is damaged, its log is
/// kept beside it.
async fn merge_log(target: &Path) -> Result<()> {
    if !target.exists() {
        return Ok(());
    }
    let exclusive = options(target)
        .create_if_missing(false)
        .busy_timeout(Duration::ZERO)
        .journal_mode(SqliteJournalMode::Delete);
    match exclusive.connect().await.map_err(StoreError::from) {
        Ok(db) => Ok(db.close().await?),
        Err(StoreError::Busy(_)) => Err(in_use(target)),
        Err(StoreError::Lost(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives the old database another name, and removes the files that SQLite would take for part of the new one.
fn move_aside(target: &Path) -> std::io::Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a name for people")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let kept = link_under_free_name(target, &beside(target, &format!(".before-restore-{now}")))?;
    for suffix in ["-wal", "-journal"] {
        match fs::rename(beside(target, suffix), beside(&kept, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::remove_file(beside(target, "-shm")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(kept),
    }
}

/// Adds a second name to the old database, so that there is a database at its path at every moment. A number is
/// appended if another restore took the name in the same second.
fn link_under_free_name(target: &Path, name: &Path) -> std::io::Result<PathBuf> {
    let mut kept = name.to_owned();
    for number in 2..=NAMES_MAX {
        let outcome = match fs::hard_link(target, &kept) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                copy_to_new_file(target, &kept)
            }
            outcome => outcome,
        };
        match outcome {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                kept = beside(name, &format!("-{number}"));
            }
            outcome => return outcome.map(|()| kept),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// Copies the file, on file systems without hard links.
fn copy_to_new_file(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    fs::copy(from, to).map(|_| ())
}
