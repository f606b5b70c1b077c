//! Token introspection for Sophic: finds the owner of a credential and decides whether a request is allowed.
//!
//! # Layout
//!
//! A module depends only on modules below it in this list. `tests/it/house.rs` enforces that.
//!
//! - [`cli`]: the command line
//! - [`server`]: assembly of listeners, services and a store from a configuration
//! - [`grpc`], [`http`]: the faces, which translate requests for `service`
//! - [`proxied`]: the answer to a proxy that asks about a request, shared by both faces
//! - [`service`]: use cases, one file or directory per noun
//! - [`cache`]: answers from memory, between `service` and `store`
//! - [`store`]: storage in SQLite or Postgres
//! - [`decision`], [`policy`]: pure functions that decide what is allowed
//! - [`token`]: format, generation and checking of tokens
//! - [`model`]: the domain types

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
