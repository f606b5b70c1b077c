//! The elements of one JSON array, however it is laid out, a bounded number of bytes each: what stands in one is for the
//! JSON library to judge, and only where one ends is found here.

use std::io::{BufRead, Error, ErrorKind, Result};

use super::chunks::{ChunkEnd, Chunks};
use super::lines::Line;
use super::strict_csv::MalformedInput;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads them.
pub(super) struct Elements<R> {
    chunks: Chunks<R>,
    /// After the last bracket, nothing may come.
    closed: bool,
    /// After a comma, another element must come.
    expected: bool,
}

impl<R: BufRead> Elements<R> {
    /// The input begins with the bracket, on this line.
    pub(super) fn new(input: R, line: u64) -> Self {
        let chunks = Chunks::elements(input, IMPORT_LINE_BYTES_MAX + 1, line);
        Self { chunks, closed: false, expected: false }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.chunks.bytes_read()
    }

    /// The next one and the line on which it begins.
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
                        let reason = "a comma in the JSON array has nothing beside it";
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
