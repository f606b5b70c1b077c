//! Strict check of RFC 4180 in front of the `csv` crate. The crate is lenient: for example, a quote that is never
//! closed swallows the rest of the file. A program that splits records differently would then see other credentials.
//! This check does not parse. It passes the bytes on, and refuses the whole input at the first byte that breaks the
//! rules.

use std::collections::VecDeque;
use std::io::{BufRead, Error, ErrorKind, Read, Result};

use crate::model::limits::IMPORT_RECORD_BYTES_MAX;

/// Byte order mark that some programs write at the start of a UTF-8 file.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Where and why the input is malformed.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct MalformedInput {
    /// Line on which the record begins.
    pub(super) line: u64,
    /// Description of the error. It never repeats the input.
    pub(super) reason: &'static str,
}

/// What the last byte was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The start of a record. A line break here makes an empty line.
    Between,
    /// A comma.
    Field,
    /// A byte of a field without quotes.
    Plain,
    /// A byte of a field with quotes.
    Quoted,
    /// A quote in a field with quotes: the closing one, or the first of two.
    Quote,
    /// A carriage return outside quotes. `record` says whether it ends a record.
    Return { record: bool },
}

/// Checks bytes on their way to the `csv` crate.
pub(super) struct StrictCsv<R> {
    input: R,
    state: State,
    line: u64,
    /// Line on which the present record begins.
    record_line: u64,
    length: usize,
    bytes: u64,
    /// First lines of the records that were passed on but not yet claimed by `next_start`.
    starts: VecDeque<u64>,
}

impl<R: BufRead> StrictCsv<R> {
    pub(super) fn new(input: R) -> Self {
        let (state, starts) = (State::Between, VecDeque::new());
        Self { input, state, line: 1, record_line: 1, length: 0, bytes: 0, starts }
    }

    /// Returns the number of bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the line on which the next record begins.
    pub(super) fn next_start(&mut self) -> u64 {
        self.starts.pop_front().unwrap_or(self.line)
    }

    fn step(&mut self, byte: u8) -> Result<()> {
        if self.state == State::Between && !matches!(byte, b'\n' | b'\r') {
            self.record_line = self.line;
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
                return self.refuse("a carriage return without a line feed must be in quotes");
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
            (_, b'"') => return self.refuse("a field that contains quotes must be in quotes"),
            (_, _) => State::Plain,
        };
        Ok(())
    }

    fn end(&self) -> Result<()> {
        match self.state {
            State::Quoted => self.refuse("a quote that opens in this record is never closed"),
            State::Return { record: true } => {
                self.refuse("a carriage return without a line feed must be in quotes")
            }
            _ => Ok(()),
        }
    }

    fn refuse<T>(&self, reason: &'static str) -> Result<T> {
        Err(Error::new(ErrorKind::InvalidData, MalformedInput { line: self.record_line, reason }))
    }
}

impl<R: BufRead> Read for StrictCsv<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut read = self.input.read(buffer)?;
        if self.bytes == 0 && buffer[..read].starts_with(BOM) {
            // The crate removes the mark only if its first read returns all of it.
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
