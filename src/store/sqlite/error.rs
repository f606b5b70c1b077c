//! Maps SQLite errors to `StoreError`.

use std::path::Path;

use sqlx::error::DatabaseError;

use super::file;
use crate::store::{StoreError, Unique};

/// Prefix of the error text for an I/O error of SQLite.
const DISK_FAILS: &str = "its disk fails: ";
/// Prefix of the error text if the file, its log or the index of the log cannot be opened or created.
const CANNOT_OPEN: &str = "its files cannot be opened: ";

/// Returns the error as one of a full disk, if the disk or the quota of the file at `path` is exhausted. SQLite reports
/// only a failed write to the file or its log as that (FULL); all else is a disk error (IOERR) or a file that cannot be
/// opened (CANTOPEN): an exhausted quota, and an index of the log (`-shm`) or a log that cannot be made or extended.
pub(super) fn or_full(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Unavailable(text) = error else { return error };
    let cause = [DISK_FAILS, CANNOT_OPEN].iter().find_map(|prefix| text.strip_prefix(prefix));
    match cause.filter(|_| file::is_full(path)) {
        Some(cause) => StoreError::DiskFull(cause.to_owned()),
        None => StoreError::Unavailable(text),
    }
}

/// Maps by extended result code (<https://sqlite.org/rescode.html>). SQLite's messages name columns, never values.
pub(in crate::store) fn failure(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default().into_owned();
    let number: i32 = code.parse().unwrap_or(0);
    let text = || format!("{} (SQLite code {number})", error.message());
    // The low byte is the primary code.
    match number & 0xff {
        // BUSY and LOCKED.
        5 | 6 => StoreError::Busy(format!(
            "another process or connection holds the file's lock: {}",
            text()
        )),
        13 => StoreError::DiskFull(text()),
        // IOERR.
        10 => StoreError::Unavailable(format!("{DISK_FAILS}{}", text())),
        // READONLY, but only until another process has recovered or created the log: RECOVERY, CANTLOCK, CANTINIT.
        8 if matches!(number >> 8, 1 | 2 | 5) => StoreError::Unavailable(text()),
        // PERM, READONLY, AUTH.
        3 | 8 | 23 => StoreError::Denied(text()),
        // CANTOPEN.
        14 => StoreError::Unavailable(format!("{CANNOT_OPEN}{}", text())),
        // NOMEM, INTERRUPT, PROTOCOL.
        7 | 9 | 15 => StoreError::Unavailable(text()),
        // CORRUPT and NOTADB.
        11 => StoreError::Lost(
            "the database file is damaged: restore a backup, unless the disk failed only briefly"
                .to_owned(),
        ),
        26 => StoreError::Lost("the database file is not an SQLite database".to_owned()),
        _ if error.is_unique_violation() => {
            violated(error).map_or(StoreError::Refused { code }, StoreError::Conflict)
        }
        _ => StoreError::Refused { code },
    }
}

/// Returns which uniqueness was violated. SQLite names the column only in the message of the error.
fn violated(error: &dyn DatabaseError) -> Option<Unique> {
    let column = error.message().strip_prefix("UNIQUE constraint failed: ")?;
    Unique::ALL.into_iter().find(|unique| unique.column() == column)
}
