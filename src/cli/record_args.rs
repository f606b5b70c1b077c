//! The flags of what ends many credentials at once, of the audit log and of cleaning up.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::args::duration;

/// Flags of `credentials revoke`.
#[derive(Debug, Args)]
pub(super) struct BulkRevokeArgs {
    /// Keys of this workspace, by slug or id
    #[arg(long)]
    pub(super) workspace: Option<String>,
    /// Personal access tokens of this user
    #[arg(long)]
    pub(super) user: Option<String>,
    /// Credentials of this family: one and all that it was rotated to
    #[arg(long, value_name = "ID")]
    pub(super) family: Option<String>,
    /// What this creator made: user:ID, caller:NAME or operator:NAME
    #[arg(long)]
    pub(super) creator: Option<String>,
    /// What was made before this, as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(super) created_before: Option<String>,
    /// What was not used since this, or never: give --created-before too, to spare what is new
    #[arg(long, value_name = "TIME")]
    pub(super) last_used_before: Option<String>,
    /// Tell how many there are, and show some, and end none
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    pub(super) reason: String,
}

/// Flags of `leaked`.
#[derive(Debug, Args)]
pub(super) struct LeakedArgs {
    /// Where the list is [default: standard input]
    pub(super) file: Option<PathBuf>,
    /// How they were found, for the audit log, where a line does not say
    #[arg(long, default_value = "")]
    pub(super) reason: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List events, oldest first
    List {
        #[command(flatten)]
        filter: AuditFilterArgs,
        /// How many at the most, up to 1000
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Print all events as JSON, one a line, oldest first
    Export {
        #[command(flatten)]
        filter: AuditFilterArgs,
    },
    /// Retention: drop old events for good; the log records that too
    #[command(after_help = "Example:\n  sophic-auth audit purge --older-than 400d")]
    Purge {
        /// How old
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        older_than: Duration,
    },
}

/// Which audit events.
#[derive(Debug, Args)]
pub(super) struct AuditFilterArgs {
    /// Not before this, as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Before this
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Of this caller, by name, or of operator:NAME
    #[arg(long)]
    pub(super) caller: Option<String>,
    /// On behalf of this user
    #[arg(long, value_name = "USER")]
    pub(super) acting_user: Option<String>,
    /// On this kind of thing: credential, workspace, user, membership, caller or audit
    #[arg(long, value_name = "KIND")]
    pub(super) target_kind: Option<String>,
    /// On this thing, by id
    #[arg(long, value_name = "ID")]
    pub(super) target: Option<String>,
    /// Of this action, as key.create
    #[arg(long)]
    pub(super) action: Option<String>,
}

/// What to clean up.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct PurgeArgs {
    /// Drop credentials that have been revoked or expired for this long; 0s: never
    #[arg(long = "purge-dead-after", visible_alias = "dead-after", help_heading = "Housekeeping", env = "SOPHIC_AUTH_PURGE_DEAD_AFTER", default_value = "90d", value_parser = duration, value_name = "DURATION")]
    pub(super) dead_after: Duration,
    /// Drop rows of the change log that are this old and that every replica has read; 0s: never
    #[arg(long = "purge-changes-after", visible_alias = "changes-after", help_heading = "Housekeeping", env = "SOPHIC_AUTH_PURGE_CHANGES_AFTER", default_value = "7d", value_parser = duration, value_name = "DURATION")]
    pub(super) changes_after: Duration,
}
