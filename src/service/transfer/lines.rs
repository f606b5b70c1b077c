//! Lines of bounded length, numbered, from a stream. The buffer is wiped, since tokens may have stood in it.

use std::io::{BufRead, Result};

use zeroize::Zeroizing;

use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// Reads lines.
pub(super) struct Lines<R> {
    input: R,
    buffer: Zeroizing<Vec<u8>>,
    number: u64,
    bytes: u64,
}

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

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        // Grown at once to the most that it will hold: growing would leave unwiped copies behind.
        let buffer = Zeroizing::new(Vec::with_capacity(IMPORT_LINE_BYTES_MAX + 1));
        Self { input, buffer, number: 0, bytes: 0 }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line and its number, from 1.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        let mut too_long = false;
        let mut any = false;
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.buffer.len() + part.len() > IMPORT_LINE_BYTES_MAX {
                too_long = true;
            } else {
                self.buffer.extend_from_slice(part);
            }
            let taken = end.map_or(part.len(), |end| end + 1);
            self.input.consume(taken);
            self.bytes += taken as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if too_long {
            return Ok(Some((self.number, Line::TooLong)));
        }
        let Ok(text) = std::str::from_utf8(&self.buffer) else {
            return Ok(Some((self.number, Line::NotUtf8)));
        };
        let text = text.strip_suffix('\r').unwrap_or(text);
        // What some programs put at the beginning of a file to say that it is UTF-8.
        let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        Ok(Some((self.number, Line::Text(text))))
    }
}
