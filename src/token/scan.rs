//! Finds tokens of ours in any text. Whole words are found by the expression that secret scanners use. Tokens within a
//! word, or broken over lines, are found too, but only if their check characters are right.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};
use zeroize::Zeroizing;

use super::{SCANNER_REGEX, TOKEN_START, TokenKind};

/// Number of nested levels of escaping that are undone, such as JSON in a JSON string in a URL.
const UNESCAPE_LEVELS: usize = 4;

static WHOLE_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    // The expression is a constant and is covered by tests. It matches bytes, because the text need not be UTF-8.
    RegexBuilder::new(SCANNER_REGEX).unicode(false).build().expect("the scanner's expression")
});

/// The same expression without the word boundaries.
static WITHIN_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    let expression = SCANNER_REGEX.trim_start_matches(r"\b").trim_end_matches(r"\b");
    RegexBuilder::new(expression).unicode(false).build().expect("the scanner's expression")
});

/// Calls `each` for every match in the text, whether or not its check characters are right. A match can be reported
/// more than once.
///
/// Escaped text is searched too: in `KEY\u003d…` and `KEY%3D…` a letter precedes the token, so there is no word
/// boundary.
pub fn scan(text: &[u8], mut each: impl FnMut(&str)) {
    let mut unescaped: Option<Zeroizing<Vec<u8>>> = None;
    for _ in 0..UNESCAPE_LEVELS {
        let text = unescaped.as_ref().map_or(text, |text| text.as_slice());
        for found in WHOLE_WORDS.find_iter(text) {
            // The expression matches only ASCII.
            if let Ok(found) = std::str::from_utf8(found.as_bytes()) {
                each(found);
            }
        }
        scan_within_words(text, &mut each);
        if let Some(joined) = join_lines(text) {
            scan_within_words(&joined, &mut each);
        }
        let Some(next) = unescape(text) else { return };
        unescaped = Some(next);
    }
}

/// Calls `each` for every token that begins at the end of `before` and ends at the beginning of `after`, such as two
/// lines.
pub fn scan_across(before: &[u8], after: &[u8], mut each: impl FnMut(&str)) {
    // Longer than any token with its indentation.
    const REACH: usize = 256;
    let before = trim_line_end(&before[before.len().saturating_sub(REACH)..]);
    let start = TOKEN_START.as_bytes();
    let has_start = before.windows(start.len()).any(|part| part == start);
    if !has_start && !(1..start.len()).any(|length| before.ends_with(&start[..length])) {
        return;
    }
    let after = &after[..after.len().min(REACH)];
    let text = Zeroizing::new([before, b"\n".as_slice(), after].concat());
    if let Some(joined) = join_lines(&text) {
        scan_within_words(&joined, &mut each);
    }
}

fn scan_within_words(text: &[u8], each: &mut impl FnMut(&str)) {
    for found in WITHIN_WORDS.find_iter(text) {
        if let Ok(found) = std::str::from_utf8(found.as_bytes())
            && TokenKind::parse(found).is_some()
        {
            each(found);
        }
    }
}

/// Trims the end of a line: white space and continuation marks.
fn trim_line_end(mut line: &[u8]) -> &[u8] {
    while let Some((last, rest)) = line.split_last()
        && (last.is_ascii_whitespace() || b"=\\".contains(last))
    {
        line = rest;
    }
    line
}

/// Joins the lines of a text, without the white space and continuation marks around the line breaks. `None` if the text
/// has a single line.
fn join_lines(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let mut joined = Zeroizing::new(Vec::with_capacity(text.len()));
    joined.extend_from_slice(first);
    let mut any = false;
    for line in lines {
        any = true;
        let kept = trim_line_end(&joined).len();
        joined.truncate(kept);
        joined.extend_from_slice(line.trim_ascii_start());
    }
    any.then_some(joined)
}

/// Undoes the escapes of JSON, of string literals in most languages, and of URLs. `None` if there are none.
fn unescape(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut next = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut rest, mut changed) = (text, false);
    while let Some((&byte, after)) = rest.split_first() {
        let escape = match (byte, after.first()) {
            (b'\\', Some(b'u')) => hex_number(after.get(1..5)).map(|code| (code, 5)),
            (b'\\', Some(b'x')) => hex_number(after.get(1..3)).map(|code| (code, 3)),
            (b'%', Some(_)) => hex_number(after.get(..2)).map(|code| (code, 2)),
            (b'\\', Some(b'n' | b'r' | b't' | b'b' | b'f')) => Some((u32::from(b'\n'), 1)),
            (b'\\', Some(other)) => Some((u32::from(*other), 1)),
            _ => None,
        };
        let Some((code, length)) = escape else {
            next.push(byte);
            rest = after;
            continue;
        };
        // A character outside ASCII is never part of a token. A space in its place ends one.
        next.push(u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(b' '));
        rest = &after[length..];
        changed = true;
    }
    changed.then_some(next)
}

fn hex_number(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
