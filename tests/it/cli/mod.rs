//! The program itself, as a person and a script run it.

mod commands;
mod dev;
mod ended;
mod flood;
mod killed;
mod leaked;
mod life;
mod mistakes;
mod outputs;
pub(crate) mod program;
mod records;
pub(crate) mod roles;
mod serve;
mod variables;
mod waiting;
mod which_store;
