//! Spellings of digests in other systems, and text that is not a SHA-256.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::model::Digest;

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new();
    GeneralPurpose::new(alphabet, config.with_decode_padding_mode(DecodePaddingMode::Indifferent))
}

/// Prefixes of a SHA-256 in lower case, as in OCI, SRI, GitHub headers and LDAP.
const NAMES: [&str; 5] = ["sha256:", "sha256-", "sha256=", "sha-256:", "{sha256}"];
/// Prefixes of hexadecimal. Postgres writes the first.
const HEXADECIMAL: [&str; 2] = ["\\x", "0x"];

/// Parses 32 bytes in hexadecimal of either case, base64 or base64url, with or without a prefix.
pub(super) fn parse(text: &str) -> Option<Digest> {
    let text = unnamed(text);
    if let Some(digest) = hexadecimal(text).and_then(|bytes| Digest::from_bytes(&bytes)) {
        return Some(digest);
    }
    // 43 characters, or 44 with padding.
    if !matches!(text.len(), 43 | 44) {
        return None;
    }
    [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| {
        let mut bytes = [0; 33];
        let length = engine(alphabet).decode_slice(text, &mut bytes).ok()?;
        Digest::from_bytes(&bytes[..length])
    })
}

/// Removes the name of the algorithm, and `b'…'` from Python.
fn unnamed(text: &str) -> &str {
    let bytes = text.strip_prefix("b'").and_then(|text| text.strip_suffix('\''));
    let text = bytes.unwrap_or(text);
    let named = NAMES
        .iter()
        .find(|name| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
    named.map_or(text, |name| &text[name.len()..])
}

/// Decodes hexadecimal of either case, with or without the colons that OpenSSL writes.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let text = HEXADECIMAL.iter().find_map(|start| text.strip_prefix(start)).unwrap_or(text);
    let pairs = text.len() % 3 == 2 && text.bytes().skip(2).step_by(3).all(|byte| byte == b':');
    if pairs { hex::decode(text.replace(':', "")) } else { hex::decode(text) }.ok()
}

/// Whether a token looks like a digest of any kind. Importing a digest as a token would hash it again, so the real
/// tokens would be unknown, and nobody would notice.
pub(super) fn looks_like_digest(text: &str) -> bool {
    parse(text).is_some()
        || is_password_hash(text)
        || other_hash(text).is_some_and(|(_, sure)| sure)
}

/// Describes why the text is not a SHA-256.
pub(super) fn describe_mismatch(text: &str) -> &'static str {
    if is_password_hash(text) {
        return "is a salted password hash (PBKDF2, bcrypt, Argon2 or the like), not a SHA-256, so no token can match \
                it. Create new tokens";
    }
    other_hash(text).map_or(
        "must be a SHA-256 of the token: 64 hexadecimal digits, with or without \\x, or base64 or base64url of its \
         32 bytes",
        |(what, _)| what,
    )
}

/// Recognises the formats of Django, PHC and crypt: `algorithm$salt$…`, `$2b$…`, `$argon2id$…`, `pbkdf2:sha256:…$…`.
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

/// Recognises another digest by its length. The flag says that hardly any token has that length.
fn other_hash(text: &str) -> Option<(&'static str, bool)> {
    const SHA_512: (&str, bool) = ("has the length of a SHA-512: it must be a SHA-256", true);
    let Some(bytes) = hexadecimal(unnamed(text)) else {
        return [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| {
            let length = engine(alphabet).decode_slice(text, &mut [0; 66]);
            (length == Ok(64)).then_some(SHA_512)
        });
    };
    Some(match bytes.len() {
        16 => ("has the length of an MD5: it must be a SHA-256", false),
        20 => ("has the length of a SHA-1: it must be a SHA-256", false),
        28 => ("has the length of a SHA-224: it must be a SHA-256", true),
        48 => ("has the length of a SHA-384: it must be a SHA-256", true),
        50 => (
            "has the length of the salted PBKDF2 of Gitea, not of a SHA-256, so no token can match it. Create new tokens",
            true,
        ),
        64 => SHA_512,
        _ => return None,
    })
}
