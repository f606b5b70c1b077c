//! Minting, explaining and redacting tokens. Their spelling is defined in `sophic-auth-protocol`.

use std::borrow::Cow;

use sophic_auth_protocol::token::{
    self, BASE62, BODY_LENGTH, CHECK_LENGTH, PREFIX_LENGTH, TOKEN_LENGTH, TOKEN_START, TokenKind,
    check_characters,
};
use zeroize::Zeroizing;

use super::{Random, RandomError};
use crate::model::Digest;

/// Explains why this text cannot be the token of a user or a workspace, or returns `None` if it may be one. The explanation
/// never repeats the text.
pub fn why_not_a_token(text: &str) -> Option<String> {
    match TokenKind::parse(text) {
        Some(kind) if kind.is_credential() => return None,
        Some(_) => {
            return Some(
                "it is the service token of a caller, not the token of a key or PAT".to_owned(),
            );
        }
        None => {}
    }
    let (found, of) = (text.chars().count(), TOKEN_LENGTH);
    Some(if !TokenKind::ALL.iter().any(|kind| text.starts_with(kind.prefix())) {
        let kinds = TokenKind::ALL.into_iter().filter(|kind| kind.is_credential());
        let prefixes = kinds.map(TokenKind::prefix).collect::<Vec<_>>().join(" or ");
        format!(
            "a token begins with {prefixes}; one of another system is looked up with --accept-imported-tokens"
        )
    } else if found == of {
        format!("its last {CHECK_LENGTH} characters do not match the others: it was mistyped")
    } else {
        format!(
            "it has {found} characters, and a token has {of}: it was not copied whole, or too much was"
        )
    })
}

/// Returns the digest to look up a presented text by. `None` if the text cannot be a known token.
///
/// With `accept_imported`, text of any other shape is looked up too, because it may be an imported token of another
/// system.
pub fn digest_of_presented(text: &str, accept_imported: bool) -> Option<Digest> {
    token::digest_of_presented(text, accept_imported).map(Digest::from_hash)
}

/// Returns the digest by which to revoke a token. Text of any shape is hashed, even if introspection would refuse it at
/// present, because it may be an imported token.
pub fn digest_to_revoke(text: &str) -> Digest {
    Digest::of(text)
}

/// Replaces the body of everything that looks like a token, valid or not. For free text that other people read.
///
/// The broadest of the three searches for tokens: a prefix and at least a body are enough, so that a token that was cut
/// or extended is hidden too. [`super::contains_token`] says what the others are for.
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
    while let Some(found) = rest[from..].find(TOKEN_START) {
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
            // 248 is the largest multiple of 62 that a byte can hold. Larger bytes would favour the first letters.
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

/// Whether the text is a hint that this program makes: of a token of ours, of an imported one, or of a digest. An import
/// can give any other text.
pub fn is_hint(text: &str) -> bool {
    let kind = TokenKind::ALL.into_iter().find_map(|kind| text.strip_prefix(kind.prefix()));
    let end = kind.unwrap_or(text).strip_prefix("...");
    text == "imported"
        || end.is_some_and(|end| end.len() == 4 && end.bytes().all(|byte| byte.is_ascii_graphic()))
}
