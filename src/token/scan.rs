//! Tokens of ours anywhere in any text: by the expression that secret scanners are given; and, where the check characters are
//! right, so that it is no chance, in the middle of a word too, and broken over lines.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};
use zeroize::Zeroizing;

use super::{SCANNER_REGEX, TokenKind};

/// How every token begins.
const START: &[u8] = b"sophic_";
/// How often text is taken out of text: JSON within a string of JSON within another, or within a URL.
const LEVELS: usize = 4;

static EXPRESSION: LazyLock<Regex> = LazyLock::new(|| {
    // It is a constant, which the tests match against. Bytes, since what is scanned need not be UTF-8.
    RegexBuilder::new(SCANNER_REGEX).unicode(false).build().expect("the scanner's expression")
});

/// The same without the ends of a word on both sides.
static WITHIN_WORDS: LazyLock<Regex> = LazyLock::new(|| {
    let expression = SCANNER_REGEX.trim_start_matches(r"\b").trim_end_matches(r"\b");
    RegexBuilder::new(expression).unicode(false).build().expect("the scanner's expression")
});

/// Gives every text in this that the expression finds, right or wrong by its check characters; some of them more than once.
///
/// What is escaped is found too: in `KEY\u003d…` and `KEY%3D…` a letter stands before the token, and so the expression would
/// miss it.
pub fn scan(text: &[u8], mut each: impl FnMut(&str)) {
    let mut unescaped: Option<Zeroizing<Vec<u8>>> = None;
    for _ in 0..LEVELS {
        let text = unescaped.as_ref().map_or(text, |text| text.as_slice());
        for found in EXPRESSION.find_iter(text) {
            // The expression matches ASCII only.
            if let Ok(found) = std::str::from_utf8(found.as_bytes()) {
                each(found);
            }
        }
        within_words(text, &mut each);
        if let Some(joined) = joined(text) {
            within_words(&joined, &mut each);
        }
        let Some(next) = unescape(text) else { return };
        unescaped = Some(next);
    }
}

/// Gives the tokens that begin at the end of the one text and end at the beginning of the other, as those of two lines.
pub fn scan_across(before: &[u8], after: &[u8], mut each: impl FnMut(&str)) {
    // Longer than any token, however far it is indented.
    const REACH: usize = 256;
    let before = without_end(&before[before.len().saturating_sub(REACH)..]);
    let begun = before.windows(START.len()).any(|part| part == START);
    if !begun && !(1..START.len()).any(|length| before.ends_with(&START[..length])) {
        return;
    }
    let after = &after[..after.len().min(REACH)];
    let text = Zeroizing::new([before, b"\n".as_slice(), after].concat());
    if let Some(joined) = joined(&text) {
        within_words(&joined, &mut each);
    }
}

fn within_words(text: &[u8], each: &mut impl FnMut(&str)) {
    for found in WITHIN_WORDS.find_iter(text) {
        if let Ok(found) = std::str::from_utf8(found.as_bytes())
            && TokenKind::parse(found).is_some()
        {
            each(found);
        }
    }
}

/// A line without what stands at its end: white space, and the marks of a line that goes on.
fn without_end(mut line: &[u8]) -> &[u8] {
    while let Some((last, rest)) = line.split_last()
        && (last.is_ascii_whitespace() || b"=\\".contains(last))
    {
        line = rest;
    }
    line
}

/// The text without its line breaks, and without what stands around those: white space, and the marks of a line that goes on.
/// Nothing if it has none.
fn joined(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let mut joined = Zeroizing::new(Vec::with_capacity(text.len()));
    joined.extend_from_slice(first);
    let mut any = false;
    for line in lines {
        any = true;
        let kept = without_end(&joined).len();
        joined.truncate(kept);
        joined.extend_from_slice(line.trim_ascii_start());
    }
    any.then_some(joined)
}

/// The text with the escapes of JSON, of most languages' strings and of URLs taken for what they stand for; nothing if it has
/// none.
fn unescape(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut next = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut rest, mut changed) = (text, false);
    while let Some((&byte, after)) = rest.split_first() {
        let escape = match (byte, after.first()) {
            (b'\\', Some(b'u')) => number(after.get(1..5)).map(|code| (code, 5)),
            (b'\\', Some(b'x')) => number(after.get(1..3)).map(|code| (code, 3)),
            (b'%', Some(_)) => number(after.get(..2)).map(|code| (code, 2)),
            (b'\\', Some(b'n' | b'r' | b't' | b'b' | b'f')) => Some((u32::from(b'\n'), 1)),
            (b'\\', Some(other)) => Some((u32::from(*other), 1)),
            _ => None,
        };
        let Some((code, length)) = escape else {
            next.push(byte);
            rest = after;
            continue;
        };
        // What is no ASCII is in no token, and ends one.
        next.push(u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(b' '));
        rest = &after[length..];
        changed = true;
    }
    changed.then_some(next)
}

fn number(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
