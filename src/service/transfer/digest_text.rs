//! Digests as other systems spell them, and what is none.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::model::Digest;

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new();
    GeneralPurpose::new(alphabet, config.with_decode_padding_mode(DecodePaddingMode::Indifferent))
}

/// 32 bytes, spelled in hexadecimal of either case, with Postgres's `\x` before it or without, in base64 or in base64url.
pub(super) fn parse(text: &str) -> Option<Digest> {
    let hexadecimal = text.strip_prefix("\\x").unwrap_or(text);
    if hexadecimal.len() == 64 {
        return Digest::from_hex(&hexadecimal.to_ascii_lowercase());
    }
    // 43 characters, and one more to fill up.
    if !matches!(text.len(), 43 | 44) {
        return None;
    }
    [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| {
        let mut bytes = [0; 33];
        let length = engine(alphabet).decode_slice(text, &mut bytes).ok()?;
        Digest::from_bytes(&bytes[..length])
    })
}

/// Whether a token's text may well be a digest, of whatever kind: nobody would notice, since an import takes the digest of
/// that, and the tokens themselves are unknown then.
pub(super) fn looks_like_one(text: &str) -> bool {
    parse(text).is_some()
        || is_password_hash(text)
        || other_hash(text).is_some_and(|(_, sure)| sure)
}

/// What stands where a SHA-256 should, in words.
pub(super) fn instead(text: &str) -> &'static str {
    if is_password_hash(text) {
        return "is a salted password hash (PBKDF2, bcrypt, Argon2 or the like) and no SHA-256: no token can ever be found by \
                it. Make new tokens";
    }
    other_hash(text).map_or(
        "must be a SHA-256 of the token: 64 hexadecimal digits, with \\x before them or without, or base64 or base64url of its \
         32 bytes",
        |(what, _)| what,
    )
}

/// As Django, PHC and crypt spell them: `algorithm$salt$…`, `$2b$…`, `$argon2id$…`, `pbkdf2:sha256:…$…`.
pub(super) fn is_password_hash(text: &str) -> bool {
    let algorithm = |name: &str| {
        let name = name.to_ascii_lowercase();
        let known = [
            "pbkdf2", "bcrypt", "argon2", "scrypt", "sha", "md5", "ssha", "crypt", "2a", "2b", "2y",
        ];
        known.iter().any(|known| name.starts_with(known))
    };
    let text = text.strip_prefix('$').or_else(|| text.strip_prefix('{')).unwrap_or(text);
    text.split_once(['$', ':', '}']).is_some_and(|(name, rest)| algorithm(name) && !rest.is_empty())
}

/// A digest of another kind by its length, and whether hardly any token has that.
fn other_hash(text: &str) -> Option<(&'static str, bool)> {
    let digits = text.strip_prefix("\\x").unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(match digits.len() {
        32 => ("is of the length of an MD5: it must be a SHA-256", false),
        40 => ("is of the length of a SHA-1: it must be a SHA-256", false),
        56 => ("is of the length of a SHA-224: it must be a SHA-256", true),
        96 => ("is of the length of a SHA-384: it must be a SHA-256", true),
        100 => (
            "is of the length of Gitea's salted PBKDF2 and no SHA-256: no token can ever be found by it. Make new tokens",
            true,
        ),
        128 => ("is of the length of a SHA-512: it must be a SHA-256", true),
        _ => return None,
    })
}
