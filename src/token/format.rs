//! How a token is spelled, made and checked.
//!
//! NEVER CHANGE THE PREFIXES: secret scanners everywhere know them, and every token in use carries one.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::{Random, RandomError};
use crate::model::Digest;
use crate::model::limits::TOKEN_BYTES_MAX;

const BODY: usize = 32;
const CHECK: usize = 6;
const PREFIX: usize = 11;
const LENGTH: usize = PREFIX + BODY + CHECK;
/// Bytes of a token.
pub(super) const SPELLED_LENGTH: usize = LENGTH;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Finds every token in any text; what it finds by chance, the check characters tell apart off line.
pub const SCANNER_REGEX: &str = r"\bsophic_(?:key|pat|svc)_[0-9A-Za-z]{38}\b";

/// What a token is the secret of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An API key.
    Key,
    /// A personal access token.
    Pat,
    /// A caller.
    Service,
}

impl TokenKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Key, Self::Pat, Self::Service];

    /// What its tokens begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Key => "sophic_key_",
            Self::Pat => "sophic_pat_",
            Self::Service => "sophic_svc_",
        }
    }

    /// What kind of token this text is, if it is well formed: prefix, length, alphabet and check characters.
    pub fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != LENGTH {
            return None;
        }
        let (signed, check) = bytes.split_at(PREFIX + BODY);
        let kind =
            Self::ALL.into_iter().find(|kind| signed.starts_with(kind.prefix().as_bytes()))?;
        let alphabet_fits = signed[PREFIX..].iter().all(u8::is_ascii_alphanumeric);
        (alphabet_fits && check == check_characters(signed)).then_some(kind)
    }
}

/// Why this text is no token that a user or a service could present; nothing if it may be one. Never repeats it.
pub fn why_no_token(text: &str) -> Option<String> {
    match TokenKind::of(text) {
        Some(TokenKind::Key | TokenKind::Pat) => return None,
        Some(TokenKind::Service) => {
            return Some(
                "it is the service token of a caller, and no user's or workspace's".to_owned(),
            );
        }
        None => {}
    }
    let (found, of) = (text.chars().count(), LENGTH);
    Some(if !TokenKind::ALL.iter().any(|kind| text.starts_with(kind.prefix())) {
        "a token begins with sophic_key_ or sophic_pat_; one of another system is looked up with \
         --accept-imported-tokens"
            .to_owned()
    } else if found == of {
        "its last 6 characters do not fit the others: it is misspelt".to_owned()
    } else {
        format!(
            "it has {found} characters, and a token has {of}: it was not copied whole, or too much was"
        )
    })
}

/// The digest to look a presented text up by; `None` if it is unknown without looking.
///
/// With `accept_imported`, text of any other shape is looked up too, up to 512 bytes: it may be a token of the system
/// that the credential was imported from. What looks like ours has to be well formed all the same.
pub fn digest_of_presented(text: &str, accept_imported: bool) -> Option<Digest> {
    let credential = matches!(TokenKind::of(text), Some(TokenKind::Key | TokenKind::Pat));
    let imported =
        || accept_imported && text.len() <= TOKEN_BYTES_MAX && !text.starts_with("sophic_");
    (credential || imported()).then(|| Digest::of(text))
}

/// The digest to look a text up by that is to be ended. Whatever its shape, and whatever introspection accepts today, it may
/// be the token of a credential that was imported.
pub fn digest_to_end(text: &str) -> Digest {
    Digest::of(text)
}

/// The text without the body of anything in it that looks like a token, right or wrong: for what people write, and others
/// read.
pub fn redact_tokens(text: &str) -> Cow<'_, str> {
    let is_token = |rest: &str| {
        let kind = TokenKind::ALL.into_iter().find(|kind| rest.starts_with(kind.prefix()))?;
        let body = &rest[kind.prefix().len()..];
        let end = body.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(body.len());
        (end >= BODY).then_some(kind.prefix().len() + end)
    };
    let mut redacted = String::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(found) = rest[from..].find("sophic_") {
        let start = from + found;
        match is_token(&rest[start..]) {
            Some(length) => {
                redacted.push_str(&rest[..start + PREFIX]);
                redacted.push_str("[redacted]");
                rest = &rest[start + length..];
                from = 0;
            }
            None => from = start + 1,
        }
    }
    if redacted.is_empty() {
        return Cow::Borrowed(text);
    }
    redacted.push_str(rest);
    Cow::Owned(redacted)
}

pub(super) fn mint(kind: TokenKind, random: &dyn Random) -> Result<Zeroizing<String>, RandomError> {
    let mut text = Zeroizing::new(String::with_capacity(LENGTH));
    text.push_str(kind.prefix());
    let mut bytes = Zeroizing::new([0; 2 * BODY]);
    while text.len() < PREFIX + BODY {
        random.fill(bytes.as_mut_slice())?;
        for byte in bytes.iter() {
            // 248 is the largest multiple of 62 in a byte: what lies above would favour the first letters.
            if *byte < 248 && text.len() < PREFIX + BODY {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
    }
    let check = check_characters(text.as_bytes());
    text.extend(check.iter().map(|byte| char::from(*byte)));
    Ok(text)
}

pub(super) fn hint(text: &str) -> String {
    format!("{}...{}", &text[..PREFIX], &text[PREFIX + BODY - 4..PREFIX + BODY])
}

/// CRC32 (ISO-HDLC) in base62, most significant first, as GitHub and GitLab do.
fn check_characters(signed: &[u8]) -> [u8; CHECK] {
    let mut rest = crc32fast::hash(signed);
    let mut check = [b'0'; CHECK];
    for place in check.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    check
}
