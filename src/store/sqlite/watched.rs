//! Watches that the open file is still the one at its path, and undamaged.
//!
//! If another file is at the path, the store is unusable until the program restarts: a commit into an unreachable file
//! would be acknowledged and lost. If the file is found damaged, the store is unusable until a check finds the whole
//! file intact, because a disk that fails for a moment looks the same.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::error::or_full;
use crate::store::write_health::WriteHealth;
use crate::store::{Result, StoreError};

/// The files that SQLite uses: the database, its log, and the index of the log.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Delays between checks of a file that was found damaged. They grow from the first to the last, since each check reads
/// the whole file.
const CHECK_FIRST: Duration = Duration::from_secs(1);
const CHECK_LAST: Duration = Duration::from_secs(30);

/// Device and inode, `None` if there is no file.
type Identity = Option<(u64, u64)>;

/// Damage found in the file.
#[derive(Debug)]
struct Damage {
    text: String,
    next_check: Instant,
    pause: Duration,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Watched {
    files: [(PathBuf, Identity); 3],
    /// Why the file is lost for good.
    lost: OnceLock<String>,
    /// Why the file is unusable for now.
    damage: RwLock<Option<Damage>>,
    /// Set when the store closes, since SQLite then removes its log itself.
    closed: AtomicBool,
    /// Whether the file can be written to.
    pub(super) write_health: WriteHealth,
}

impl Watched {
    /// Records the files at this path. Call it while SQLite has them open, so that SQLite does not remove any of them.
    pub(super) fn new(path: &Path) -> Self {
        let files = SUFFIXES.map(|suffix| {
            let path = beside(path, suffix);
            let identity = identity(&path);
            (path, identity)
        });
        Self {
            files,
            lost: OnceLock::new(),
            damage: RwLock::default(),
            closed: AtomicBool::new(false),
            write_health: WriteHealth::new(),
        }
    }

    /// Returns whether the database file has this identity.
    pub(super) fn is(&self, identity: Identity) -> bool {
        self.files[0].1 == identity
    }

    /// Fails if the file is lost or damaged, or is no longer at its path.
    pub(super) fn check(&self) -> Result<()> {
        self.check_path()?;
        match &*self.damage.read() {
            Some(damage) => Err(StoreError::Lost(damage.text.clone())),
            None => Ok(()),
        }
    }

    /// Like [`Self::check`], but accepts a damaged file.
    fn check_path(&self) -> Result<()> {
        if let Some(text) = self.lost.get() {
            return Err(StoreError::Lost(text.clone()));
        }
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        for (path, opened) in &self.files {
            let found = identity(path);
            if found != *opened {
                let what = if found.is_some() { "replaced by another file" } else { "removed" };
                let text = format!("{} was {what} while a program had it open", path.display());
                return Err(self.mark_lost(text));
            }
        }
        Ok(())
    }

    /// Stops watching, because the store is being closed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Records the outcome of a statement. Damage makes the file unusable for now.
    pub(super) fn record<T>(&self, outcome: Result<T>) -> Result<T> {
        self.write_health.note(&outcome);
        match outcome {
            // The disk may be failing, for example. The next write shows whether it is.
            Err(error @ StoreError::Unavailable(_)) => {
                self.write_health.doubt();
                Err(or_full(error, &self.files[0].0))
            }
            Err(StoreError::Lost(text)) if self.lost.get().is_none() => {
                self.mark_damaged(&text);
                Err(StoreError::Lost(text))
            }
            outcome => outcome,
        }
    }

    fn mark_damaged(&self, text: &str) {
        let mut damage = self.damage.write();
        if damage.is_some() {
            return;
        }
        tracing::error!(
            "{text}. Nothing is read or written until a check finds the whole file intact"
        );
        let (text, pause) = (text.to_owned(), CHECK_FIRST);
        *damage = Some(Damage { text, next_check: Instant::now() + pause, pause });
        self.write_health.doubt();
    }

    /// Returns whether the file was found damaged and a check is due. Fails if the check is not due yet.
    pub(super) fn is_check_due(&self) -> Result<bool> {
        self.check_path()?;
        match &*self.damage.read() {
            None => Ok(false),
            Some(damage) if damage.next_check <= Instant::now() => Ok(true),
            Some(damage) => Err(StoreError::Lost(damage.text.clone())),
        }
    }

    /// Records the outcome of a check.
    pub(super) fn record_check(&self, outcome: Result<()>) -> Result<()> {
        let mut damage = self.damage.write();
        let (Err(error), Some(found)) = (&outcome, &mut *damage) else {
            if damage.take().is_some() {
                tracing::info!("a check found the whole database file intact: it is used again");
            }
            return outcome;
        };
        found.pause = (found.pause * 2).min(CHECK_LAST);
        found.next_check = Instant::now() + found.pause;
        tracing::warn!(%error, "the database file is not intact yet: the next check is in {:?}", found.pause);
        Err(StoreError::Lost(found.text.clone()))
    }

    fn mark_lost(&self, text: String) -> StoreError {
        let first = self.lost.set(text.clone()).is_ok();
        if first {
            tracing::error!(
                "the database is lost: {text}. Nothing is read or written any more: repair it (`sophic-auth restore` \
                 restores a backup), and restart the server"
            );
        }
        StoreError::Lost(text)
    }
}

/// Returns the path of a file that SQLite keeps beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the identity of the file at this path, if there is one.
pub(super) fn identity(path: &Path) -> Identity {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
