//! The reasons why a presented token is refused.

use crate::challenge::{challenge, lack_text};
use crate::pb;

/// Declares the denials. A row has the variant, which is also that of the protocol's enum; the name in the proto
/// without its prefix; the HTTP status; the explanation; and optionally the error code of the challenge (RFC 6750
/// §3.1).
macro_rules! denials {
    ($($(#[$doc:meta])+ $variant:ident, $name:literal, $status:literal, $explanation:literal $(, $error:literal)?;)+) => {
        /// Why a presented token may not do what the request needs: the first row of the decision table that applies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Denial {
            $($(#[$doc])+ $variant,)+
        }

        impl Denial {
            /// All denials, in the order of the table.
            pub const ALL: [Self; [$($status),+].len()] = [$(Self::$variant),+];

            /// HTTP status of the answer to the client.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Name in the proto, without the prefix.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Explanation for people. For a scope that is not in effect, [`Lack`] has a more precise one.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)+ }
            }

            /// Value in the proto.
            pub const fn to_proto(self) -> pb::Denial {
                match self { $(Self::$variant => pb::Denial::$variant,)+ }
            }

            /// The challenge without a `scope` parameter.
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
    /// Row 2: malformed, wrong check characters, or unknown. All three get the same answer.
    TokenUnknown, "TOKEN_UNKNOWN", 401, "the token is not known", "invalid_token";
    /// Row 3: revoked, individually or with all credentials of its owner.
    TokenRevoked, "TOKEN_REVOKED", 401, "the token was revoked", "invalid_token";
    /// Row 3: past its expiry.
    TokenExpired, "TOKEN_EXPIRED", 401, "the token has expired", "invalid_token";
    /// Row 3: disabled.
    TokenDisabled, "TOKEN_DISABLED", 401, "the token is disabled", "invalid_token";
    /// Row 4: the personal access token's user, or the key's workspace, is disabled.
    PrincipalDisabled, "PRINCIPAL_DISABLED", 401,
        "the token's user or workspace is disabled", "invalid_token";
    /// Row 5: the client's address is absent or outside the allowlist.
    IpNotAllowed, "IP_NOT_ALLOWED", 403, "the token may not be used from this address";
    /// Row 6: a key, and the request names another workspace.
    WorkspaceMismatch, "WORKSPACE_MISMATCH", 403, "the key belongs to another workspace";
    /// Row 7: a personal access token, and the request names no workspace.
    WorkspaceRequired, "WORKSPACE_REQUIRED", 400,
        "a personal access token needs a workspace: send x-sophic-workspace", "invalid_request";
    /// Row 8: the workspace is unknown or disabled, or the user is not a member. All three get the same answer.
    NotAMember, "NOT_A_MEMBER", 403, "the user is not a member of this workspace";
    /// Row 9: the personal access token is limited to other workspaces.
    WorkspaceNotGranted, "WORKSPACE_NOT_GRANTED", 403,
        "the personal access token is limited to other workspaces";
    /// Row 10: the workspace's policy does not permit the personal access token, or its owners have barred it.
    PatNotPermitted, "PAT_NOT_PERMITTED", 403,
        "the workspace does not permit this personal access token";
    /// Row 11: capture is required, which needs a user, and the credential is a key.
    UserCredentialRequired, "USER_CREDENTIAL_REQUIRED", 403,
        "this needs a user: use a personal access token, not a key";
    /// Row 12: a required scope is not in effect.
    InsufficientScope, "INSUFFICIENT_SCOPE", 403, "a required scope is not in effect";
    /// No row: the token was not looked up, because too many unknown tokens came before it. This says nothing about the
    /// token. It occurs only in a batch, where the other tokens have their answers. A single introspection fails
    /// instead.
    UnknownTokensTooMany, "UNKNOWN_TOKENS_TOO_MANY", 429,
        "the token was not looked up, because too many unknown tokens came before it";
}

impl Denial {
    /// Converts the number in a message. `None` for `DENIAL_UNSPECIFIED` and for unknown numbers.
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|denial| denial.to_proto() as i32 == number)
    }

    /// Whether the token is active, although this request is denied.
    pub const fn is_active(self) -> bool {
        matches!(self.http_status(), 400 | 403)
    }
}

/// Why a required scope is not in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The token was not granted the scope.
    Token,
    /// The token's `max_role` does not allow the scope.
    MaxRole,
    /// The user's role in the workspace does not allow the scope, so no token of the user would help.
    Role,
}

impl Lack {
    /// Explanation for people.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Token => lack_text!(Token),
            Self::MaxRole => lack_text!(MaxRole),
            Self::Role => lack_text!(Role),
        }
    }
}
