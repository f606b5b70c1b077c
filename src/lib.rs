//! Token introspection for Sophic: whose credential is this, and may it do this here?
//!
//! # Layout
//!
//! Dependencies point down this list, never up (`tests/it/house.rs` holds it).
//!
//! - [`cli`]: the command line
//! - [`server`]: assembly: a configuration becomes listeners, services and a store
//! - [`grpc`], [`http`]: the faces, thin translations of `service`
//! - [`proxied`]: what both faces say to a proxy that asks about a request
//! - [`service`]: use cases, one file or folder per noun
//! - [`cache`]: the seam between `service` and `store` where answers from memory come in
//! - [`store`]: one trait, two databases
//! - [`decision`], [`policy`]: who may what; pure
//! - [`token`]: how tokens are spelled, made and checked
//! - [`model`]: the nouns

pub mod cache;
pub mod cli;
pub mod decision;
pub mod grpc;
pub mod http;
pub mod model;
pub mod policy;
pub mod proxied;
pub mod server;
pub mod service;
pub mod store;
pub mod token;
