//! That the file which is open is still the one at its path, and whole. Once it is not, it is given up until the program is
//! started again: a commit into a file that nobody will find would be acknowledged and lost.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::writes::Writes;
use crate::store::{Result, StoreError};

/// What SQLite works with: the database, its log, and the index of that.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Which file it is: device and inode.
type Identity = Option<(u64, u64)>;

/// The open file.
#[derive(Debug)]
pub(super) struct Watched {
    files: [(PathBuf, Identity); 3],
    /// Why it is given up.
    lost: OnceLock<String>,
    /// At the end SQLite takes its log away itself.
    closed: AtomicBool,
    /// Whether it takes writes.
    pub(super) writes: Writes,
}

impl Watched {
    /// The files at this path. To be called while SQLite has them open: then none of them goes by itself.
    pub(super) fn new(path: &Path) -> Self {
        let files = SUFFIXES.map(|suffix| {
            let path = beside(path, suffix);
            let identity = identity(&path);
            (path, identity)
        });
        Self { files, lost: OnceLock::new(), closed: AtomicBool::new(false), writes: Writes::new() }
    }

    /// Whether the database itself is this one.
    pub(super) fn is(&self, identity: Identity) -> bool {
        self.files[0].1 == identity
    }

    /// Refuses a file that is given up, and gives up one that is not at its path any more.
    pub(super) fn check(&self) -> Result<()> {
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

    /// The outcome of a statement. One that found the file damaged ends all use of it.
    pub(super) fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        self.writes.note(&outcome);
        match outcome {
            // A disk that fails, say: the next write shows it.
            Err(StoreError::Unavailable(_)) => {
                self.writes.doubt();
                outcome
            }
            Err(StoreError::Lost(text)) => Err(self.give_up(text)),
            outcome => outcome,
        }
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
