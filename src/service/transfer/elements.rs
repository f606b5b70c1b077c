//! The elements of one JSON array, however it is laid out, a bounded number of bytes each: what stands in one is for the
//! JSON library to judge, and only where one ends is found here.

use std::io::{BufRead, Error, ErrorKind, Result};

use super::lines::Line;
use super::pieces::{End, Pieces};
use super::strict::NoCsv;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads them.
pub(super) struct Elements<R> {
    pieces: Pieces<R>,
    /// After the last bracket, nothing may come.
    closed: bool,
    /// After a comma, another element must come.
    expected: bool,
}

impl<R: BufRead> Elements<R> {
    /// The input begins with the bracket, on this line.
    pub(super) fn new(input: R, line: u64) -> Self {
        let pieces = Pieces::elements(input, IMPORT_LINE_BYTES_MAX + 1, line);
        Self { pieces, closed: false, expected: false }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.pieces.bytes_read()
    }

    /// The next one and the line on which it begins.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>> {
        while let Some((piece, too_long)) = self.pieces.next_whole()? {
            let is_empty = self.pieces.bytes().is_empty() && !too_long;
            match piece.end {
                End::Open | End::Line | End::Input
                    if is_empty && self.closed == (piece.end != End::Open) => {}
                End::Input if !self.closed => break,
                End::Comma | End::Close => {
                    let expected = std::mem::replace(&mut self.expected, piece.end == End::Comma);
                    self.closed = piece.end == End::Close;
                    if !is_empty {
                        return Ok(Some((piece.line, Line::of(&self.pieces, too_long))));
                    }
                    if expected || piece.end == End::Comma {
                        let reason = "a comma in the JSON array has nothing beside it";
                        return refuse(piece.line, reason);
                    }
                }
                _ => return refuse(piece.line, "there is more than one JSON array"),
            }
        }
        if self.closed {
            return Ok(None);
        }
        refuse(self.pieces.line(), "the file ends in the middle of its JSON array")
    }
}

fn refuse<T>(line: u64, reason: &'static str) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidData, NoCsv { line, reason }))
}
