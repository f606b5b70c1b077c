//! The program as people and scripts run it.

mod audit_log;
mod commands;
mod dev;
mod ended;
mod explain;
mod flood;
mod json_lines;
mod killed;
mod leaked;
mod lifecycle;
mod misplaced;
mod mistakes;
mod outputs;
pub(crate) mod program;
mod records;
pub(crate) mod roles;
mod serve;
mod store_wait;
mod variables;
mod which_store;
mod wrong_store;
