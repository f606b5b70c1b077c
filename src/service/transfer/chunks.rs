//! Bounded reading: splits a stream into lines, or into the elements of a JSON array, with one buffer of fixed size.
//! The buffer is wiped on drop, because it may have held tokens.

use std::io::{BufRead, ErrorKind, Result};

use zeroize::Zeroizing;

/// Reads a stream in chunks.
pub(crate) struct Chunks<R> {
    input: R,
    /// Position within a JSON array. `None` if the chunks are lines.
    nesting: Option<Nesting>,
    buffer: Zeroizing<Vec<u8>>,
    bytes_max: usize,
    line: u64,
    bytes: u64,
}

/// A chunk that was read. [`Chunks::bytes`] returns its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Line on which the chunk begins, counted from 1.
    pub(crate) line: u64,
    /// Delimiter that ends the chunk.
    pub(crate) end: ChunkEnd,
}

/// Delimiter that ends a chunk. It is not part of the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkEnd {
    /// A line break outside an array.
    Line,
    /// The opening bracket of the array.
    Open,
    /// A comma between two elements.
    Comma,
    /// The closing bracket of the array.
    Close,
    /// None: the buffer is full, and the next chunk continues this one.
    Full,
    /// The end of the input.
    Input,
}

impl<R: BufRead> Chunks<R> {
    /// Splits the input into lines. A line of `bytes_max` bytes or more comes in several chunks.
    pub(crate) fn lines(input: R, bytes_max: usize) -> Self {
        // Allocated in full at once, because growing would leave copies in memory that are not wiped.
        let buffer = Zeroizing::new(Vec::with_capacity(bytes_max));
        Self { input, nesting: None, buffer, bytes_max, line: 1, bytes: 0 }
    }

    /// Splits a JSON array into its elements. `line` is the line on which the input begins.
    pub(crate) fn elements(input: R, bytes_max: usize, line: u64) -> Self {
        let nesting = Some(Nesting::default());
        Self { nesting, line, ..Self::lines(input, bytes_max) }
    }

    /// Returns the number of bytes read so far.
    pub(crate) const fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// Returns the line of the next byte.
    pub(crate) const fn line(&self) -> u64 {
        self.line
    }

    /// Returns the bytes of the last chunk.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads the next chunk and keeps the last `kept` bytes of the previous one in front of it. Skips white space
    /// before an element. Returns `None` at the end of the input.
    pub(crate) fn next(&mut self, kept: usize) -> Result<Option<Chunk>> {
        let done = self.buffer.len().saturating_sub(kept);
        self.buffer.drain(..done);
        let (mut line, mut any) = (self.line, false);
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                available => available?,
            };
            if available.is_empty() {
                return Ok(any.then_some(Chunk { line, end: ChunkEnd::Input }));
            }
            any = true;
            let (mut taken, mut end) = (0, None);
            for byte in available {
                taken += 1;
                self.line += u64::from(*byte == b'\n');
                end = match self.nesting.as_mut().map(|nesting| nesting.step(*byte)) {
                    None | Some(ByteRole::Outside) if *byte == b'\n' => Some(ChunkEnd::Line),
                    Some(ByteRole::Open) => Some(ChunkEnd::Open),
                    Some(ByteRole::Comma) => Some(ChunkEnd::Comma),
                    Some(ByteRole::Close) => Some(ChunkEnd::Close),
                    Some(_) if self.buffer.is_empty() && byte.is_ascii_whitespace() => {
                        line = self.line;
                        None
                    }
                    None | Some(ByteRole::Element | ByteRole::Outside) => {
                        self.buffer.push(*byte);
                        (self.buffer.len() >= self.bytes_max).then_some(ChunkEnd::Full)
                    }
                };
                if end.is_some() {
                    break;
                }
            }
            self.input.consume(taken);
            self.bytes += taken as u64;
            if let Some(end) = end {
                return Ok(Some(Chunk { line, end }));
            }
        }
    }

    /// Reads to the end of a line or element. The flag says that it was longer than the buffer. Its content is then
    /// incomplete.
    pub(super) fn next_whole(&mut self) -> Result<Option<(Chunk, bool)>> {
        let Some(first) = self.next(0)? else { return Ok(None) };
        let mut end = first.end;
        while end == ChunkEnd::Full {
            end = self.next(0)?.map_or(ChunkEnd::Input, |rest| rest.end);
        }
        Ok(Some((Chunk { end, ..first }, first.end == ChunkEnd::Full)))
    }
}

/// State of the scan through a JSON array.
#[derive(Debug, Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

/// Role of a byte in the array.
enum ByteRole {
    /// The opening bracket of the array.
    Open,
    /// Part of an element, or white space around it.
    Element,
    /// A comma between two elements.
    Comma,
    /// The closing bracket of the array.
    Close,
    /// Before or after the array.
    Outside,
}

impl Nesting {
    /// Advances by one byte.
    const fn step(&mut self, byte: u8) -> ByteRole {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return ByteRole::Element;
        }
        match byte {
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth == 1 { ByteRole::Open } else { ByteRole::Element }
            }
            b']' | b'}' if self.depth > 0 => {
                self.depth -= 1;
                if self.depth == 0 { ByteRole::Close } else { ByteRole::Element }
            }
            _ if self.depth == 0 => ByteRole::Outside,
            b',' if self.depth == 1 => ByteRole::Comma,
            _ => {
                self.in_string = byte == b'"';
                ByteRole::Element
            }
        }
    }
}
