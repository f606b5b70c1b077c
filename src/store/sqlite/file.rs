//! The database file: creating it with mode 0600, and refusing paths on which SQLite is not safe.
//!
//! An existing file is never opened here. When any descriptor of a file is closed, POSIX drops all locks that the
//! process has on it, including those of SQLite's connections.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::store::{Result, StoreError};

/// How an existing file can be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Readable and writable.
    Write,
    /// Read-only. `immutable` is true if no process has the file open.
    Read { immutable: bool },
}

/// Creates the file if it does not exist, and returns its absolute path.
pub(super) fn create_if_missing(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    let shown = path.display();
    if is_file(&path)? {
        return Ok(path);
    }
    match create(&path) {
        Ok(()) => Ok(path),
        // Another process created it first, which is just as good.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(path),
        Err(error) => refuse(format!("{shown} cannot be created: {error}")),
    }
}

/// Returns the absolute path of an existing file and how it can be accessed. Creates nothing.
pub(super) fn require(path: &Path) -> Result<(PathBuf, Access)> {
    let path = absolute(path)?;
    if !is_file(&path)? {
        return Err(StoreError::Missing(format!(
            "there is no store {}: `sophic-auth migrate` and `sophic-auth serve` create one",
            path.display()
        )));
    }
    let access = access(&path);
    Ok((path, access))
}

/// Returns whether this user can no longer write beside the file, because the disk is full or a quota is exhausted.
pub(super) fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    tempfile::tempfile_in(folder).and_then(|file| try_to_fill(&file)).is_err_and(|error| {
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    })
}

/// Returns whether the file system of the file is read-only.
pub(super) fn is_mounted_read_only(path: &Path) -> bool {
    let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK);
    writable.is_err_and(|error| error == rustix::io::Errno::ROFS)
}

fn try_to_fill(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(&[0x5a; 16_384], 0)?;
    // Some file systems allocate space only when the data is written out.
    file.sync_data()
}

fn refuse<T>(text: String) -> Result<T> {
    Err(StoreError::InvalidLocation(text))
}

/// Returns the absolute path. SQLite cannot mistake it for a URI, and a change of the working directory does not affect
/// it.
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

/// Returns whether the path exists and is a regular file.
fn is_file(path: &Path) -> Result<bool> {
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
    // A process that has the file open for writing keeps a log beside it.
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let immutable = !Path::new(&log).exists();
    // The first connection that writes creates the log in the directory.
    let has_log = !immutable || path.parent().is_some_and(writable);
    if writable(path) && has_log { Access::Write } else { Access::Read { immutable } }
}

/// Creates an empty file of mode 0600, which SQLite treats as a new database. SQLite gives its `-wal` and `-shm` files
/// the same mode.
#[cfg(target_os = "linux")]
fn create(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    // `mknod` does not open the file, so no descriptor is closed: see the module documentation.
    Ok(mknodat(CWD, path, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0)?)
}

#[cfg(not(target_os = "linux"))]
fn create(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(|_| ())
}

/// Returns the name of the network file system that the directory is on, or `None` for a local one.
#[cfg(target_os = "linux")]
fn network_filesystem(directory: &Path) -> Option<&'static str> {
    /// Values of `f_type` in `statfs(2)`.
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
    // `f_type` is signed on some platforms and narrower on others. The values have 32 bits.
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
    fn a_full_disk_is_recognized() {
        let folder = tempfile::TempDir::new().expect("a folder");
        assert!(!is_full(&folder.path().join("store.db")));
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let error = try_to_fill(&full).expect_err("it has no room");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
