//! Files that commands are given to read, and what may be in them instead of text.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;

use super::Usage;

/// Opens a file to be read.
///
/// # Errors
/// It is not there, may not be read, or is a folder, which is the fault of whoever named it.
pub(super) fn open(path: &Path) -> Result<File, Usage> {
    let shown = path.display();
    let file =
        File::open(path).map_err(|error| Usage(format!("{shown} cannot be opened: {error}")))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Usage(format!("{shown} is a folder, and no file to read")));
    }
    Ok(file)
}

/// What these first bytes show the rest to be, where that is no text: nothing would be found in it, and that would look as if
/// there were nothing.
pub(super) fn no_text(first: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"\x1f\x8b", "gzip: unpack it, as by zcat"),
        (b"\x28\xb5\x2f\xfd", "zstd: unpack it, as by zstdcat"),
        (b"\xfd7zXZ", "xz: unpack it, as by xzcat"),
        (b"BZh", "bzip2: unpack it, as by bzcat"),
        (b"PK\x03\x04", "a ZIP archive: unpack it"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\xff\xfe", "UTF-16: turn it into UTF-8, as by iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff", "UTF-16: turn it into UTF-8, as by iconv -f UTF-16 -t UTF-8"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, what)| *what);
    // Without a mark UTF-16 shows by the zeros of its ASCII.
    let wide = || match first {
        [0, 1..=127, 0, 1..=127, ..] | [1..=127, 0, 1..=127, 0, ..] => Some(KNOWN[6].1),
        _ => None,
    };
    known.or_else(wide)
}

/// Refuses input that is no text. What was looked at is left in it.
pub(super) fn refuse_no_text(input: &mut impl BufRead) -> Result<(), Usage> {
    let first =
        input.fill_buf().map_err(|error| Usage(format!("the input cannot be read: {error}")))?;
    match no_text(first) {
        Some(what) => Err(Usage(format!("the input must be text, in UTF-8, and it is {what}"))),
        None => Ok(()),
    }
}
