//! Tokens (DESIGN §2): `sophic_<kind>_`, 32 base62 characters of randomness, 6 of check. No I/O but the random source
//! that is passed in.
//!
//! The raw text lives in [`Token`] and nowhere else: no `Display`, a redacted `Debug`, wiped on drop.

mod format;
mod imported;
mod random;
mod scan;

#[cfg(test)]
mod tests;

pub use format::{digest_of_presented, digest_to_end, redact_tokens, why_no_token};
pub use imported::{contains_token, digest_imported, is_placeholder, may_be_token};
pub use random::{OsRandom, Random, RandomError, random_array};
pub use scan::{scan, scan_across};
pub use sophic_auth_protocol::headers::{self, after_scheme, bearer};
pub use sophic_auth_protocol::token::{SCANNER_REGEX, TokenKind};

use std::fmt;

use zeroize::Zeroizing;

use crate::model::{CredentialKind, Digest};

/// What the tokens of a credential are, by its kind; those of callers are the third.
impl From<CredentialKind> for TokenKind {
    fn from(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Key => Self::Key,
            CredentialKind::Pat => Self::Pat,
        }
    }
}

/// The raw text of a token, on its way to the one who asked for it.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Makes a new one: 190 bits of randomness.
    pub fn mint(kind: TokenKind, random: &dyn Random) -> Result<Self, RandomError> {
        format::mint(kind, random).map(Self)
    }

    /// The text itself, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored in its place.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// The prefix and the last four characters of the body, for people to recognise it in a list.
    pub fn hint(&self) -> String {
        format::hint(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}
