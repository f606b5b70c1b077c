//! The flags of `key`, `pat` and `credentials`.

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};

use super::record::BulkRevokeArgs;
use super::{IntrospectArgs, at_least_one, duration};
use crate::model::{CredentialKind, Role, Scope};

/// Flags of `create`, for keys and personal access tokens.
#[derive(Debug, Args)]
pub(in crate::cli) struct NewCredential {
    /// Name of the credential
    #[arg(long)]
    pub(in crate::cli) name: String,
    #[arg(
        long = "scope",
        required = true,
        value_name = "SCOPE",
        help = format!("Scope to grant: {}. Repeatable", Scope::join_names(" or "))
    )]
    pub(in crate::cli) scopes: Vec<Scope>,
    #[command(flatten)]
    pub(in crate::cli) expiration: ExpirationArgs,
    /// CIDR or address from which the token may be used. Repeatable [default: any address]
    #[arg(long = "allow-ip", value_name = "CIDR")]
    pub(in crate::cli) ip_allowlist: Vec<String>,
    /// Annotation, such as team=search. Repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(in crate::cli) annotations: Vec<String>,
    /// UUID that makes retries safe: within 24 hours, the same command with the same id creates no second credential
    #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
    pub(in crate::cli) request_id: String,
}

/// When the credential expires.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExpirationArgs {
    /// Time from now until the credential expires, such as 90d or 12h
    #[arg(long, value_parser = duration, value_name = "DURATION", conflicts_with = "expire_time")]
    pub(in crate::cli) ttl: Option<Duration>,
    /// Time at which the credential expires, such as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expire_time: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// Create an API key for a workspace and print its token. The token cannot be shown again
    #[command(
        after_help = "Example:\n  sophic-auth key create --workspace acme --name ci --scope read --ttl 90d --output token"
    )]
    Create {
        /// Slug or id of the workspace
        #[arg(long)]
        workspace: String,
        #[command(flatten)]
        new: NewCredential,
    },
    /// List API keys
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only keys of this workspace, by slug or id
        #[arg(long)]
        workspace: Option<String>,
        #[command(flatten)]
        filter: ListArgs,
    },
    #[command(flatten)]
    Lifecycle(LifecycleCommand),
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PatCommand {
    /// Create a personal access token for a user and print it. The token cannot be shown again
    #[command(after_help = PAT_CREATE_EXAMPLES)]
    Create {
        /// Id of the user
        #[arg(long)]
        user: String,
        #[arg(
            long,
            value_name = "ROLE",
            help = format!(
                "Highest role that the token may act in: {} [default: no limit]",
                Role::join_names(" or ")
            )
        )]
        max_role: Option<Role>,
        /// Slug or id of a workspace to which the token is limited. Repeatable. The limit can be narrowed later, but never
        /// widened [default: all workspaces of the user]
        #[arg(long = "workspace", value_name = "WORKSPACE")]
        workspaces: Vec<String>,
        #[command(flatten)]
        new: NewCredential,
    },
    /// List personal access tokens
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only tokens of this user, by id
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        filter: ListArgs,
    },
    #[command(flatten)]
    Lifecycle(LifecycleCommand),
}

/// Commands on one existing key or personal access token.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LifecycleCommand {
    /// Show a credential, and if it has ended, since when and by whom
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Id of the credential. '-' reads its token from standard input
        id: String,
    },
    /// Change the name, annotations or allowed addresses, remove scopes, limit a personal access token to fewer workspaces,
    /// or bring the expiry forward
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(UpdateArgs),
    /// Disable a credential until it is enabled again, and wait until no server accepts it
    #[command(
        after_help = "Example:\n  sophic-auth key disable 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --reason \"seen from a strange address\""
    )]
    Disable(SwitchArgs),
    /// Enable a disabled credential
    #[command(
        after_help = "Example:\n  sophic-auth key enable 0195f2d4-7c1e-7b3a-9d58-0242ac120002"
    )]
    Enable(SwitchArgs),
    /// Replace a credential: create a successor, print its token, and end the old one after an overlap. Waits until
    /// every server knows when the overlap ends
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(RotateArgs),
    /// Revoke a credential for good, and wait until no server accepts it. If a server has crashed, that takes up to its
    /// lease and 7 %. Exit code 3: revoked, but not every server has confirmed it
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CredentialsCommand {
    /// Revoke every credential that matches all given filters, and wait until no server accepts any of them. At least
    /// one filter is required
    #[command(
        after_help = BULK_REVOKE_EXAMPLES
    )]
    Revoke(BulkRevokeArgs),
    /// List keys and personal access tokens
    #[command(after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        owner: OwnerArgs,
        #[command(flatten)]
        filter: ListArgs,
    },
    /// List credentials that expire soon and are neither expired nor revoked yet, soonest first. Exit code 0: none; 1:
    /// at least one; 2: the command failed
    #[command(after_help = EXPIRING_EXAMPLES)]
    Expiring {
        /// Only credentials that expire within this time from now, such as 14d
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        within: Duration,
        #[command(flatten)]
        owner: OwnerArgs,
    },
}

