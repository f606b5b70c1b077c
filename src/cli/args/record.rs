//! The flags of what ends many credentials at once, of the audit log and of cleaning up.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

/// Flags of `credentials revoke`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BulkRevokeArgs {
    /// Keys of this workspace, by slug or id
    #[arg(long)]
    pub(in crate::cli) workspace: Option<String>,
    /// Personal access tokens of this user
    #[arg(long)]
    pub(in crate::cli) user: Option<String>,
    /// Credentials of this family: one and all that it was rotated to
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) family: Option<String>,
    /// What this creator made: user:ID, caller:NAME or operator:NAME
    #[arg(long)]
    pub(in crate::cli) creator: Option<String>,
    /// What was made before this, as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) created_before: Option<String>,
    /// What was not used since this, or never: give --created-before too, to spare what is new
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) last_used_before: Option<String>,
    /// Tell how many there are, and show some, and end none
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, default_value = "")]
    pub(in crate::cli) reason: String,
}

/// Flags of `leaked`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LeakedArgs {
    /// What was printed or found [default: standard input]
    pub(in crate::cli) file: Option<PathBuf>,
    /// How they were found, for the audit log, where a line does not say
    #[arg(long, default_value = "")]
    pub(in crate::cli) reason: String,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AuditCommand {
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
pub(in crate::cli) struct AuditFilterArgs {
    /// Not before this, as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<String>,
    /// Before this
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) until: Option<String>,
    /// Of this caller, by name, or of operator:NAME
    #[arg(long)]
    pub(in crate::cli) caller: Option<String>,
    /// On behalf of this user
    #[arg(long, value_name = "USER")]
    pub(in crate::cli) acting_user: Option<String>,
    /// On this kind of thing: credential, workspace, user, membership, caller or audit
    #[arg(long, value_name = "KIND")]
    pub(in crate::cli) target_kind: Option<String>,
    /// On this thing, by id
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) target: Option<String>,
    /// Of this action, as key.create
    #[arg(long)]
    pub(in crate::cli) action: Option<String>,
}

/// What to clean up.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct PurgeArgs {
    /// Drop credentials that have been revoked or expired for this long; 0s: never
    #[arg(long = "purge-dead-after", visible_alias = "dead-after", help_heading = "Housekeeping", env = "SOPHIC_AUTH_PURGE_DEAD_AFTER", default_value = "90d", value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) dead_after: Duration,
    /// Drop rows of the change log that are this old and that every replica has read; 0s: never
    #[arg(long = "purge-changes-after", visible_alias = "changes-after", help_heading = "Housekeeping", env = "SOPHIC_AUTH_PURGE_CHANGES_AFTER", default_value = "7d", value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) changes_after: Duration,
}
