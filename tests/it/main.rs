//! Every test that needs a store or a server: one binary. Real servers on port 0, on SQLite and on Postgres, spoken to
//! through the generated client or the program itself. `stores.rs` makes databases, `harness.rs` servers and actors.

mod cli;
mod client;
mod faces;
mod faults;
mod grpc;
mod harness;
mod house;
mod proxy;
mod simulation;
mod store;
mod stores;
mod transfer;
