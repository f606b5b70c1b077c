//! The conformance suite: what a store must do, each case on both databases.

mod audit;
mod callers;
mod changes;
mod credentials;
mod directory;
mod feed;
mod files;
mod hosts;
mod life;
mod listing;
mod many;
mod migrations;
mod names;
mod opening;
mod pages;
mod plans;
pub(crate) mod raw;
mod retention;
mod samples;
mod shell;
mod transactions;
mod transfer;
mod untold;
