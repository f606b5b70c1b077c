//! All tests that need a store or a server, in one binary. They run real servers on port 0, on SQLite and on Postgres,
//! and talk to them through the generated client or the command line. `stores.rs` creates databases, `harness.rs`
//! creates servers and actors.

#![expect(
    clippy::pedantic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests may be verbose, spawn tasks that they await, and print figures"
)]

mod cli;
mod client;
mod docs;
mod edges;
mod faces;
mod faults;
mod grpc;
mod harness;
mod house;
mod house_tests;
mod proxy;
mod python;
mod simulation;
mod store;
mod stores;
mod transfer;
mod waits;
