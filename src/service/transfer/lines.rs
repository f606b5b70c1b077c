//! Lines of bounded length, numbered, from a stream.

use std::io::{BufRead, Result};

use super::pieces::Pieces;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads lines.
pub(super) struct Lines<R>(Pieces<R>);

/// A line as it was found.
#[derive(Clone, Copy)]
pub(super) enum Line<'l> {
    /// Without what ends it.
    Text(&'l str),
    /// Longer than any may be.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
}

impl<'l> Line<'l> {
    /// What was read last.
    pub(super) fn of<R: BufRead>(pieces: &'l Pieces<R>, too_long: bool) -> Self {
        match std::str::from_utf8(pieces.bytes()) {
            _ if too_long => Self::TooLong,
            Ok(text) => Self::Text(text),
            Err(_) => Self::NotUtf8,
        }
    }
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self(Pieces::lines(input, IMPORT_LINE_BYTES_MAX + 1))
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.0.bytes_read()
    }

    /// The next line and its number, from 1.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>> {
        let Some((piece, too_long)) = self.0.next_whole()? else { return Ok(None) };
        let line = match Line::of(&self.0, too_long) {
            Line::Text(text) => {
                let text = text.strip_suffix('\r').unwrap_or(text);
                // What some programs put at the beginning of a file to say that it is UTF-8.
                let is_first = piece.line == 1;
                Line::Text(if is_first { text.trim_start_matches('\u{feff}') } else { text })
            }
            other => other,
        };
        Ok(Some((piece.line, line)))
    }
}
