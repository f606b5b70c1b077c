//! Tokens: `sophic_<kind>_`, 32 random base62 characters, 6 check characters (`docs/words.md`). No I/O; the random
//! source is passed in.
//!
//! The raw text of a new token is held by [`Token`] only, which has no `Display`, a redacted `Debug`, and is wiped on
//! drop.

mod format;
mod imported;
mod random;
mod scan;

#[cfg(test)]
mod tests;

pub use format::{digest_of_presented, digest_to_revoke, is_hint, redact_tokens, why_not_a_token};
pub use imported::{contains_token, digest_imported, is_placeholder, may_be_token};
pub use random::{OsRandom, Random, RandomError, random_array};
pub use scan::{scan, scan_across};
pub use sophic_auth_protocol::headers::{self, after_scheme, bearer};
pub use sophic_auth_protocol::token::{SCANNER_REGEX, TOKEN_START, TokenKind};

use std::fmt;

use zeroize::Zeroizing;

use crate::model::{CredentialKind, Digest};

/// The kind of token that credentials of a kind have. Service tokens, which callers have, are the third kind.
impl From<CredentialKind> for TokenKind {
    fn from(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Key => Self::Key,
            CredentialKind::Pat => Self::Pat,
        }
    }
}

/// The raw text of a new token, which is shown once.
pub struct Token(Zeroizing<String>);

impl Token {
    /// Mints a new token with 190 bits of randomness.
    pub fn mint(kind: TokenKind, random: &dyn Random) -> Result<Self, RandomError> {
        format::mint(kind, random).map(Self)
    }

    /// Returns the text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the digest, which is stored in place of the text.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// Returns the prefix, and the last four characters of the body, by which people recognise the token in a list.
    pub fn hint(&self) -> String {
        format::hint(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}
