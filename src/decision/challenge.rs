//! The `WWW-Authenticate` header (RFC 6750 §3) of each refusal: constant text, so that no answer formats any.

use super::{Decision, Denial, Lack};
use crate::model::ScopeSet;

/// What to send with the refusal, empty when allowed; `required` are the scopes that were asked for.
pub fn www_authenticate(decision: &Decision, required: ScopeSet) -> &'static str {
    let Some(denial) = decision.denial else { return "" };
    match denial {
        Denial::TokenUnknown => {
            r#"Bearer realm="sophic", error="invalid_token", error_description="the token is not known""#
        }
        Denial::TokenRevoked => {
            r#"Bearer realm="sophic", error="invalid_token", error_description="the token was revoked""#
        }
        Denial::TokenExpired => {
            r#"Bearer realm="sophic", error="invalid_token", error_description="the token has expired""#
        }
        Denial::TokenDisabled => {
            r#"Bearer realm="sophic", error="invalid_token", error_description="the token is disabled""#
        }
        Denial::PrincipalDisabled => {
            r#"Bearer realm="sophic", error="invalid_token", error_description="the token's user or workspace is disabled""#
        }
        Denial::WorkspaceRequired => {
            r#"Bearer realm="sophic", error="invalid_request", error_description="a personal access token needs a workspace: send x-sophic-workspace""#
        }
        Denial::InsufficientScope => {
            let texts = match decision.lack {
                None | Some(Lack::Token) => &TOKEN_LACKS,
                Some(Lack::MaxRole) => &MAX_ROLE_LACKS,
                Some(Lack::Role) => &ROLE_LACKS,
            };
            texts[usize::from(required.bits() & 0b111)]
        }
        // RFC 6750 §3.1 wants no error code where no token was presented, and has none for the others: the token is
        // good, and no other token of its kind would help; or nothing is known of it.
        Denial::TokenMissing
        | Denial::IpNotAllowed
        | Denial::WorkspaceMismatch
        | Denial::NotAMember
        | Denial::UserCredentialRequired
        | Denial::UnknownTokensTooMany => r#"Bearer realm="sophic""#,
    }
}

/// By the bits of the required scopes. Where none was required none can be lacking; RFC 6750 has no empty list, so none is
/// written.
macro_rules! insufficient_scope {
    ($description:literal) => {
        [
            insufficient_scope!($description, ""),
            insufficient_scope!($description, r#", scope="read""#),
            insufficient_scope!($description, r#", scope="capture""#),
            insufficient_scope!($description, r#", scope="read capture""#),
            insufficient_scope!($description, r#", scope="admin""#),
            insufficient_scope!($description, r#", scope="read admin""#),
            insufficient_scope!($description, r#", scope="capture admin""#),
            insufficient_scope!($description, r#", scope="read capture admin""#),
        ]
    };
    ($description:literal, $scope:literal) => {
        concat!(
            r#"Bearer realm="sophic", error="insufficient_scope", error_description=""#,
            $description,
            '"',
            $scope
        )
    };
}

const TOKEN_LACKS: [&str; 8] = insufficient_scope!("the token lacks a required scope");
const MAX_ROLE_LACKS: [&str; 8] =
    insufficient_scope!("the token's max_role does not allow a required scope");
const ROLE_LACKS: [&str; 8] =
    insufficient_scope!("the user's role in this workspace does not allow a required scope");
