//! What passed the check, waiting to be written: numbered lines in a temporary file, without tokens. So the input is read
//! once, be it a pipe, and what is written is what was checked, whatever happens to the file meanwhile.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, Write as _};

use super::TransferError;
use super::lines::{Line, Lines};

/// Being filled. The file has no name, and is gone with this process, however it ends.
pub(super) struct Spool(BufWriter<File>);

/// Being emptied.
pub(super) struct Spooled(Lines<BufReader<File>>);

impl Spool {
    pub(super) fn new() -> Result<Self, TransferError> {
        let file = tempfile::tempfile().map_err(TransferError::temporary)?;
        Ok(Self(BufWriter::new(file)))
    }

    /// Puts in what the line of this number is.
    pub(super) fn push(&mut self, number: u64, line: &str) -> Result<(), TransferError> {
        writeln!(self.0, "{number}\t{line}").map_err(TransferError::temporary)
    }

    pub(super) fn read(self) -> Result<Spooled, TransferError> {
        let file = self.0.into_inner().map_err(std::io::IntoInnerError::into_error);
        let mut file = file.map_err(TransferError::temporary)?;
        file.rewind().map_err(TransferError::temporary)?;
        Ok(Spooled(Lines::new(BufReader::new(file))))
    }
}

impl Spooled {
    /// The next line's number, and what is read of it.
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
        // Nobody else can have written there.
        let damaged = || TransferError::temporary(std::io::ErrorKind::InvalidData.into());
        read.map(Some).ok_or_else(damaged)
    }
}
