//! The elements of one JSON array, however it is laid out, a bounded number of bytes each: what stands in one is for the
//! JSON library to judge, and only where one ends is found here.

use std::io::{BufRead, Error, ErrorKind, Result};

use zeroize::Zeroizing;

use super::lines::Line;
use super::strict::NoCsv;
use crate::model::limits::IMPORT_LINE_BYTES_MAX;

/// How deep in the text of an array a byte stands.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

/// What a byte is to the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its opening bracket.
    Open,
    /// Part of an element, or white space about it.
    Element,
    /// A comma between two.
    Comma,
    /// Its closing bracket.
    Close,
    /// Before the array, or after it.
    Outside,
}

impl Nesting {
    /// Goes on by a byte.
    pub(crate) const fn step(&mut self, byte: u8) -> Place {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return Place::Element;
        }
        match byte {
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth == 1 { Place::Open } else { Place::Element }
            }
            b']' | b'}' if self.depth > 0 => {
                self.depth -= 1;
                if self.depth == 0 { Place::Close } else { Place::Element }
            }
            _ if self.depth == 0 => Place::Outside,
            b',' if self.depth == 1 => Place::Comma,
            _ => {
                self.in_string = byte == b'"';
                Place::Element
            }
        }
    }
}

/// Reads them. The buffer is wiped, since tokens may have stood in it.
pub(super) struct Elements<R> {
    input: R,
    nesting: Nesting,
    buffer: Zeroizing<Vec<u8>>,
    line: u64,
    bytes: u64,
    /// After the last bracket, nothing may come.
    closed: bool,
    /// After a comma, another element must come.
    expected: bool,
}

impl<R: BufRead> Elements<R> {
    /// `line` is the one on which the input begins.
    pub(super) fn new(input: R, line: u64) -> Self {
        let buffer = Zeroizing::new(Vec::with_capacity(IMPORT_LINE_BYTES_MAX + 1));
        let (nesting, bytes) = (Nesting::default(), 0);
        Self { input, nesting, buffer, line, bytes, closed: false, expected: false }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next one and the line on which it begins.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        let (mut begun, mut too_long) = (None, false);
        loop {
            let Some(byte) = self.byte()? else {
                let reason = "the file ends in the middle of its JSON array";
                return if self.closed { Ok(None) } else { self.refuse(reason) };
            };
            let white = byte.is_ascii_whitespace();
            match self.nesting.step(byte) {
                Place::Outside if white => {}
                Place::Open if !self.closed && byte == b'[' => {}
                Place::Open | Place::Outside => {
                    return self.refuse("there is more than one JSON array");
                }
                Place::Element if white && begun.is_none() => {}
                Place::Element => {
                    begun = begun.or(Some(self.line));
                    too_long |= self.buffer.len() >= IMPORT_LINE_BYTES_MAX;
                    if !too_long {
                        self.buffer.push(byte);
                    }
                }
                place @ (Place::Comma | Place::Close) => {
                    self.closed = place == Place::Close;
                    let Some(line) = begun else {
                        if self.expected || place == Place::Comma {
                            return self.refuse("a comma in the JSON array has nothing beside it");
                        }
                        continue;
                    };
                    self.expected = place == Place::Comma;
                    let text = std::str::from_utf8(&self.buffer);
                    let element = match text {
                        _ if too_long => Line::TooLong,
                        Ok(text) => Line::Text(text),
                        Err(_) => Line::NotUtf8,
                    };
                    return Ok(Some((line, element)));
                }
            }
            self.line += u64::from(byte == b'\n');
        }
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(available) => {
                    let byte = available.first().copied();
                    if byte.is_some() {
                        self.input.consume(1);
                        self.bytes += 1;
                    }
                    return Ok(byte);
                }
            }
        }
    }

    fn refuse<T>(&self, reason: &'static str) -> Result<T> {
        Err(Error::new(ErrorKind::InvalidData, NoCsv { line: self.line, reason }))
    }
}
