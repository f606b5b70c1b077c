//! Checks on imported tokens and digests: which ones an import accepts.

use sophic_auth_protocol::token::{TOKEN_LENGTH, TOKEN_START};

use super::TokenKind;
use super::format;
use crate::model::limits::{IMPORTED_TOKEN_BYTES_MIN, TOKEN_BYTES_MAX};
use crate::model::{Digest, Invalid};

/// Minimum number of distinct characters of an imported token. Text with fewer is a placeholder.
const DISTINCT_CHARACTERS_MIN: usize = 8;

/// Texts that a migration script hashes by mistake where a token is missing, or that a test uses.
const PLACEHOLDERS: [&str; 16] = [
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

/// Returns the digest and the hint of a token in the clear.
///
/// Text that begins like a token of ours must be a valid one of this kind. Any other must look machine-made, because an
/// unsalted SHA-256 does not protect text that a person made up.
pub fn digest_imported(text: &str, kind: TokenKind) -> Result<(Digest, String), Invalid> {
    if text.starts_with(TOKEN_START) {
        return match TokenKind::parse(text) {
            Some(found) if found == kind => Ok((Digest::of(text), format::hint(text))),
            Some(_) => Err(Invalid::new("is a token of another kind")),
            None => {
                Err(Invalid::new("begins like a token of sophic-auth, but is not a complete one"))
            }
        };
    }
    if !(IMPORTED_TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len()) {
        return Err(Invalid::new(format!(
            "must have {IMPORTED_TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} bytes: a shorter one could be guessed"
        )));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Invalid::new("may contain only visible ASCII characters"));
    }
    let mut seen = [false; 128];
    text.bytes().for_each(|byte| seen[usize::from(byte & 0x7f)] = true);
    if seen.iter().filter(|seen| **seen).count() < DISTINCT_CHARACTERS_MIN {
        return Err(Invalid::new(format!(
            "must have at least {DISTINCT_CHARACTERS_MIN} different characters"
        )));
    }
    Ok((Digest::of(text), format!("...{}", &text[text.len() - 4..])))
}

/// Whether this is the digest of a placeholder, not of a token.
pub fn is_placeholder(digest: &Digest) -> bool {
    let bytes = digest.as_bytes();
    bytes.iter().all(|byte| byte == &bytes[0])
        || PLACEHOLDERS.iter().any(|text| Digest::of(text) == *digest)
}

/// Whether the text contains a token of ours, judged by its shape alone.
///
/// There are three such searches, because a mistake costs something else in each:
/// - This one refuses a field that may hold a token. A whole one is required, so that a name such as `sophic_key_rotation`
///   is accepted; the check characters are not, because a misspelt token must not be stored either.
/// - [`super::redact_tokens`] hides tokens in text that is kept, so the beginning of a token is enough.
/// - [`super::scan`] finds tokens in order to revoke them, also escaped or broken ones. Those count only if their check
///   characters are right.
pub fn contains_token(text: &str) -> bool {
    text.match_indices(TOKEN_START).any(|(at, _)| {
        let Some(candidate) = text.as_bytes().get(at..at + TOKEN_LENGTH) else { return false };
        let prefix =
            TokenKind::ALL.into_iter().find(|kind| candidate.starts_with(kind.prefix().as_bytes()));
        prefix.is_some_and(|kind| {
            candidate[kind.prefix().len()..].iter().all(u8::is_ascii_alphanumeric)
        })
    })
}

/// Whether a text in the place of a digest may be a token in the clear: it is as long as a token, and not hexadecimal.
pub fn may_be_token(text: &str) -> bool {
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    contains_token(text) || (text.len() >= IMPORTED_TOKEN_BYTES_MIN && !hexadecimal)
}
