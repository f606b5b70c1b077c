//! Online backup: a consistent copy of the database while other processes read and write it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tempfile::{TempDir, TempPath};

use super::file;
use super::inspect::inspect;
use super::open::{connect, options};
use crate::store::migrations::SQLITE;
use crate::store::{Result, StoreError};

/// Number of SQLite virtual machine steps between two calls of the progress handler. It runs many times a second.
const STEPS_PER_CALL: i32 = 10_000;
/// How long dropping a `BackupInProgress` waits for SQLite to stop.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the copy to a temporary directory beside `to`, and renames it once it is complete and synced. Copying the
/// file with `cp` would miss the commits in the write-ahead log.
pub async fn backup(path: &Path, to: &Path) -> Result<()> {
    let refuse = |text: String| StoreError::Unusable(text);
    let (path, access) = file::require(path)?;
    // Otherwise a copy of the wrong file would look like a backup until it is restored.
    inspect(&path, access, SQLITE).await?.existing_version(&path.display().to_string(), SQLITE)?;
    let to = std::path::absolute(to).map_err(|error| refuse(error.to_string()))?;
    let taken = || {
        let text = format!("{} already exists and is not overwritten", to.display());
        StoreError::InvalidLocation(text)
    };
    if to.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let fails = |error: std::io::Error| {
        refuse(format!("the backup {} cannot be written: {error}", to.display()))
    };
    let parent = to.parent().unwrap_or(&to);
    if !parent.is_dir() {
        return Err(StoreError::InvalidLocation(format!(
            "there is no directory {}",
            parent.display()
        )));
    }
    let folder = tempfile::Builder::new()
        .prefix(".sophic-auth-backup-")
        .tempdir_in(parent)
        .map_err(fails)?;
    let copy = folder.path().join("copy.db");
    // Mode 0600, as for the database itself.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&copy);
    let file = file.map_err(fails)?;
    let target = copy.to_str().ok_or_else(|| refuse("its path is not UTF-8".to_owned()))?;
    let mut backup = BackupInProgress::begin(connect(&options(&path)).await?, folder).await?;
    backup.vacuum(target).await.map_err(|error| match error {
        // It writes to the disk of the copy only.
        StoreError::DiskFull(_) => fails(ErrorKind::StorageFull.into()),
        error => error,
    })?;
    file.sync_all().map_err(fails)?;
    let whole = TempPath::try_from_path(&copy).map_err(fails)?;
    whole.persist_noclobber(&to).map_err(|error| {
        if error.error.kind() == ErrorKind::AlreadyExists { taken() } else { fails(error.error) }
    })?;
    // Sync the directory too, so that the new name survives a power cut.
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(fails)
}

/// A copy in progress. Dropping it interrupts SQLite, waits until its thread has stopped, and then removes the
/// directory with everything that SQLite has created there, the journal included.
struct BackupInProgress {
    /// `None` when the copy is complete.
    connection: Option<SqliteConnection>,
    cancelled: Arc<AtomicBool>,
    /// Disconnected when SQLite drops the connection and its progress handler.
    ended: Receiver<()>,
    _folder: TempDir,
}

impl BackupInProgress {
    async fn begin(mut connection: SqliteConnection, folder: TempDir) -> Result<Self> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (sender, ended) = channel::<()>();
        let asked = Arc::clone(&cancelled);
        connection.lock_handle().await?.set_progress_handler(STEPS_PER_CALL, move || {
            let _until_it_ends = &sender;
            !asked.load(Ordering::Acquire)
        });
        Ok(Self { connection: Some(connection), cancelled, ended, _folder: folder })
    }

    async fn vacuum(&mut self, target: &str) -> Result<()> {
        if let Some(connection) = &mut self.connection {
            sqlx::query("VACUUM INTO $1").bind(target).execute(connection).await?;
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await?;
        }
        Ok(())
    }
}

impl Drop for BackupInProgress {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(connection) = self.connection.take() {
            drop(connection);
            // Nothing is ever sent. The call returns when the sender is dropped.
            let _ = self.ended.recv_timeout(END_TIMEOUT);
        }
    }
}
