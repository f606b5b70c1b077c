//! The format of tokens: `sophic_<kind>_`, then 32 random base62 characters, then 6 check characters.
//!
//! NEVER CHANGE THE PREFIXES: secret scanners everywhere know them, and every token in use has one.

use sha2::{Digest as _, Sha256};

/// Number of random characters.
pub const BODY_LENGTH: usize = 32;
/// Number of check characters.
pub const CHECK_LENGTH: usize = 6;
/// Number of characters before the random ones.
pub const PREFIX_LENGTH: usize = 11;
/// Number of characters of a token.
pub const TOKEN_LENGTH: usize = PREFIX_LENGTH + BODY_LENGTH + CHECK_LENGTH;
/// The alphabet of the random and the check characters.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Longest text that is looked up as a token, in bytes. A longer one is unknown, and is not hashed.
pub const TOKEN_BYTES_MAX: usize = 512;

/// [`TOKEN_START`], for `concat!`.
macro_rules! token_start {
    () => {
        "sophic_"
    };
}

/// Beginning of every token of ours.
pub const TOKEN_START: &str = token_start!();

/// Declares each kind of token once. The prefixes and [`SCANNER_REGEX`] follow from the tags.
macro_rules! token_kinds {
    ($(#[$doc:meta] $variant:ident, $tag:literal;)+) => {
        /// Kind of a token.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TokenKind {
            $(#[$doc] $variant,)+
        }

        impl TokenKind {
            /// All kinds.
            pub const ALL: [Self; [$($tag),+].len()] = [$(Self::$variant),+];

            /// Prefix of the tokens of this kind.
            pub const fn prefix(self) -> &'static str {
                match self { $(Self::$variant => concat!(token_start!(), $tag, "_"),)+ }
            }
        }

        /// Finds every token in a text. The check characters rule out false matches offline.
        pub const SCANNER_REGEX: &str =
            concat!(r"\b", token_start!(), "(?:", alternatives!($($tag)+), r")_[0-9A-Za-z]{38}\b");
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
    /// A service token, which authenticates a caller and nothing else.
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

    /// Returns the kind of a well-formed token. Prefix, length, alphabet and check characters must be right.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != TOKEN_LENGTH {
            return None;
        }
        let (signed, check) = bytes.split_at(PREFIX_LENGTH + BODY_LENGTH);
        let kind =
            Self::ALL.into_iter().find(|kind| signed.starts_with(kind.prefix().as_bytes()))?;
        let alphabet_fits = signed[PREFIX_LENGTH..].iter().all(u8::is_ascii_alphanumeric);
        (alphabet_fits && check == check_characters(signed)).then_some(kind)
    }
}

/// Computes the check characters: CRC32 (ISO-HDLC) in base62, most significant first, as GitHub and GitLab do.
pub fn check_characters(signed: &[u8]) -> [u8; CHECK_LENGTH] {
    let mut rest = crc32fast::hash(signed);
    let mut check = [b'0'; CHECK_LENGTH];
    for place in check.iter_mut().rev() {
        *place = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    check
}

/// Returns the SHA-256 by which a presented text is looked up. `None` if the text cannot be the token of a credential.
///
/// With `accept_imported`, text of any shape is looked up, up to [`TOKEN_BYTES_MAX`]: it may be a token of the system
/// that the credential was imported from. Text that begins with [`TOKEN_START`] must still be well formed.
pub fn digest_of_presented(text: &str, accept_imported: bool) -> Option<[u8; 32]> {
    let credential = TokenKind::parse(text).is_some_and(TokenKind::is_credential);
    let imported =
        || accept_imported && text.len() <= TOKEN_BYTES_MAX && !text.starts_with(TOKEN_START);
    (credential || imported()).then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_vectors_hold() {
        let vectors = include_str!("../../../tests/vectors/tokens.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
        for vector in vectors.as_array().expect("a list") {
            let text = vector["text"].as_str().expect("a text");
            let kind = TokenKind::parse(text).map(|kind| match kind {
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

    #[test]
    fn the_scanner_expects_as_many_characters_as_a_token_has() {
        let characters = format!("{{{}}}", BODY_LENGTH + CHECK_LENGTH);
        assert!(SCANNER_REGEX.contains(&characters), "{SCANNER_REGEX}");
        for kind in TokenKind::ALL {
            assert_eq!(kind.prefix().len(), PREFIX_LENGTH, "{kind:?}");
        }
    }

    /// The check characters must not change, because other people's scanners compute them.
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
        assert_eq!(TokenKind::parse(&format!("{signed}{naive}")), Some(TokenKind::Key));
    }
}
