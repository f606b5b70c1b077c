//! The protocol that the server and its clients share.
//!
//! # Layout
//!
//! - `generated`: the messages of `proto/sophic/auth/v1`, committed, so that nobody compiles protobuf to use this crate

/// The messages of package `sophic.auth.v1`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto has the documentation"
)]
pub mod pb {
    include!("generated/sophic.auth.v1.rs");
}
