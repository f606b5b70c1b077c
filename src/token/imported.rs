//! Tokens that come from elsewhere, and text that only looks like a digest: what an import takes, and what it must not.

use sophic_auth_protocol::token::TOKEN_LENGTH;

use super::TokenKind;
use super::format;
use crate::model::limits::{IMPORTED_TOKEN_BYTES_MIN, TOKEN_BYTES_MAX};
use crate::model::{Digest, Invalid};

/// Different characters that a token from elsewhere has at the least: what has fewer is a placeholder.
const DIFFERENT_MIN: usize = 8;

/// What a migration script hashes by mistake where there was nothing to hash, and what tests are made of.
const NO_TOKENS: [&str; 16] = [
    "",
    "\n",
    " ",
    "\"\"",
    "''",
    "0",
    "null",
    "NULL",
    "nil",
    "None",
    "undefined",
    "token",
    "secret",
    "password",
    "changeme",
    "test",
];

/// The digest and the hint of a token in the clear.
///
/// What is spelled as one of ours must be whole and of this kind. Of another it is asked that it was made by a machine:
/// a SHA-256 without salt would not protect what a person has thought up.
pub fn digest_imported(text: &str, kind: TokenKind) -> Result<(Digest, String), Invalid> {
    if text.starts_with("sophic_") {
        return match TokenKind::parse(text) {
            Some(found) if found == kind => Ok((Digest::of(text), format::hint(text))),
            Some(_) => Err(Invalid::new("is a token of another kind")),
            None => Err(Invalid::new("begins as a token of sophic-auth, but is not a whole one")),
        };
    }
    if !(IMPORTED_TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) {
        return Err(Invalid::new(format!(
            "must have {IMPORTED_TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} bytes: what is shorter could be guessed"
        )));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::new("must have no characters but visible ones of ASCII"));
    }
    let mut seen = [false; 128];
    text.bytes().for_each(|byte| seen[usize::from(byte & 0x7f)] = true);
    if seen.iter().filter(|seen| **seen).count() < DIFFERENT_MIN {
        return Err(Invalid::new(format!("must have {DIFFERENT_MIN} different characters")));
    }
    Ok((Digest::of(text), format!("...{}", &text[text.len() - 4..])))
}

/// Whether the digest is that of no token, but of what stands in the place of one.
pub fn is_placeholder(digest: &Digest) -> bool {
    let bytes = digest.as_bytes();
    bytes.iter().all(|byte| byte == &bytes[0])
        || NO_TOKENS.iter().any(|text| Digest::of(text) == *digest)
}

/// Whether a token of ours stands anywhere in the text, by its shape alone.
pub fn contains_token(text: &str) -> bool {
    text.match_indices("sophic_").any(|(at, _)| {
        let Some(candidate) = text.as_bytes().get(at..at + TOKEN_LENGTH) else { return false };
        let prefix =
            TokenKind::ALL.into_iter().find(|kind| candidate.starts_with(kind.prefix().as_bytes()));
        prefix.is_some_and(|kind| {
            candidate[kind.prefix().len()..].iter().all(u8::is_ascii_alphanumeric)
        })
    })
}

/// Whether what stands where a digest should may well be a token in the clear: it is of a token's length, and no digest
/// of any kind, in whatever spelling.
pub fn may_be_token(text: &str) -> bool {
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    contains_token(text) || (text.len() >= IMPORTED_TOKEN_BYTES_MIN && !hexadecimal)
}
