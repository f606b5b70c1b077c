//! Flags of `status` and `replica`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

/// Flags of `status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArgs {
    /// Count and list the credentials that expire within this time, at most 366d
    #[arg(long, default_value = "7d", value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) expiring_within: Duration,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ReplicaCommand {
    /// List the servers on the store, oldest first, with those that ended within the last hour
    #[command(after_help = "Example:\n  sophic-auth replica list --output json")]
    List,
}
