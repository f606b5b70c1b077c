//! Input files, and detection of common binary formats.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;

use super::UsageError;

/// Opens a file for reading.
///
/// # Errors
/// The file does not exist, cannot be read, or is a directory.
pub(super) fn open(path: &Path) -> Result<File, UsageError> {
    let shown = path.display();
    let file = File::open(path)
        .map_err(|error| UsageError(format!("{shown} cannot be opened: {error}")))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(UsageError(format!("{shown} is a directory, not a file")));
    }
    Ok(file)
}

/// Recognizes binary formats by the first bytes, and returns a description. Without this check, a search of such a file
/// would silently find nothing.
pub(super) fn binary_format(first: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "gzip: unpack it, for example with zcat"),
        (b"\x28\xb5\x2f\xfd", "zstd: unpack it, for example with zstdcat"),
        (b"\xfd7zXZ", "xz: unpack it, for example with xzcat"),
        (b"BZh", "bzip2: unpack it, for example with bzcat"),
        (b"PK\x03\x04", "a ZIP archive: unpack it"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xff\xfe", "UTF-16: convert it, for example with iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff", "UTF-16: convert it, for example with iconv -f UTF-16 -t UTF-8"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, what)| *what);
    // UTF-16 without a byte order mark: every other byte of ASCII text is zero.
    let wide = || match first {
        [0, 1..=127, 0, 1..=127, ..] | [1..=127, 0, 1..=127, 0, ..] => Some(KNOWN[6].1),
        _ => None,
    };
    known.or_else(wide)
}

/// Refuses binary input. Consumes nothing.
pub(super) fn refuse_binary(input: &mut impl BufRead) -> Result<(), UsageError> {
    let first = input
        .fill_buf()
        .map_err(|error| UsageError(format!("the input cannot be read: {error}")))?;
    match binary_format(first) {
        Some(what) => Err(UsageError(format!("the input must be text in UTF-8, but it is {what}"))),
        None => Ok(()),
    }
}
