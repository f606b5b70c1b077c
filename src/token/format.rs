//! How a token is made, and what is said of a text that is none. How it is spelled stands in `sophic-auth-protocol`.

use std::borrow::Cow;

use sophic_auth_protocol::token::{
    self, BASE62, BODY_LENGTH, PREFIX_LENGTH, TOKEN_LENGTH, TokenKind, check_characters,
};
use zeroize::Zeroizing;

use super::{Random, RandomError};
use crate::model::Digest;

/// Why this text is no token that a user or a service could present; nothing if it may be one. Never repeats it.
pub fn why_no_token(text: &str) -> Option<String> {
    match TokenKind::parse(text) {
        Some(TokenKind::Key | TokenKind::Pat) => return None,
        Some(TokenKind::Service) => {
            return Some(
                "it is the service token of a caller, and no user's or workspace's".to_owned(),
            );
        }
        None => {}
    }
    let (found, of) = (text.chars().count(), TOKEN_LENGTH);
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
/// With `accept_imported`, text of any other shape is looked up too: it may be a token of the system that the credential
/// was imported from.
pub fn digest_of_presented(text: &str, accept_imported: bool) -> Option<Digest> {
    token::digest_of_presented(text, accept_imported).map(Digest::from_hash)
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
        (end >= BODY_LENGTH).then_some(kind.prefix().len() + end)
    };
    let mut redacted = String::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(found) = rest[from..].find("sophic_") {
        let start = from + found;
        match is_token(&rest[start..]) {
            Some(length) => {
                redacted.push_str(&rest[..start + PREFIX_LENGTH]);
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
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_LENGTH));
    text.push_str(kind.prefix());
    let mut bytes = Zeroizing::new([0; 2 * BODY_LENGTH]);
    while text.len() < PREFIX_LENGTH + BODY_LENGTH {
        random.fill(bytes.as_mut_slice())?;
        for byte in bytes.iter() {
            // 248 is the largest multiple of 62 in a byte: what lies above would favour the first letters.
            if *byte < 248 && text.len() < PREFIX_LENGTH + BODY_LENGTH {
                text.push(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
    }
    let check = check_characters(text.as_bytes());
    text.extend(check.iter().map(|byte| char::from(*byte)));
    Ok(text)
}

pub(super) fn hint(text: &str) -> String {
    format!(
        "{}...{}",
        &text[..PREFIX_LENGTH],
        &text[PREFIX_LENGTH + BODY_LENGTH - 4..PREFIX_LENGTH + BODY_LENGTH]
    )
}
