//! How tokens are spelled and checked: `sophic_<kind>_`, 32 base62 characters of randomness, 6 of check.
//!
//! NEVER CHANGE THE PREFIXES: secret scanners everywhere know them, and every token in use carries one.

use sha2::{Digest as _, Sha256};

/// Characters of randomness.
pub const BODY: usize = 32;
/// Check characters.
pub const CHECK: usize = 6;
/// Characters before the body.
pub const PREFIX: usize = 11;
/// Characters of a token.
pub const LENGTH: usize = PREFIX + BODY + CHECK;
/// The alphabet.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes of text that are looked at as a token; what is longer is unknown without being hashed.
pub const TOKEN_BYTES_MAX: usize = 512;

/// Declares each kind of token once. The prefixes and [`SCANNER_REGEX`] follow from the tags.
macro_rules! token_kinds {
    ($(#[$doc:meta] $variant:ident, $tag:literal;)+) => {
        /// The kind of secret that a token is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TokenKind {
            $(#[$doc] $variant,)+
        }

        impl TokenKind {
            /// Every kind.
            pub const ALL: [Self; [$($tag),+].len()] = [$(Self::$variant),+];

            /// The prefix of its tokens.
            pub const fn prefix(self) -> &'static str {
                match self { $(Self::$variant => concat!("sophic_", $tag, "_"),)+ }
            }
        }

        /// Regular expression that finds every token in a text. It can match other text by chance, which the check
        /// characters rule out offline.
        pub const SCANNER_REGEX: &str =
            concat!(r"\bsophic_(?:", alternatives!($($tag)+), r")_[0-9A-Za-z]{38}\b");
    };
}

/// The tags with `|` between them.
macro_rules! alternatives {
    ($first:literal $($rest:literal)*) => { concat!($first $(, "|", $rest)*) };
}

token_kinds! {
    /// An API key.
    Key, "key";
    /// A personal access token.
    Pat, "pat";
    /// A service token, which authenticates a caller of the service and is never a credential of a user or workspace.
    Service, "svc";
}

impl TokenKind {
    /// Whether its tokens are credentials, which clients present. Service tokens are not.
    pub const fn is_credential(self) -> bool {
        match self {
            Self::Key | Self::Pat => true,
            Self::Service => false,
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

/// CRC32 (ISO-HDLC) in base62, most significant first, as GitHub and GitLab do.
pub fn check_characters(signed: &[u8]) -> [u8; CHECK] {
    let mut rest = crc32fast::hash(signed);
    let mut check = [b'0'; CHECK];
    for place in check.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    check
}

/// The SHA-256 to look a presented text up by; `None` if it is unknown without looking.
///
/// With `accept_imported`, text of any other shape is looked up too, up to 512 bytes: it may be a token of the system
/// that the credential was imported from. What looks like ours has to be well formed all the same.
pub fn digest_of_presented(text: &str, accept_imported: bool) -> Option<[u8; 32]> {
    let credential = TokenKind::of(text).is_some_and(TokenKind::is_credential);
    let imported =
        || accept_imported && text.len() <= TOKEN_BYTES_MAX && !text.starts_with("sophic_");
    (credential || imported()).then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_hold() {
        let vectors = include_str!("../../../tests/vectors/tokens.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
        for vector in vectors.as_array().expect("a list") {
            let text = vector["text"].as_str().expect("a text");
            let kind = TokenKind::of(text).map(|kind| match kind {
                TokenKind::Key => "key",
                TokenKind::Pat => "pat",
                TokenKind::Service => "svc",
            });
            assert_eq!(kind, vector["kind"].as_str(), "{text}");
            for (imported, field) in [(false, "digest"), (true, "digest_if_imported")] {
                let digest = digest_of_presented(text, imported).map(|digest| {
                    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
                });
                assert_eq!(digest.as_deref(), vector[field].as_str(), "{text}, {field}");
            }
        }
    }

    /// Pinned: the check characters are read by scanners that other people wrote.
    #[test]
    fn the_check_characters_are_crc32_in_base62() {
        let signed = "sophic_key_00000000000000000000000000000000";
        let crc = crc32fast::hash(signed.as_bytes());
        let naive = {
            let alphabet: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
            let mut rest = crc;
            let mut digits = Vec::new();
            for _ in 0..6 {
                digits.insert(0, alphabet[(rest % 62) as usize]);
                rest /= 62;
            }
            digits.into_iter().collect::<String>()
        };
        assert_eq!(TokenKind::of(&format!("{signed}{naive}")), Some(TokenKind::Key));
    }
}
