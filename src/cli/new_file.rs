//! Atomic creation of a file: it appears under its name only when it is complete.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use super::UsageError;
use super::output::PrintError;

/// A file that is being written, readable by its owner only. Where the file system supports it, the file has no name until
/// it is kept, so that nothing remains if the process is killed. Otherwise it is a temporary file, which is removed on drop.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    draft: Draft,
}

#[derive(Debug)]
enum Draft {
    Unnamed(File),
    Named(NamedTempFile),
}

impl NewFile {
    /// Creates a file that will be kept at `path`, where nothing may exist.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        if path.symlink_metadata().is_ok() {
            anyhow::bail!(UsageError(format!(
                "{} already exists and is not overwritten",
                path.display()
            )));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        if !folder.is_dir() {
            anyhow::bail!(UsageError(format!("there is no directory {}", folder.display())));
        }
        let draft = match unnamed(folder) {
            Some(file) => Draft::Unnamed(file),
            None => NamedTempFile::new_in(folder)
                .map(Draft::Named)
                .map_err(PrintError::File)
                .with_context(|| format!("{} cannot be written", path.display()))?,
        };
        Ok(Self { path: path.to_owned(), draft })
    }

    /// Returns the file to write to.
    pub(super) fn file(&self) -> &File {
        match &self.draft {
            Draft::Unnamed(file) => file,
            Draft::Named(file) => file.as_file(),
        }
    }

    /// Syncs the file to disk and gives it its name.
    pub(super) fn keep(self) -> anyhow::Result<()> {
        self.file().sync_all()?;
        let Self { path, draft } = self;
        let kept = match draft {
            Draft::Unnamed(file) => name(&file, &path),
            Draft::Named(file) => {
                file.persist_noclobber(&path).map(drop).map_err(|error| error.error)
            }
        };
        kept.with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Directory by which a file without a name can be linked.
#[cfg(target_os = "linux")]
const OPEN_FILES: &str = "/proc/self/fd";

#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    if !Path::new(OPEN_FILES).exists() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    open(folder, flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
}

#[cfg(target_os = "linux")]
fn name(file: &File, path: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd as _;
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
const fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn name(_: &File, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn names(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn a_file_appears_only_when_it_is_complete_and_overwrites_nothing() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("export.csv");
        let begin = || {
            let new = NewFile::create(&path).expect("the file is created");
            new.file().write_all(b"whole").expect("the write succeeds");
            new
        };
        drop(begin());
        assert_eq!(names(folder.path()), [] as [PathBuf; 0]);
        let (first, second) = (begin(), begin());
        if matches!(first.draft, Draft::Unnamed(_)) {
            assert_eq!(names(folder.path()), [] as [PathBuf; 0], "a kill would leave no file");
        }
        first.keep().expect("the name is free");
        second.keep().expect_err("the name is taken");
        assert_eq!(names(folder.path()), std::slice::from_ref(&path));
        assert_eq!(std::fs::read(&path).expect("the file"), b"whole");
        NewFile::create(&path).expect_err("the file exists");
    }
}
