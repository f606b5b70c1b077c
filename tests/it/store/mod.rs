//! The conformance suite: what a store must do, each case on both databases.

mod opening;
mod replicas;
mod transfer;
