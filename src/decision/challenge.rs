//! The `WWW-Authenticate` header (RFC 6750 §3) of each refusal: constant text, so that no answer formats any.

use super::Denial;
use crate::model::ScopeSet;

/// What to send with the refusal; `required` are the scopes that were asked for.
pub fn www_authenticate(denial: Denial, required: ScopeSet) -> &'static str {
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
        Denial::InsufficientScope => INSUFFICIENT_SCOPE[usize::from(required.bits() & 0b111)],
        // RFC 6750 §3.1 wants no error code where no token was presented, and has none for the others: the token is
        // good, and no other token of its kind would help.
        Denial::TokenMissing
        | Denial::IpNotAllowed
        | Denial::WorkspaceMismatch
        | Denial::NotAMember
        | Denial::UserCredentialRequired => r#"Bearer realm="sophic""#,
    }
}

macro_rules! insufficient_scope {
    ($scopes:literal) => {
        concat!(
            r#"Bearer realm="sophic", error="insufficient_scope", error_description="the token lacks a required scope", scope=""#,
            $scopes,
            '"'
        )
    };
}

/// By the bits of the required scopes.
const INSUFFICIENT_SCOPE: [&str; 8] = [
    // Where none was required none can be lacking; RFC 6750 has no empty list, so none is written.
    r#"Bearer realm="sophic", error="insufficient_scope", error_description="the token lacks a required scope""#,
    insufficient_scope!("read"),
    insufficient_scope!("capture"),
    insufficient_scope!("read capture"),
    insufficient_scope!("admin"),
    insufficient_scope!("read admin"),
    insufficient_scope!("capture admin"),
    insufficient_scope!("read capture admin"),
];
