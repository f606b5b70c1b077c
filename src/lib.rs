//! Token introspection for Sophic: whose credential is this, and may it do this here?
//!
//! # Layout
//!
//! Dependencies point down this list, never up.
//!
//! - [`model`]: the nouns
pub mod decision;
pub mod model;
pub mod store;
pub mod token;
