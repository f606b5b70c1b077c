//! The one reader of bounded lines: cuts a stream into its lines, or into the elements of a JSON array, and holds no more
//! of it than one buffer. The buffer is wiped, since tokens may have stood in it.

use std::io::{BufRead, ErrorKind, Result};

use zeroize::Zeroizing;

/// Reads pieces.
pub(crate) struct Pieces<R> {
    input: R,
    /// Of an array, where the next byte stands in it; nothing if the pieces are lines.
    nesting: Option<Nesting>,
    buffer: Zeroizing<Vec<u8>>,
    bytes_max: usize,
    line: u64,
    bytes: u64,
}

/// One that was read: [`Pieces::bytes`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The line on which it begins, from 1.
    pub(crate) line: u64,
    /// What ends it.
    pub(crate) end: End,
}

/// What ends a piece, and is no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A line break that stands in no array.
    Line,
    /// The opening bracket of the array.
    Open,
    /// A comma between two elements.
    Comma,
    /// The closing bracket of the array.
    Close,
    /// Nothing: the buffer is full, and the next piece goes on with it.
    Full,
    /// The end of the input.
    Input,
}

impl<R: BufRead> Pieces<R> {
    /// Lines of fewer bytes than these, or the parts of longer ones.
    pub(crate) fn lines(input: R, bytes_max: usize) -> Self {
        // As large at once as it will be: growing would leave unwiped copies behind.
        let buffer = Zeroizing::new(Vec::with_capacity(bytes_max));
        Self { input, nesting: None, buffer, bytes_max, line: 1, bytes: 0 }
    }

    /// The same of the elements of an array. `line` is the one on which the input begins.
    pub(crate) fn elements(input: R, bytes_max: usize, line: u64) -> Self {
        let nesting = Some(Nesting::default());
        Self { nesting, line, ..Self::lines(input, bytes_max) }
    }

    /// Bytes read so far.
    pub(crate) const fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// The line of the next byte.
    pub(crate) const fn line(&self) -> u64 {
        self.line
    }

    /// The piece that was read last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads the next piece, with the last `kept` bytes of the one before it in front; nothing at the end of the input. White
    /// space before an element is passed over.
    pub(crate) fn next(&mut self, kept: usize) -> Result<Option<Piece>> {
        let done = self.buffer.len().saturating_sub(kept);
        self.buffer.drain(..done);
        let (mut line, mut any) = (self.line, false);
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                return Ok(any.then_some(Piece { line, end: End::Input }));
            }
            any = true;
            let (mut taken, mut end) = (0, None);
            for byte in available {
                taken += 1;
                self.line += u64::from(*byte == b'\n');
                end = match self.nesting.as_mut().map(|nesting| nesting.step(*byte)) {
                    None | Some(Place::Outside) if *byte == b'\n' => Some(End::Line),
                    Some(Place::Open) => Some(End::Open),
                    Some(Place::Comma) => Some(End::Comma),
                    Some(Place::Close) => Some(End::Close),
                    Some(_) if self.buffer.is_empty() && byte.is_ascii_whitespace() => {
                        line = self.line;
                        None
                    }
                    None | Some(Place::Element | Place::Outside) => {
                        self.buffer.push(*byte);
                        (self.buffer.len() >= self.bytes_max).then_some(End::Full)
                    }
                };
                if end.is_some() {
                    break;
                }
            }
            self.input.consume(taken);
            self.bytes += taken as u64;
            if let Some(end) = end {
                return Ok(Some(Piece { line, end }));
            }
        }
    }

    /// The same to its end, and whether it was longer than the buffer: nothing is kept of it then.
    pub(super) fn next_whole(&mut self) -> Result<Option<(Piece, bool)>> {
        let Some(first) = self.next(0)? else { return Ok(None) };
        let mut end = first.end;
        while end == End::Full {
            end = self.next(0)?.map_or(End::Input, |rest| rest.end);
        }
        Ok(Some((Piece { end, ..first }, first.end == End::Full)))
    }
}

/// How deep in the text of an array a byte stands.
#[derive(Debug, Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

/// What a byte is to the array.
enum Place {
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
    const fn step(&mut self, byte: u8) -> Place {
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
