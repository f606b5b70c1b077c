//! Numbered lines of bounded length.

use std::io::{BufRead, Result};

use super::chunks::Chunks;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads lines.
pub(super) struct Lines<R>(Chunks<R>);

/// A line that was read.
#[derive(Clone, Copy)]
pub(super) enum Line<'l> {
    /// The text without its line ending.
    Text(&'l str),
    /// Longer than the limit.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
}

impl<'l> Line<'l> {
    /// Returns the last chunk as a line.
    pub(super) fn from_chunks<R: BufRead>(chunks: &'l Chunks<R>, too_long: bool) -> Self {
        match std::str::from_utf8(chunks.bytes()) {
            _ if too_long => Self::TooLong,
            Ok(text) => Self::Text(text),
            Err(_) => Self::NotUtf8,
        }
    }
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self(Chunks::lines(input, IMPORT_LINE_BYTES_MAX + 1))
    }

    /// Returns the number of bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.0.bytes_read()
    }

    /// Returns the next line and its number, counted from 1.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>> {
        let Some((chunk, too_long)) = self.0.next_whole()? else { return Ok(None) };
        let line = match Line::from_chunks(&self.0, too_long) {
            Line::Text(text) => {
                let text = text.strip_suffix('\r').unwrap_or(text);
                // Some programs start a file with a byte order mark.
                let is_first = chunk.line == 1;
                Line::Text(if is_first { text.trim_start_matches('\u{feff}') } else { text })
            }
            other => other,
        };
        Ok(Some((chunk.line, line)))
    }
}
