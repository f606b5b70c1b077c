//! Finds tokens in the output of any scanner. JSON is parsed, so that escaped tokens and the places where they were found
//! are recognized. Anything else is searched as text. Long lines are read in pieces of bounded size.

use std::io::{BufRead, Result};

use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::model::ReasonText;
use crate::model::limits::{TOKEN_BYTES_MAX, URL_BYTES_MAX};
use crate::service::{ChunkEnd, Chunks, LeakedToken};
use crate::token::{scan, scan_across};

/// Maximum size of a piece, in bytes. A longer line is searched as text, in overlapping pieces.
const PIECE_BYTES_MAX: usize = 1024 * 1024;
/// Overlap of pieces, in bytes. Longer than any token, even if each of its characters is escaped several times.
const OVERLAP_BYTES: usize = 4 * 1024;
/// Number of bytes of the previous piece that are searched for the beginning of a token that continues in this one.
const LOOKBACK_BYTES: usize = 256;
/// Minimum length of an imported token without a field name, in bytes. Nothing else may be on its line.
const WORD_BYTES_MIN: usize = 8;
/// Names of fields with the place where a token was found.
const URL_FIELDS: [&str; 5] = ["url", "link", "html_url", "web_url", "weburl"];

/// The input, in pieces: the lines of a text, or the elements of a JSON array.
pub(in crate::cli) struct Input<R> {
    chunks: Chunks<R>,
    /// Whether the last piece was cut, so that the next one overlaps it.
    cut: bool,
    /// The end of the last piece.
    before: Zeroizing<Vec<u8>>,
}

/// A piece of the input.
pub(in crate::cli) struct Piece<'p> {
    /// Number of the line on which the piece begins.
    pub(in crate::cli) line: u64,
    bytes: &'p [u8],
    /// The end of the previous piece.
    before: &'p [u8],
    /// Whether this is a complete line or element.
    whole: bool,
}

impl<R: BufRead> Input<R> {
    /// Detects by the first bytes whether the input is a JSON array.
    pub(in crate::cli) fn new(mut input: R) -> Result<Self> {
        let first = input.fill_buf()?.iter().find(|byte| !byte.is_ascii_whitespace());
        let is_array = first == Some(&b'[');
        let chunks = if is_array {
            Chunks::elements(input, PIECE_BYTES_MAX, 1)
        } else {
            Chunks::lines(input, PIECE_BYTES_MAX)
        };
        Ok(Self { chunks, cut: false, before: Zeroizing::default() })
    }

    /// Returns the next piece that is not blank.
    pub(in crate::cli) fn next(&mut self) -> Result<Option<Piece<'_>>> {
        let last = self.chunks.bytes();
        self.before.clear();
        self.before.extend_from_slice(&last[last.len().saturating_sub(LOOKBACK_BYTES)..]);
        while let Some(piece) = self.chunks.next(if self.cut { OVERLAP_BYTES } else { 0 })? {
            let was_cut = std::mem::replace(&mut self.cut, piece.end == ChunkEnd::Full);
            if !self.chunks.bytes().trim_ascii().is_empty() {
                let (bytes, before) = (self.chunks.bytes(), &self.before);
                let whole = !was_cut && !self.cut;
                return Ok(Some(Piece { line: piece.line, bytes, before, whole }));
            }
        }
        Ok(None)
    }
}

/// Calls `each` with every possible token in a piece, and its place and reason. `reason` is the default.
pub(in crate::cli) fn for_each_candidate(
    piece: &Piece<'_>,
    reason: &str,
    mut each: impl FnMut(LeakedToken),
) {
    let text = piece.bytes.trim_ascii();
    let is_json = piece.whole && matches!(text.first(), Some(b'{' | b'[' | b'"'));
    let mut found: Vec<Zeroizing<String>> = Vec::new();
    let mut note = |token: &str| {
        if !found.iter().any(|known| known.as_str() == token) {
            found.push(Zeroizing::new(token.to_owned()));
        }
    };
    let mut fields_found = ScannerFields::default();
    if let Some(Ok(mut value)) = is_json.then(|| serde_json::from_slice::<Value>(text)) {
        scan_json(&value, "", &mut fields_found, &mut note);
        let token = value.get("token").and_then(Value::as_str);
        let fits = |token: &&str| (1..=TOKEN_BYTES_MAX).contains(&token.len());
        if let Some(token) =
            token.filter(|token| fits(token) && !scanner_finds_token(token.as_bytes()))
        {
            note(token);
        }
        let own = value.get("reason").and_then(Value::as_str);
        if let Some(own) = own.filter(|own| ReasonText::parse(own).is_ok()) {
            own.clone_into(&mut fields_found.reason);
        }
        wipe(&mut value);
    } else {
        scan(text, &mut note);
        scan_across(piece.before, text, &mut note);
        let is_word = piece.whole
            && (WORD_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())
            && text.iter().all(u8::is_ascii_graphic)
            && !scanner_finds_token(text);
        if let (true, Ok(word)) = (is_word, std::str::from_utf8(text)) {
            note(word);
        }
    }
    let reason =
        if fields_found.reason.is_empty() { reason.to_owned() } else { fields_found.reason };
    for token in found {
        each(LeakedToken { token, url: fields_found.url.clone(), reason: reason.clone() });
    }
}

/// Fields of a JSON object beside a token.
#[derive(Default)]
struct ScannerFields {
    url: String,
    reason: String,
}

/// Searches all strings and field names of a JSON value.
fn scan_json(
    value: &Value,
    name: &str,
    fields_found: &mut ScannerFields,
    note: &mut impl FnMut(&str),
) {
    match value {
        Value::String(text) => {
            scan(text.as_bytes(), &mut *note);
            let is_url = text.len() <= URL_BYTES_MAX
                && text.contains("://")
                && text.bytes().all(|byte| byte.is_ascii_graphic());
            let says_where = URL_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field));
            if says_where && is_url && fields_found.url.is_empty() {
                fields_found.url.clone_from(text);
            }
        }
        Value::Array(items) => {
            for item in items {
                scan_json(item, name, fields_found, note);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                scan(name.as_bytes(), &mut *note);
                scan_json(value, name, fields_found, note);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether [`scan`] finds a token in the text, so that the text as a whole is no candidate.
fn scanner_finds_token(text: &[u8]) -> bool {
    let mut any = false;
    scan(text, |_| any = true);
    any
}

/// Erases the strings, which may be tokens, from memory.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
