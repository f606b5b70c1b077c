//! Detection of duplicate digests and ids in an import, with little memory. Each value is written to one of many
//! temporary files, chosen by its last byte. At the end the files are sorted one after the other.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Result, Seek as _, Write as _};

use crate::model::{CredentialId, Digest};

/// Number of files. With ten million lines, each has about 25 MB.
const PARTS: usize = 32;
/// Bytes of an entry: its column, its value and its line.
const ENTRY_BYTES: usize = 1 + 32 + 8;

/// The values so far.
pub(super) struct Duplicates {
    parts: Vec<BufWriter<File>>,
}

/// A line with the value of an earlier line.
pub(super) struct Duplicate {
    /// The later line.
    pub(super) line: u64,
    /// The first line with the value.
    pub(super) first: u64,
    /// `digest` or `id`.
    pub(super) column: &'static str,
}

impl Duplicates {
    /// Creates the files. They have no names, so the system deletes them when the process ends.
    pub(super) fn new() -> Result<Self> {
        let part = |_| Ok(BufWriter::new(tempfile::tempfile()?));
        Ok(Self { parts: (0..PARTS).map(part).collect::<Result<_>>()? })
    }

    /// Adds the digest and the id of a line.
    pub(super) fn note(&mut self, line: u64, digest: &Digest, id: CredentialId) -> Result<()> {
        self.write(0, digest.as_bytes(), line)?;
        let mut bytes = [0; 32];
        // The id goes to the end, because the last byte chooses the file and that of an id is random.
        bytes[16..].copy_from_slice(id.0.as_bytes());
        self.write(1, &bytes, line)
    }

    /// Calls `each` for every duplicate, in any order.
    pub(super) fn find(self, mut each: impl FnMut(Duplicate)) -> Result<()> {
        for part in self.parts {
            let mut file = part.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            file.rewind()?;
            let mut notes = Vec::new();
            BufReader::new(file).read_to_end(&mut notes)?;
            let mut notes: Vec<&[u8]> = notes.chunks_exact(ENTRY_BYTES).collect();
            // The line is last and big-endian, so the first line with a value sorts first.
            notes.sort_unstable();
            for same in notes.chunk_by(|a, b| a[..ENTRY_BYTES - 8] == b[..ENTRY_BYTES - 8]) {
                let [first, others @ ..] = same else { continue };
                let column = if first[0] == 0 { "digest" } else { "id" };
                let first = line_of(first);
                for note in others {
                    each(Duplicate { line: line_of(note), first, column });
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, what: u8, bytes: &[u8; 32], line: u64) -> Result<()> {
        let part = &mut self.parts[usize::from(bytes[31]) % PARTS];
        part.write_all(&[what])?;
        part.write_all(bytes)?;
        part.write_all(&line.to_be_bytes())
    }
}

fn line_of(note: &[u8]) -> u64 {
    note[ENTRY_BYTES - 8..].iter().fold(0, |line, byte| line << 8 | u64::from(*byte))
}
