//! Flags of bulk revocation, leaked tokens, the audit log and purging.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;
use crate::model::limits::PAGE_SIZE_MAX;
use crate::server::defaults;

/// Flags of `credentials revoke`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BulkRevokeArgs {
    /// Only keys of this workspace, by slug or id
    #[arg(long)]
    pub(in crate::cli) workspace: Option<String>,
    /// Only personal access tokens of this user, by id
    #[arg(long)]
    pub(in crate::cli) user: Option<String>,
    /// Only credentials of this family: a credential and its successors by rotation
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) family: Option<String>,
    /// Only credentials created by user:ID, caller:NAME or operator:NAME
    #[arg(long)]
    pub(in crate::cli) creator: Option<String>,
    /// Only credentials created before this time, such as 2027-01-31T12:00:00Z. A server's clock may be a second
    /// ahead: to include all that exist now, add a second to the present time or omit this
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) created_before: Option<String>,
    /// Only credentials that were last used before this time, or never used. To spare new credentials, also
    /// give --created-before
    #[arg(long, value_name = "TIME", conflicts_with = "unused_for")]
    pub(in crate::cli) last_used_before: Option<String>,
    /// Only credentials that are at least this old, such as 90d, and were not used for this long
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) unused_for: Option<Duration>,
    /// Print the number of matching credentials and a sample, and revoke none
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Act on behalf of this user, by id. Requires --workspace, of which they must be an admin or owner, or --user with
    /// the same id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "USER")]
    pub(in crate::cli) acting_user: String,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    pub(in crate::cli) reason: String,
}

/// Flags of `leaked`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LeakedArgs {
    /// File to search for tokens [default: standard input]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Reason, for the audit log, unless the input has a field `reason`
    #[arg(long, default_value = "")]
    pub(in crate::cli) reason: String,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AuditCommand {
    /// List audit events, oldest first
    List {
        #[command(flatten)]
        filter: AuditFilterArgs,
        /// Maximum number of events to list, from 1 to 1000
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(PAGE_SIZE_MAX)))]
        limit: u16,
    },
    /// Print all audit events as JSON lines, oldest first
    Export {
        #[command(flatten)]
        filter: AuditFilterArgs,
    },
    /// Delete old audit events for good. The purge is itself recorded as an event
    #[command(after_help = "Example:\n  sophic-auth audit purge --older-than 400d")]
    Purge {
        /// Delete events that are older than this, such as 400d
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        older_than: Duration,
    },
}

/// Filters of audit events.
#[derive(Debug, Args)]
pub(in crate::cli) struct AuditFilterArgs {
    /// Only events at or after this time, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<String>,
    /// Only events before this time
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) until: Option<String>,
    /// Only events of this caller, by name, or of operator:NAME
    #[arg(long)]
    pub(in crate::cli) caller: Option<String>,
    /// Only events on behalf of this user, by id
    #[arg(long, value_name = "USER")]
    pub(in crate::cli) acting_user: Option<String>,
    /// Only events with this kind of target: credential, workspace, user, membership, caller, audit or store
    #[arg(long, value_name = "KIND")]
    pub(in crate::cli) target_kind: Option<String>,
    /// Only events with this target, by id
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) target: Option<String>,
    /// Only events with this action, such as key.create
    #[arg(long)]
    pub(in crate::cli) action: Option<String>,
}

/// Retention of credentials and of the change log.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct PurgeArgs {
    /// Delete credentials that have been revoked or expired for this long. 0s keeps them for ever
    #[arg(long = "purge-dead-after", visible_alias = "dead-after", help_heading = "Housekeeping", env = "SOPHIC_AUTH_PURGE_DEAD_AFTER", default_value = defaults::PURGE_DEAD_AFTER.text, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) dead_after: Duration,
    /// Delete rows of the change log that are this old and that every replica has applied. 0s keeps them for ever
    #[arg(long = "purge-changes-after", visible_alias = "changes-after", help_heading = "Housekeeping", env = "SOPHIC_AUTH_PURGE_CHANGES_AFTER", default_value = defaults::PURGE_CHANGES_AFTER.text, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) changes_after: Duration,
}
