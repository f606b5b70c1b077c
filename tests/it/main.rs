//! Every test that needs a store or a server: one binary. Real servers on port 0, on SQLite and on Postgres, spoken to
//! through the generated client or the program itself. `stores.rs` makes databases, `harness.rs` servers and actors.

mod cli;
mod faces;
mod grpc;
mod harness;
mod house;
mod store;
mod stores;
mod transfer;
