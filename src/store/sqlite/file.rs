//! The database's file: made readable to its owner only, and refused where SQLite could not keep it safe.
//!
//! An existing file is never opened here. When any descriptor of a file is closed, POSIX drops all locks that the
//! process has on it, those of SQLite's other connections included.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::store::{Result, StoreError};

/// What may be done with a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read and written.
    Write,
    /// Read only; `settled` where nobody has it open.
    Read { settled: bool },
}

/// Makes the file if it is not there; its absolute path.
pub(super) fn prepare(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    let shown = path.display();
    if is_there(&path)? {
        return Ok(path);
    }
    match create(&path) {
        Ok(()) => Ok(path),
        // Another process was faster; it is as good.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(path),
        Err(error) => refuse(format!("{shown} cannot be made: {error}")),
    }
}

/// The absolute path of a file that is there, and what may be done with it. Makes nothing.
pub(super) fn existing(path: &Path) -> Result<(PathBuf, Access)> {
    let path = absolute(path)?;
    if !is_there(&path)? {
        return Err(StoreError::Missing(format!(
            "there is no store {}: `sophic-auth migrate` and `sophic-auth serve` make one",
            path.display()
        )));
    }
    let access = access(&path);
    Ok((path, access))
}

/// Whether no more can be written beside this file, by this user: the disk is full, or a quota is used up.
pub(super) fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    tempfile::tempfile_in(folder).and_then(|file| try_to_fill(&file)).is_err_and(|error| {
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    })
}

fn try_to_fill(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(&[0x5a; 16_384], 0)?;
    // Where room is only taken when it is written out.
    file.sync_data()
}

fn refuse<T>(text: String) -> Result<T> {
    Err(StoreError::InvalidLocation(text))
}

/// Absolute, so that SQLite takes no name for a URI, and none changes its meaning with the working directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        return refuse(
            "sqlite: needs the path of a file: nothing would survive in memory".to_owned(),
        );
    }
    let path = std::path::absolute(path)
        .map_err(|error| StoreError::InvalidLocation(error.to_string()))?;
    let directory = path.parent().unwrap_or(&path);
    if !directory.is_dir() {
        return refuse(format!(
            "the directory {} of the database does not exist",
            directory.display()
        ));
    }
    if let Some(name) = network_filesystem(directory) {
        return refuse(format!(
            "{} is on a network file system ({name}), on which SQLite's locks and write-ahead log are not safe: \
             use a local disk, or Postgres",
            path.display()
        ));
    }
    Ok(path)
}

/// Whether it is there, and a file.
fn is_there(path: &Path) -> Result<bool> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(metadata) if metadata.is_dir() => {
            refuse(format!("{shown} is a directory, not a database file"))
        }
        Ok(_) => refuse(format!("{shown} is not a regular file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => refuse(format!("{shown} cannot be used: {error}")),
    }
}

fn access(path: &Path) -> Access {
    let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    // Whoever has it open, open to write, has its log beside it.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let settled = !Path::new(&log).exists();
    // The first to write makes the log.
    let has_log = !settled || path.parent().is_some_and(writable);
    if writable(path) && has_log { Access::Write } else { Access::Read { settled } }
}

/// Makes an empty file of mode 0600, which SQLite takes for a new database. Its `-wal` and `-shm` get the same mode.
#[cfg(target_os = "linux")]
fn create(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    // Not opened, hence not closed: see the top of this file.
    Ok(mknodat(CWD, path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0)?)
}

#[cfg(not(target_os = "linux"))]
fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(|_| ())
}

/// The name of the network file system that the directory is on, if it is on one.
#[cfg(target_os = "linux")]
fn network_filesystem(directory: &Path) -> Option<&'static str> {
    /// By `f_type` of statfs(2).
    const KNOWN: [(u64, &str); 8] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x0bd0_0bd0, "Lustre"),
    ];
    let stat = rustix::fs::statfs(directory).ok()?;
    // The field is signed on some machines and narrower on others; the numbers are of 32 bits.
    let kind = u64::try_from(stat.f_type).ok()? & 0xffff_ffff;
    KNOWN.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

#[cfg(not(target_os = "linux"))]
const fn network_filesystem(_: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_room_is_told_from_what_has_none() {
        let folder = tempfile::TempDir::new().expect("a folder");
        assert!(!is_full(&folder.path().join("store.db")));
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let error = try_to_fill(&full).expect_err("it has no room");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
