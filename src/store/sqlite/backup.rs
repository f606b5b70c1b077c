//! A copy of the database as it is at one moment, while others go on reading and writing.

use std::fs::File;
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

/// How often SQLite is asked to look whether it is to go on, in steps of its own machine: many times a second.
const STEPS: i32 = 10_000;
/// How long the end of a copy that is given up is waited for.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the copy next to its target and moves it there when it is complete and on the disk. A copy by `cp` would miss
/// what is
pub async fn backup(path: &Path, to: &Path) -> Result<()> {
    let refuse = |text: String| StoreError::Unusable(text);
    let (path, access) = file::existing(path)?;
    // What is no store would look like a backup until the day that it is needed.
    inspect(&path, access).await?.existing_version(&path.display().to_string(), SQLITE)?;
    let to = std::path::absolute(to).map_err(|error| refuse(error.to_string()))?;
    let taken = || {
        let text = format!("{} is there already: it is not written over", to.display());
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
            "there is no folder {}",
            parent.display()
        )));
    }
    let folder = tempfile::Builder::new()
        .prefix(".sophic-auth-backup-")
        .tempdir_in(parent)
        .map_err(fails)?;
    let copy = folder.path().join("copy.db");
    // Readable by its owner only, as SQLite leaves it.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&copy);
    let file = file.map_err(fails)?;
    let target = copy.to_str().ok_or_else(|| refuse("its path is not UTF-8".to_owned()))?;
    let mut copying = Copying::begin(connect(&options(&path)).await?, folder).await?;
    copying.vacuum(target).await?;
    file.sync_all().map_err(fails)?;
    let whole = TempPath::try_from_path(&copy).map_err(fails)?;
    whole.persist_noclobber(&to).map_err(|error| {
        if error.error.kind() == std::io::ErrorKind::AlreadyExists {
            taken()
        } else {
            fails(error.error)
        }
    })?;
    // The new name is in the folder, which has to reach the disk too.
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(fails)
}

/// A copy that is being made. Dropped early it ends SQLite's work first, on a thread of its own, and then takes away the folder
/// with all that SQLite has made there, its journal too.
struct Copying {
    /// Taken when its work is done.
    connection: Option<SqliteConnection>,
    given_up: Arc<AtomicBool>,
    /// Its other end goes with the connection.
    ended: Receiver<()>,
    _folder: TempDir,
}

impl Copying {
    async fn begin(mut connection: SqliteConnection, folder: TempDir) -> Result<Self> {
        let given_up = Arc::new(AtomicBool::new(false));
        let (sender, ended) = channel::<()>();
        let asked = Arc::clone(&given_up);
        connection.lock_handle().await?.set_progress_handler(STEPS, move || {
            let _until_it_ends = &sender;
            !asked.load(Ordering::Acquire)
        });
        Ok(Self { connection: Some(connection), given_up, ended, _folder: folder })
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

impl Drop for Copying {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Release);
        if let Some(connection) = self.connection.take() {
            drop(connection);
            // Nobody sends: it is over when the other end is gone.
            let _ = self.ended.recv_timeout(END_TIMEOUT);
        }
    }
}
