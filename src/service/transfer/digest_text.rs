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

/// What stands before a SHA-256, in lower case: OCI's spelling, SRI's, that of GitHub's headers, and LDAP's.
const NAMES: [&str; 5] = ["sha256:", "sha256-", "sha256=", "sha-256:", "{sha256}"];
/// What stands before hexadecimal: Postgres has the first.
const HEXADECIMAL: [&str; 2] = ["\\x", "0x"];

/// 32 bytes, spelled in hexadecimal of either case, in base64 or in base64url, with what says so before it or without.
pub(super) fn parse(text: &str) -> Option<Digest> {
    let text = unnamed(text);
    if let Some(digest) = hexadecimal(text).and_then(|bytes| Digest::from_bytes(&bytes)) {
        return Some(digest);
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

/// Without the name of the algorithm, and without Python's `b'…'`.
fn unnamed(text: &str) -> &str {
    let bytes = text.strip_prefix("b'").and_then(|text| text.strip_suffix('\''));
    let text = bytes.unwrap_or(text);
    let named = NAMES
        .iter()
        .find(|name| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
    named.map_or(text, |name| &text[name.len()..])
}

/// The bytes that hexadecimal digits of either case spell, with or without the colons that OpenSSL puts between them.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let text = HEXADECIMAL.iter().find_map(|start| text.strip_prefix(start)).unwrap_or(text);
    let pairs = text.len() % 3 == 2 && text.bytes().skip(2).step_by(3).all(|byte| byte == b':');
    if pairs { hex::decode(text.replace(':', "")) } else { hex::decode(text) }.ok()
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
    const SHA_512: (&str, bool) = ("is of the length of a SHA-512: it must be a SHA-256", true);
    let Some(bytes) = hexadecimal(unnamed(text)) else {
        return [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| {
            let length = engine(alphabet).decode_slice(text, &mut [0; 66]);
            (length == Ok(64)).then_some(SHA_512)
        });
    };
    Some(match bytes.len() {
        16 => ("is of the length of an MD5: it must be a SHA-256", false),
        20 => ("is of the length of a SHA-1: it must be a SHA-256", false),
        28 => ("is of the length of a SHA-224: it must be a SHA-256", true),
        48 => ("is of the length of a SHA-384: it must be a SHA-256", true),
        50 => (
            "is of the length of Gitea's salted PBKDF2 and no SHA-256: no token can ever be found by it. Make new tokens",
            true,
        ),
        64 => SHA_512,
        _ => return None,
    })
}
