//! Flags of bulk revocation, leaked tokens, the audit log and purging.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};

use super::{duration, positive};
use crate::model::TargetKind;
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
    /// List audit events, or follow the log
    #[command(after_help = AUDIT_LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        filter: AuditFilterArgs,
        #[command(flatten)]
        follow: FollowArgs,
        /// Maximum number of events to list, from 1 to 1000. With --follow, that of one page
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(PAGE_SIZE_MAX)))]
        limit: u16,
    },
    /// Print all audit events as JSON lines, oldest first
    #[command(
        after_help = "Example:\n  sophic-auth audit export --since 2027-01-01T00:00:00Z > audit.jsonl"
    )]
    Export {
        #[command(flatten)]
        filter: AuditFilterArgs,
    },
    /// Erase a deleted user: their name, the texts and addresses of their personal access tokens, and what the audit log says
    /// of them in free text. Ids and times stay. It is itself recorded as an event. Repeat it after a failure, and a
    /// minute after the user was deleted, when servers have written the last uses
    #[command(
        after_help = "Example:\n  sophic-auth user delete ada\n  sophic-auth audit redact-user ada"
    )]
    RedactUser {
        /// Id of the user, who must be deleted
        user: String,
    },
    /// Delete old audit events for good. The purge is itself recorded as an event
    #[command(after_help = "Example:\n  sophic-auth audit purge --older-than 400d")]
    Purge {
        /// Delete events that are older than this, such as 400d
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        older_than: Duration,
    },
}

const AUDIT_LIST_EXAMPLES: &str = "Examples:
  sophic-auth audit list --action key.create --order newest
  sophic-auth audit list --workspace acme --acting-user ada
  sophic-auth audit list --follow --state-file collector.state --output json";

/// Order of a list of audit events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum AuditOrderArg {
    /// By time of the call
    Oldest,
    /// By time of the call, the newest first
    Newest,
    /// As they were committed, so that --resume-token misses nothing
    Commit,
}

/// How to read the log while it grows.
#[derive(Debug, Args)]
pub(in crate::cli) struct FollowArgs {
    /// Sort order
    #[arg(long, value_enum, default_value_t = AuditOrderArg::Oldest)]
    pub(in crate::cli) order: AuditOrderArg,
    /// Print events as they come, each exactly once, until a signal ends the command. Implies --order commit
    #[arg(long, conflicts_with = "order")]
    pub(in crate::cli) follow: bool,
    /// Continue after the page that printed this token. Needs --follow or --order commit
    #[arg(long, value_name = "TOKEN")]
    pub(in crate::cli) resume_token: Option<String>,
    /// File with the resume token: read at the start, and written after each page was printed. Needs --follow
    #[arg(long, value_name = "FILE", requires = "follow", conflicts_with = "resume_token")]
    pub(in crate::cli) state_file: Option<PathBuf>,
    /// Pause of --follow when there are no more events
    #[arg(long, default_value = "1s", value_parser = positive, value_name = "DURATION")]
    pub(in crate::cli) poll: Duration,
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
    /// Only events of calls on behalf of this user, by id
    #[arg(long, value_name = "USER")]
    pub(in crate::cli) filter_acting_user: Option<String>,
    /// Only what this user may read, by id: with --workspace, as its owner; without, of their personal access tokens
    #[arg(long, value_name = "USER")]
    pub(in crate::cli) acting_user: Option<String>,
    /// Only events about this workspace, its keys and its memberships, by slug or id
    #[arg(long)]
    pub(in crate::cli) workspace: Option<String>,
    /// Only events with this kind of target
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(TargetKind::ALL.map(TargetKind::as_str)))]
    pub(in crate::cli) target_kind: Option<String>,
    /// Only events with this target, by id
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) target: Option<String>,
    /// Only events with this action, such as key.create. Earlier names of an action find the same events
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
