//! The protocol that the server and its clients share: its messages, and the words in them.
//!
//! # Layout
//!
//! - `scope`, `role`: what a credential may be used for; each scope is declared once
//! - `denial`, `challenge`: why a token is refused: name, HTTP status, text and `WWW-Authenticate`
//! - `token`: how tokens are spelled and checked
//! - `headers`: what a request presents
//! - `generated`: the messages of `proto/sophic/auth/v1`, committed, so that no build compiles protobuf
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

/// The domain of the reason in every error (`google.rpc.ErrorInfo`).
pub const ERROR_DOMAIN: &str = "auth.sophic.so";

pub use denial::{Denial, Lack};
pub use invalid::{Invalid, listed};
pub use role::Role;
pub use scope::{Scope, ScopeSet};
