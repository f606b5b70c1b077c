//! RFC 4180 to the letter, before the `csv` crate reads it: that one is lenient, and takes a quote that is never closed
//! for the rest of the file. Whoever disagrees with it on where a record ends would read other credentials than it does.
//! Nothing is taken apart here: bytes pass through, and with the first that does not belong the whole input is refused.

use std::collections::VecDeque;
use std::io::{BufRead, Error, ErrorKind, Read, Result};

use crate::model::limits::IMPORT_RECORD_BYTES_MAX;

/// What some programs put at the beginning of a file to say that it is UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Where it is no CSV, and why.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct MalformedInput {
    /// Where the record begins.
    pub(super) line: u64,
    /// Never what stands there.
    pub(super) reason: &'static str,
}

/// What came last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The end of a record, or of nothing: a line break here is an empty line.
    Between,
    /// A comma.
    Field,
    /// Something in a field without quotes.
    Plain,
    /// Something in a field with quotes.
    Quoted,
    /// A quote in such a field: its end, or the first of two.
    Quote,
    /// A carriage return outside of quotes; whether it ends a record.
    Return { record: bool },
}

/// Bytes on their way to the `csv` crate.
pub(super) struct StrictCsv<R> {
    input: R,
    state: State,
    line: u64,
    /// Of the record that is being read.
    begun: u64,
    length: usize,
    bytes: u64,
    /// Where the records begin that were passed on and not yet asked for.
    starts: VecDeque<u64>,
}

impl<R: BufRead> StrictCsv<R> {
    pub(super) fn new(input: R) -> Self {
        let (state, starts) = (State::Between, VecDeque::new());
        Self { input, state, line: 1, begun: 1, length: 0, bytes: 0, starts }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The line on which the next record begins that was not asked for.
    pub(super) fn next_start(&mut self) -> u64 {
        self.starts.pop_front().unwrap_or(self.line)
    }

    fn step(&mut self, byte: u8) -> Result<()> {
        if self.state == State::Between && !matches!(byte, b'\n' | b'\r') {
            self.begun = self.line;
            self.starts.push_back(self.line);
            self.state = State::Field;
            self.length = 0;
        }
        self.length += 1;
        if self.length > IMPORT_RECORD_BYTES_MAX {
            return self.refuse("this record is too long: is a quote not closed?");
        }
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, b'\n') => {
                self.line += 1;
                State::Quoted
            }
            (State::Quoted, _) | (State::Field | State::Quote, b'"') => State::Quoted,
            (State::Return { .. }, byte) if byte != b'\n' => {
                return self
                    .refuse("a carriage return that no line feed follows must be in quotes");
            }
            (_, b'\n') => {
                self.line += 1;
                State::Between
            }
            (state, b'\r') => State::Return { record: state != State::Between },
            (_, b',') => State::Field,
            (State::Quote, _) => {
                return self.refuse("there is text between a closing quote and the comma after it");
            }
            (_, b'"') => return self.refuse("a field that has quotes must stand in quotes"),
            (_, _) => State::Plain,
        };
        Ok(())
    }

    fn end(&self) -> Result<()> {
        match self.state {
            State::Quoted => self.refuse("a quote that opens in this record is never closed"),
            State::Return { record: true } => {
                self.refuse("a carriage return that no line feed follows must be in quotes")
            }
            _ => Ok(()),
        }
    }

    fn refuse<T>(&self, reason: &'static str) -> Result<T> {
        Err(Error::new(ErrorKind::InvalidData, MalformedInput { line: self.begun, reason }))
    }
}

impl<R: BufRead> Read for StrictCsv<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut read = self.input.read(buffer)?;
        if self.bytes == 0 && buffer[..read].starts_with(BOM) {
            // The crate would take it off too, where its own first read has all of it.
            buffer.copy_within(BOM.len()..read, 0);
            self.bytes = BOM.len() as u64;
            read -= BOM.len();
            if read == 0 {
                read = self.input.read(buffer)?;
            }
        }
        self.bytes += read as u64;
        if read == 0 && !buffer.is_empty() {
            self.end()?;
        }
        for byte in &buffer[..read] {
            self.step(*byte)?;
        }
        Ok(read)
    }
}
