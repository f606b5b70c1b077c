//! Whether this process can write to the file.

use std::path::Path;

use sqlx::SqliteConnection;

use super::Result;
use super::file::{self, Access};

/// Writes about as many pages as a management call, to be committed, because only a commit goes to the disk. Deleted
/// rows are overwritten (`secure_delete`), so the pages are written although no rows remain.
pub(super) async fn try_to_write(db: &mut SqliteConnection) -> Result<()> {
    sqlx::query(
        "WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 16) \
         INSERT INTO requests (requester, request_id, fingerprint, credential_id, create_time) \
         SELECT 'try:' || hex(zeroblob(1800)), CAST(printf('%016d', i) AS BLOB), zeroblob(32), zeroblob(16), 0 \
         FROM numbers",
    )
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM requests WHERE requester = 'try:' || hex(zeroblob(1800))")
        .execute(db)
        .await?;
    Ok(())
}

/// Returns why the file cannot be written to, if the file system shows a reason.
pub fn missing_rights(path: &Path) -> Option<String> {
    match file::require(path).ok()? {
        (path, Access::Read { .. }) => Some(format!(
            "this user may only read {}, or cannot write to its directory, where SQLite keeps its log",
            path.display()
        )),
        (_, Access::Write) => None,
    }
}
