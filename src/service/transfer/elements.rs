//! The elements of a JSON array in any layout, each of bounded length. This only finds where an element ends. The JSON
//! parser validates it.

use std::io::{BufRead, Error, ErrorKind, Result};

use super::chunks::{ChunkEnd, Chunks};
use super::lines::Line;
use super::strict_csv::MalformedInput;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads the elements of a JSON array.
pub(super) struct Elements<R> {
    chunks: Chunks<R>,
    /// Whether the closing bracket was read. Nothing may follow it.
    closed: bool,
    /// Whether a comma was read. An element must follow it.
    expected: bool,
}

impl<R: BufRead> Elements<R> {
    /// The input begins with the opening bracket, on this line.
    pub(super) fn new(input: R, line: u64) -> Self {
        let chunks = Chunks::elements(input, IMPORT_LINE_BYTES_MAX + 1, line);
        Self { chunks, closed: false, expected: false }
    }

    /// Returns the number of bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.chunks.bytes_read()
    }

    /// Returns the next element and the line on which it begins.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>> {
        while let Some((chunk, too_long)) = self.chunks.next_whole()? {
            let is_empty = self.chunks.bytes().is_empty() && !too_long;
            match chunk.end {
                ChunkEnd::Open | ChunkEnd::Line | ChunkEnd::Input
                    if is_empty && self.closed == (chunk.end != ChunkEnd::Open) => {}
                ChunkEnd::Input if !self.closed => break,
                ChunkEnd::Comma | ChunkEnd::Close => {
                    let expected =
                        std::mem::replace(&mut self.expected, chunk.end == ChunkEnd::Comma);
                    self.closed = chunk.end == ChunkEnd::Close;
                    if !is_empty {
                        return Ok(Some((chunk.line, Line::from_chunks(&self.chunks, too_long))));
                    }
                    if expected || chunk.end == ChunkEnd::Comma {
                        let reason = "an element is missing beside a comma of the JSON array";
                        return refuse(chunk.line, reason);
                    }
                }
                _ => return refuse(chunk.line, "there is more than one JSON array"),
            }
        }
        if self.closed {
            return Ok(None);
        }
        refuse(self.chunks.line(), "the file ends in the middle of its JSON array")
    }
}

fn refuse<T>(line: u64, reason: &'static str) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidData, MalformedInput { line, reason }))
}
