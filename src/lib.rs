//! x
pub mod cache;
pub mod cli;
pub mod decision;
pub mod grpc;
mod http;
pub mod model;
pub mod policy;
pub mod server;
pub mod service;
pub mod store;
pub mod token;
