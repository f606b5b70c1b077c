//! That the file which is open is still the one at its path, and whole. Once another is there it is given up until the program
//! is started again: a commit into a file that nobody will find would be acknowledged and lost. One that reads as damaged is
//! given up until a check finds all of it whole: a disk that fails for a moment looks the same.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::error::DISK_FAILS;
use super::file;
use crate::store::write_health::WriteHealth;
use crate::store::{Result, StoreError};

/// What SQLite works with: the database, its log, and the index of that.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// When a file that read as damaged is checked first, and how far apart checks get: each reads all of it.
const CHECK_FIRST: Duration = Duration::from_secs(1);
const CHECK_LAST: Duration = Duration::from_secs(30);

/// Which file it is: device and inode.
type Identity = Option<(u64, u64)>;

/// What was found in the file.
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
    /// Why it is given up for good.
    lost: OnceLock<String>,
    /// Why it is given up for now.
    damage: RwLock<Option<Damage>>,
    /// At the end SQLite takes its log away itself.
    closed: AtomicBool,
    /// Whether it takes writes.
    pub(super) write_health: WriteHealth,
}

impl Watched {
    /// The files at this path. To be called while SQLite has them open: then none of them goes by itself.
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

    /// Whether the database itself is this one.
    pub(super) fn is(&self, identity: Identity) -> bool {
        self.files[0].1 == identity
    }

    /// Refuses a file that is given up, and gives up one that is not at its path any more.
    pub(super) fn check(&self) -> Result<()> {
        self.is_there()?;
        match &*self.damage.read() {
            Some(damage) => Err(StoreError::Lost(damage.text.clone())),
            None => Ok(()),
        }
    }

    /// The same of one that may be damaged.
    fn is_there(&self) -> Result<()> {
        if let Some(text) = self.lost.get() {
            return Err(StoreError::Lost(text.clone()));
        }
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        for (path, opened) in &self.files {
            let found = identity(path);
            if found != *opened {
                let what = if found.is_some() { "another file now" } else { "gone" };
                let text =
                    format!("{} is {what}, under a program that had it open", path.display());
                return Err(self.give_up(text));
            }
        }
        Ok(())
    }

    /// Looks no more: the store is being closed.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The outcome of a statement. One that found the file damaged ends all use of it for now.
    pub(super) fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        self.write_health.note(&outcome);
        match outcome {
            // A disk that fails, say: the next write shows it.
            Err(StoreError::Unavailable(text)) => {
                self.write_health.doubt();
                // SQLite does not tell a quota that is used up from a disk that is broken.
                let is_full = text.starts_with(DISK_FAILS) && file::is_full(&self.files[0].0);
                Err(if is_full {
                    StoreError::DiskFull(text)
                } else {
                    StoreError::Unavailable(text)
                })
            }
            Err(StoreError::Lost(text)) if self.lost.get().is_none() => {
                self.reads_as_damaged(&text);
                Err(StoreError::Lost(text))
            }
            outcome => outcome,
        }
    }

    fn reads_as_damaged(&self, text: &str) {
        let mut damage = self.damage.write();
        if damage.is_some() {
            return;
        }
        tracing::error!(
            "{text}. Nothing is read or written until all of it reads well again, which is looked at from time to time"
        );
        let (text, pause) = (text.to_owned(), CHECK_FIRST);
        *damage = Some(Damage { text, next_check: Instant::now() + pause, pause });
        self.write_health.doubt();
    }

    /// Whether the file read as damaged and it is time to check it; fails while it is not yet.
    pub(super) fn wants_check(&self) -> Result<bool> {
        self.is_there()?;
        match &*self.damage.read() {
            None => Ok(false),
            Some(damage) if damage.next_check <= Instant::now() => Ok(true),
            Some(damage) => Err(StoreError::Lost(damage.text.clone())),
        }
    }

    /// A check found it whole, or did not.
    pub(super) fn checked(&self, outcome: Result<()>) -> Result<()> {
        let mut damage = self.damage.write();
        let (Err(error), Some(found)) = (&outcome, &mut *damage) else {
            if damage.take().is_some() {
                tracing::info!("the database file reads well again, all of it: it is used again");
            }
            return outcome;
        };
        found.pause = (found.pause * 2).min(CHECK_LAST);
        found.next_check = Instant::now() + found.pause;
        tracing::warn!(%error, "the database file does not read well yet: it is looked at again in {:?}", found.pause);
        Err(StoreError::Lost(found.text.clone()))
    }

    fn give_up(&self, text: String) -> StoreError {
        let first = self.lost.set(text.clone()).is_ok();
        if first {
            tracing::error!(
                "the database is lost: {text}. Nothing is read or written any more: put it right (`sophic-auth restore` \
                 brings a backup back), and start again"
            );
        }
        StoreError::Lost(text)
    }
}

/// The path of a file that SQLite keeps beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Which file is at this path, if there is one.
pub(super) fn identity(path: &Path) -> Identity {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
