//! How tokens are spelled (the service's DESIGN §2), for refusing off line what cannot be one. `tests/vectors/tokens.json`
//! pins it for the service and for this crate alike.

use sha2::{Digest as _, Sha256};

const BODY: usize = 32;
const CHECK: usize = 6;
const PREFIX: usize = 11;
const LENGTH: usize = PREFIX + BODY + CHECK;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes of text that are looked at as a token.
const TOKEN_BYTES_MAX: usize = 512;

/// What a token is the secret of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An API key.
    Key,
    /// A personal access token.
    Pat,
    /// A caller of the service; never good for anything else.
    Service,
}

impl TokenKind {
    /// What kind of token this text is, if it is well formed: prefix, length, alphabet and check characters.
    pub fn of(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != LENGTH {
            return None;
        }
        let (signed, check) = bytes.split_at(PREFIX + BODY);
        let kind = match &signed[..PREFIX] {
            b"sophic_key_" => Self::Key,
            b"sophic_pat_" => Self::Pat,
            b"sophic_svc_" => Self::Service,
            _ => return None,
        };
        let alphabet_fits = signed[PREFIX..].iter().all(u8::is_ascii_alphanumeric);
        (alphabet_fits && check == check_characters(signed)).then_some(kind)
    }
}

/// The digest of a text that may be a credential's; `None` if it cannot be. With `imported`, text that does not look like
/// ours may be one too.
pub(crate) fn digest_of_presented(text: &str, imported: bool) -> Option<[u8; 32]> {
    let credential = matches!(TokenKind::of(text), Some(TokenKind::Key | TokenKind::Pat));
    let foreign = || imported && text.len() <= TOKEN_BYTES_MAX && !text.starts_with("sophic_");
    (credential || foreign()).then(|| Sha256::digest(text.as_bytes()).into())
}

/// CRC32 (ISO-HDLC) in base62, most significant first.
fn check_characters(signed: &[u8]) -> [u8; CHECK] {
    let mut rest = crc32fast::hash(signed);
    let mut check = [b'0'; CHECK];
    for place in check.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_hold() {
        let vectors = include_str!("../../tests/vectors/tokens.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
        for vector in vectors.as_array().expect("a list") {
            let text = vector["text"].as_str().expect("a text");
            let kind = match vector["kind"].as_str() {
                Some("key") => Some(TokenKind::Key),
                Some("pat") => Some(TokenKind::Pat),
                Some("svc") => Some(TokenKind::Service),
                Some(other) => panic!("{other} is no kind"),
                None => None,
            };
            assert_eq!(TokenKind::of(text), kind, "{text}");
            for (imported, field) in [(false, "digest"), (true, "digest_if_imported")] {
                let digest = digest_of_presented(text, imported).map(|digest| {
                    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
                });
                assert_eq!(digest.as_deref(), vector[field].as_str(), "{text}, {field}");
            }
        }
    }
}
