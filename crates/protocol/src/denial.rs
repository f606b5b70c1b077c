//! Why a presented token is refused.

use crate::challenge::{challenge, lack_text};
use crate::pb;

/// Declares each denial: its variant, of the protocol's enum too; its name, as there without the prefix; the HTTP status
/// to answer with; the explanation; and the error code of its challenge, if it has one (RFC 6750 §3.1).
macro_rules! denials {
    ($($(#[$doc:meta])+ $variant:ident, $name:literal, $status:literal, $explanation:literal $(, $error:literal)?;)+) => {
        /// Why a presented token may not do what was asked; the first row of the table that applies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Denial {
            $($(#[$doc])+ $variant,)+
        }

        impl Denial {
            /// All of them, in the order of the table.
            pub const ALL: [Self; [$($status),+].len()] = [$(Self::$variant),+];

            /// What to answer the client with.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Its name, as in the proto without the prefix.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Why, for people. Of a scope that is not in effect only a [`Lack`] can say who lacks it.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)+ }
            }

            /// As in messages.
            pub const fn to_proto(self) -> pb::Denial {
                match self { $(Self::$variant => pb::Denial::$variant,)+ }
            }

            /// The challenge, but for the scopes that it may name.
            pub(crate) const fn plain_challenge(self) -> &'static str {
                match self {
                    $(Self::$variant => challenge!($($error, $explanation)?),)+
                }
            }
        }
    };
}

denials! {
    /// Row 1: no token was presented.
    TokenMissing, "TOKEN_MISSING", 401, "no token was presented";
    /// Row 2: malformed, wrong check characters, or not known: one answer for all three.
    TokenUnknown, "TOKEN_UNKNOWN", 401, "the token is not known", "invalid_token";
    /// Row 3: revoked, by itself or with all that its owner had.
    TokenRevoked, "TOKEN_REVOKED", 401, "the token was revoked", "invalid_token";
    /// Row 3: past its expiry.
    TokenExpired, "TOKEN_EXPIRED", 401, "the token has expired", "invalid_token";
    /// Row 3: switched off.
    TokenDisabled, "TOKEN_DISABLED", 401, "the token is disabled", "invalid_token";
    /// Row 4: the personal access token's user, or the key's workspace, is disabled.
    PrincipalDisabled, "PRINCIPAL_DISABLED", 401,
        "the token's user or workspace is disabled", "invalid_token";
    /// Row 5: the client's address is absent or outside the allowlist.
    IpNotAllowed, "IP_NOT_ALLOWED", 403, "the token may not be used from this address";
    /// Row 6: a key, and another workspace is named.
    WorkspaceMismatch, "WORKSPACE_MISMATCH", 403, "the key belongs to another workspace";
    /// Row 7: a personal access token, and no workspace is named.
    WorkspaceRequired, "WORKSPACE_REQUIRED", 400,
        "a personal access token needs a workspace: send x-sophic-workspace", "invalid_request";
    /// Row 8: the workspace is unknown or disabled, or the user is no member: one answer for all three.
    NotAMember, "NOT_A_MEMBER", 403, "the user is not a member of this workspace";
    /// Row 9: capture is required, and a key is no user.
    UserCredentialRequired, "USER_CREDENTIAL_REQUIRED", 403,
        "this needs a user: use a personal access token, not a key";
    /// Row 10: a required scope is not in effect.
    InsufficientScope, "INSUFFICIENT_SCOPE", 403, "a required scope is not in effect";
    /// No row: it was not looked up, since there were too many before it that are nobody's. It says nothing of the token, and
    /// is never given but in a batch, where the others have their answers: alone such a call fails.
    UnknownTokensTooMany, "UNKNOWN_TOKENS_TOO_MANY", 429,
        "it was not looked up: too many before it were unknown";
}

impl Denial {
    /// From its number in messages; `None` for that of no denial, and for one that this version does not know.
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|denial| denial.to_proto() as i32 == number)
    }

    /// Whether the token is good for something all the same.
    pub const fn is_active(self) -> bool {
        matches!(self.http_status(), 400 | 403)
    }
}

/// What keeps a required scope from being in effect: what would have to be another for it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The token was not granted it.
    Token,
    /// The token's downscope may not exercise it.
    MaxRole,
    /// The user's role in the workspace may not: no token of theirs would help.
    Role,
}

impl Lack {
    /// In words, for people.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Token => lack_text!(Token),
            Self::MaxRole => lack_text!(MaxRole),
            Self::Role => lack_text!(Role),
        }
    }
}
