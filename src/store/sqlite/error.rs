//! Maps SQLite errors to `StoreError`.

use sqlx::error::DatabaseError;

use crate::store::{StoreError, Unique};

/// Prefix of the error text for an I/O error of SQLite.
pub(super) const DISK_FAILS: &str = "its disk fails";

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
        10 => StoreError::Unavailable(format!("{DISK_FAILS}: {}", text())),
        // READONLY, but only until another process has recovered or created the log: RECOVERY, CANTLOCK, CANTINIT.
        8 if matches!(number >> 8, 1 | 2 | 5) => StoreError::Unavailable(text()),
        // PERM, READONLY, AUTH.
        3 | 8 | 23 => StoreError::Denied(text()),
        // NOMEM, INTERRUPT, CANTOPEN, PROTOCOL.
        7 | 9 | 14 | 15 => StoreError::Unavailable(text()),
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