/// Filters by owner.
#[derive(Debug, Args)]
pub(in crate::cli) struct OwnerArgs {
    /// Only keys of this workspace, by slug or id
    #[arg(long)]
    pub(in crate::cli) workspace: Option<String>,
    /// Only personal access tokens of this user
    #[arg(long, conflicts_with = "workspace")]
    pub(in crate::cli) user: Option<String>,
    /// Only credentials of this kind
    #[arg(long)]
    pub(in crate::cli) kind: Option<CredentialKind>,
}

/// Filters and order of a list.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only credentials in this state
    #[arg(long)]
    pub(in crate::cli) state: Option<StateArg>,
    /// Only credentials created by user:ID, caller:NAME or operator:NAME
    #[arg(long, value_name = "CREATOR")]
    pub(in crate::cli) creator: Option<String>,
    #[arg(
        long,
        help = format!("Only credentials with this scope: {}", Scope::join_names(" or "))
    )]
    pub(in crate::cli) scope: Option<Scope>,
    /// Only credentials that expire before this time, such as 2027-01-31T12:00:00Z, and are neither expired nor revoked
    /// yet
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expires_before: Option<String>,
    /// Only credentials that expire within this time from now, such as 14d, and are neither expired nor revoked yet
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) expiring_within: Option<Duration>,
    /// Only credentials that were last used before this time, or never used
    #[arg(long, value_name = "TIME", conflicts_with = "unused_for")]
    pub(in crate::cli) unused_since: Option<String>,
    /// Only credentials that were last used this long ago or longer, such as 90d, or never used
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) unused_for: Option<Duration>,
    /// Only credentials whose name starts with this text. Case-sensitive
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) name_prefix: Option<String>,
    /// Only credentials of this family: a credential and its successors by rotation
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) family: Option<String>,
    /// Sort order
    #[arg(long, default_value = "oldest")]
    pub(in crate::cli) order: OrderArg,
    /// Maximum number of credentials to list [default: all]
    #[arg(long, value_parser = at_least_one::<usize>, value_name = "N")]
    pub(in crate::cli) limit: Option<usize>,
}

impl ValueEnum for CredentialKind {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StateArg {
    Active,
    Disabled,
    Expired,
    Revoked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OrderArg {
    /// By creation time, oldest first
    Oldest,
    /// By creation time, newest first
    Newest,
    /// By last use: never used first, then longest ago
    LastUse,
    /// By expiry, soonest first. Omits credentials that never expire
    Expiry,
}

const PAT_CREATE_EXAMPLES: &str = "\
Examples:
  sophic-auth pat create --user ada --name laptop --scope read --max-role viewer --output token
  sophic-auth pat create --user ada --name ci --scope read --workspace acme --ttl 90d --output token";

const LIST_EXAMPLES: &str = "\
Examples:
  sophic-auth credentials list --state active --unused-for 90d --order last-use
  sophic-auth key list --workspace acme --name-prefix ci- --output json
  sophic-auth pat list --user ada --state revoked";

const BULK_REVOKE_EXAMPLES: &str = "\
Examples:
  sophic-auth credentials revoke --workspace acme --created-before 2027-01-01T00:00:00Z --dry-run
  sophic-auth credentials revoke --workspace acme --unused-for 90d --acting-user ada
  sophic-auth credentials revoke --workspace acme --creator user:bob --reason \"bob has left\"";

const EXPIRING_EXAMPLES: &str = "\
Example, for a nightly job:
  sophic-auth credentials expiring --within 14d --output json > expiring.json
  case $? in 1) mail-owners < expiring.json;; 2) page-somebody;; esac";

