//! The protocol that the server and its clients share: messages, tokens, scopes, roles and denials.
//!
//! # Layout
//!
//! - `scope`, `role`: what a credential may be used for
//! - `denial`, `challenge`: why a token is refused, with its HTTP status, text and `WWW-Authenticate` header
//! - `token`: the format of tokens and their check characters
//! - `headers`: reading the token and the workspace of a request
//! - `generated`: the messages of `proto/sophic/auth/v1`. They are committed, so that no build compiles protobuf
//!
//! Everything is pure: no I/O, no clock, no randomness.

mod challenge;
mod denial;
pub mod headers;
mod invalid;
mod role;
mod scope;
pub mod token;

/// The messages of package `sophic.auth.v1`.
#[expect(clippy::pedantic, reason = "generated; the proto has the documentation")]
pub mod pb {
    include!("generated/sophic.auth.v1.rs");
}

/// Domain of the reasons in `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "auth.sophic.so";

pub use denial::{Denial, Lack};
pub use invalid::{Invalid, join_names};
pub use role::Role;
pub use scope::{Scope, ScopeSet};
