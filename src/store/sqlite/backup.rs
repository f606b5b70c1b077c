//! A copy of the database as it is at one moment, while others go on reading and writing.

use std::fs::File;
use std::path::Path;

use sqlx::Connection as _;
use tempfile::NamedTempFile;

use super::file;
use super::look::look;
use super::open::{connect, options};
use crate::store::migrations::SQLITE;
use crate::store::{Result, StoreError};

/// Writes the copy beside its place and moves it there when it is whole and on the disk. A copy by `cp` would miss what is
/// in the write-ahead log.
pub async fn backup(path: &Path, to: &Path) -> Result<()> {
    let refuse = |text: String| StoreError::Unusable(text);
    let (path, access) = file::existing(path)?;
    // What is no store would look like a backup until the day that it is needed.
    look(&path, access).await?.known(&path.display().to_string(), SQLITE)?;
    let to = std::path::absolute(to).map_err(|error| refuse(error.to_string()))?;
    let taken = || {
        let text = format!("{} is there already: it is not written over", to.display());
        StoreError::Misnamed(text)
    };
    if to.symlink_metadata().is_ok() {
        return Err(taken());
    }
    let fails = |error: std::io::Error| {
        refuse(format!("the backup {} cannot be written: {error}", to.display()))
    };
    let folder = to.parent().unwrap_or(&to);
    if !folder.is_dir() {
        return Err(StoreError::Misnamed(format!("there is no folder {}", folder.display())));
    }
    // Readable by its owner only, as SQLite leaves it.
    let copy = NamedTempFile::new_in(folder).map_err(fails)?;
    let target = copy.path().to_str().ok_or_else(|| refuse("its path is not UTF-8".to_owned()))?;
    let mut connection = connect(&options(&path)).await?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await?;
    connection.close().await?;
    copy.as_file().sync_all().map_err(fails)?;
    copy.persist_noclobber(&to).map_err(|error| {
        if error.error.kind() == std::io::ErrorKind::AlreadyExists {
            taken()
        } else {
            fails(error.error)
        }
    })?;
    // The new name is in the folder, which has to reach the disk too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fails)
}