const SHOW_EXAMPLES: &str = "\
Examples:
  sophic-auth key show 0195f2d4-7c1e-7b3a-9d58-0242ac120002
  printf '%s' \"$TOKEN\" | sophic-auth pat show -";

pub(in crate::cli) const EXPLAIN_EXAMPLES: &str = "\
Examples:
  sophic-auth explain 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --workspace acme --scope read --client-ip 203.0.113.7
  printf '%s' \"$TOKEN\" | sophic-auth explain - --workspace acme --scope capture --output json";

const REVOKE_EXAMPLES: &str = "\
Examples:
  sophic-auth key revoke 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --reason \"left in a public repository\"
  printf '%s' \"$TOKEN\" | sophic-auth key revoke -";

const ROTATE_EXAMPLES: &str = "\
Examples:
  sophic-auth key rotate 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --overlap 1d --output token
  sophic-auth pat rotate 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --ttl 30d";

const UPDATE_EXAMPLES: &str = "\
Examples:
  sophic-auth key update 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --name ci --allow-ip 203.0.113.0/24
  sophic-auth pat update 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --scope read --ttl 7d
  sophic-auth pat update 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --workspace acme";

/// Flags of `explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// Id of the credential. '-' reads its token from standard input
    pub(in crate::cli) credential: String,
    #[command(flatten)]
    pub(in crate::cli) asked: IntrospectArgs,
    /// Explain on behalf of this user, by id: only a credential that they may manage
    #[arg(long, default_value = "", hide_default_value = true, value_name = "USER")]
    pub(in crate::cli) acting_user: String,
}

/// Flags of `revoke`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RevokeArgs {
    /// Id of the credential. '-' reads its token from standard input
    pub(in crate::cli) credential: String,
    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) reason: String,
    /// Has no effect: imported tokens are always looked up. Kept for existing scripts
    #[arg(long = "accept-imported-tokens", hide = true)]
    _accept_imported_tokens: bool,
}

/// Flags of `disable` and `enable`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwitchArgs {
    /// Id of the credential
    pub(in crate::cli) id: String,
    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) reason: String,
}

/// Flags of `rotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateArgs {
    /// Id of the credential
    pub(in crate::cli) id: String,
    /// How long the old token stays valid, such as 1d, but never beyond its expiry [default: the minimum that the
    /// workspace's policy requires, or 0s]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) overlap: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) expiration: ExpirationArgs,
    /// UUID that makes retries safe: within 24 hours, the same command with the same id creates no second successor
    #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
    pub(in crate::cli) request_id: String,
    /// Fail unless the credential still has this etag, with or without its quotes
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) etag: String,
}

/// The changes that `update` makes. At least one is required.
#[derive(Debug, Args)]
#[group(id = "changes", required = true, multiple = true)]
pub(in crate::cli) struct Changes {
    /// New name
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// Scope to keep, out of those that the credential has. Repeatable
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(in crate::cli) scopes: Vec<Scope>,
    /// Workspace to which a personal access token is limited from now on, by slug or id. A token that is limited already
    /// keeps those that are named. Repeatable
    #[arg(long = "workspace", value_name = "WORKSPACE")]
    pub(in crate::cli) workspaces: Vec<String>,
    /// New time from now until the credential expires. Must be earlier than the current expiry
    #[arg(long, value_parser = duration, value_name = "DURATION", conflicts_with = "expire_time")]
    pub(in crate::cli) ttl: Option<Duration>,
    /// New time at which the credential expires. Must be earlier than the current expiry
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expire_time: Option<String>,
    /// CIDR or address from which the token may be used. Replaces the whole list. Repeatable
    #[arg(long = "allow-ip", value_name = "CIDR")]
    pub(in crate::cli) ip_allowlist: Vec<String>,
    /// Allow any client address
    #[arg(long, conflicts_with = "ip_allowlist")]
    pub(in crate::cli) allow_any_ip: bool,
    /// Annotation. Replaces all annotations. Repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(in crate::cli) annotations: Vec<String>,
    /// Remove all annotations
    #[arg(long, conflicts_with = "annotations")]
    pub(in crate::cli) no_annotations: bool,
}

/// Flags of `update`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// Id of the credential
    pub(in crate::cli) id: String,
    #[command(flatten)]
    pub(in crate::cli) changes: Changes,
    /// Fail unless the credential still has this etag, with or without its quotes
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) etag: String,
}
