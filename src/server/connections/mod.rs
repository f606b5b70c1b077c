//! Connections: accepting them and keeping them within bounds.

mod greeting;
mod header_room;
mod listened;
mod listener;
mod room;
mod turns;
mod writes;

pub(super) use listener::{ConnectionLimits, Connections, Protocol};
