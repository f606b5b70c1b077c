//! Connections: accepting them, and limits on their number, age, headers and reads.

mod connection_limit;
mod delegate_writes;
mod frames;
mod header_budget;
mod header_limit;
mod listener;
mod read_limit;

pub(super) use listener::{ConnectionLimits, Connections, Protocol};
