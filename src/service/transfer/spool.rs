//! Spool of validated records that wait to be written: numbered lines in a temporary file, without tokens. The input is
//! therefore read only once and may be a pipe. The records that are written are those that were checked, even if the
//! input file changes meanwhile.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write as _};

use super::TransferError;
use super::lines::{Line, Lines};

/// Writes the spool. The file has no name, so the system deletes it when the process ends.
pub(super) struct SpoolWriter(BufWriter<File>);

/// Reads the spool.
pub(super) struct SpoolReader(Lines<BufReader<File>>);

impl SpoolWriter {
    pub(super) fn new() -> Result<Self, TransferError> {
        let file = tempfile::tempfile().map_err(TransferError::temporary)?;
        Ok(Self(BufWriter::new(file)))
    }

    /// Appends a line with its number.
    pub(super) fn push(&mut self, number: u64, line: &str) -> Result<(), TransferError> {
        writeln!(self.0, "{number}\t{line}").map_err(TransferError::temporary)
    }

    pub(super) fn read(self) -> Result<SpoolReader, TransferError> {
        let file = self.0.into_inner().map_err(std::io::IntoInnerError::into_error);
        let mut file = file.map_err(TransferError::temporary)?;
        file.rewind().map_err(TransferError::temporary)?;
        Ok(SpoolReader(Lines::new(BufReader::new(file))))
    }
}

impl SpoolReader {
    /// Returns the number of the next line, and the line as `read` parses it.
    pub(super) fn next<T>(
        &mut self,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<(u64, T)>, TransferError> {
        let Some((_, line)) = self.0.next().map_err(TransferError::temporary)? else {
            return Ok(None);
        };
        let read = match line {
            Line::Text(text) => text
                .split_once('\t')
                .and_then(|(number, text)| Some((number.parse().ok()?, read(text)?))),
            Line::TooLong | Line::NotUtf8 => None,
        };
        // No other process can write to the file.
        let damaged = || TransferError::temporary(std::io::ErrorKind::InvalidData.into());
        read.map(Some).ok_or_else(damaged)
    }
}
