//! The flags of `key`, `pat` and `credentials`.

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, Subcommand, ValueEnum};

use super::record::BulkRevokeArgs;
use super::{at_least_one, duration};
use crate::model::{CredentialKind, Role, Scope};

/// What keys and personal access tokens are made of alike.
#[derive(Debug, Args)]
pub(in crate::cli) struct NewCredential {
    /// What to call it
    #[arg(long)]
    pub(in crate::cli) name: String,
    #[arg(
        long = "scope",
        required = true,
        value_name = "SCOPE",
        help = format!("{}; may be given more than once", Scope::listed(" or "))
    )]
    pub(in crate::cli) scopes: Vec<Scope>,
    #[command(flatten)]
    pub(in crate::cli) expiration: ExpirationArgs,
    /// A CIDR or address that a client must be in; may be given more than once [default: anywhere]
    #[arg(long = "allow-ip", value_name = "CIDR")]
    pub(in crate::cli) ip_allowlist: Vec<String>,
    /// Free text by key, as team=search; may be given more than once
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(in crate::cli) annotations: Vec<String>,
    /// A UUID of your own making: the same command with the same id within 24 hours makes no second one
    #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
    pub(in crate::cli) request_id: String,
}

/// When it dies by itself.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExpirationArgs {
    /// How long it lives from now, as 90d or 12h
    #[arg(long, value_parser = duration, value_name = "DURATION", conflicts_with = "expire_time")]
    pub(in crate::cli) ttl: Option<Duration>,
    /// The first instant at which it is dead, as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expire_time: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// Make a key of a workspace, and print its token this once
    #[command(
        after_help = "Example:\n  sophic-auth key create --workspace acme --name ci --scope read --ttl 90d --output token"
    )]
    Create {
        /// The workspace, by slug or id
        #[arg(long)]
        workspace: String,
        #[command(flatten)]
        new: NewCredential,
    },
    /// List keys, oldest first
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those of this workspace, by slug or id
        #[arg(long)]
        workspace: Option<String>,
        #[command(flatten)]
        filter: ListArgs,
    },
    #[command(flatten)]
    Life(LifeCommand),
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PatCommand {
    /// Make a personal access token of a user, and print it this once
    #[command(
        after_help = "Example:\n  sophic-auth pat create --user ada --name laptop --scope read --max-role viewer --output token"
    )]
    Create {
        /// The user's id
        #[arg(long)]
        user: String,
        #[arg(
            long,
            value_name = "ROLE",
            help = format!(
                "The role that it acts in at the most: {} [default: no bound]",
                Role::listed(" or ")
            )
        )]
        max_role: Option<Role>,
        #[command(flatten)]
        new: NewCredential,
    },
    /// List personal access tokens, oldest first
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those of this user
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        filter: ListArgs,
    },
    #[command(flatten)]
    Life(LifeCommand),
}

/// What keys and personal access tokens go through alike.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LifeCommand {
    /// Show one
    Show {
        /// Its id
        id: String,
    },
    /// Change its name, annotations or allowed addresses; take scopes away; bring its expiry forward
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(UpdateArgs),
    /// Switch it off until it is enabled again, and wait until no server accepts it
    #[command(
        after_help = "Example:\n  sophic-auth key disable 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --reason \"seen from a strange address\""
    )]
    Disable(SwitchArgs),
    /// Switch it on again after it was disabled
    #[command(
        after_help = "Example:\n  sophic-auth key enable 0195f2d4-7c1e-7b3a-9d58-0242ac120002"
    )]
    Enable(SwitchArgs),
    /// Make a successor, print its token this once, and end the old one after an overlap; waits until
    /// every server knows when that ends
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(RotateArgs),
    /// End it for good, and wait until no server accepts it: for the lease of a server that has died. Exit code 3: it is
    /// committed, and the wait was cut short
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CredentialsCommand {
    /// End all credentials that every flag given names (at least one besides --dry-run and --reason), and wait until no
    /// server accepts any of them
    #[command(
        after_help = "Example:\n  sophic-auth credentials revoke --workspace acme --created-before 2027-01-01T00:00:00Z --dry-run"
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
    /// List what is alive and expires soon, soonest first. Exit code 0: none; 1: some; 2: could not tell
    #[command(after_help = EXPIRING_EXAMPLES)]
    Expiring {
        /// How soon, as 14d
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        within: Duration,
        #[command(flatten)]
        owner: OwnerArgs,
    },
}

/// Whose credentials to list.
#[derive(Debug, Args)]
pub(in crate::cli) struct OwnerArgs {
    /// Only keys of this workspace, by slug or id
    #[arg(long)]
    pub(in crate::cli) workspace: Option<String>,
    /// Only personal access tokens of this user
    #[arg(long, conflicts_with = "workspace")]
    pub(in crate::cli) user: Option<String>,
    /// Only this kind
    #[arg(long)]
    pub(in crate::cli) kind: Option<CredentialKind>,
}

/// Which credentials to list, and in which order.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only those in this state
    #[arg(long)]
    pub(in crate::cli) state: Option<StateArg>,
    /// Only what this creator made: user:ID, caller:NAME or operator:NAME
    #[arg(long, value_name = "CREATOR")]
    pub(in crate::cli) creator: Option<String>,
    #[arg(
        long,
        help = format!("Only those that were granted this scope: {}", Scope::listed(" or "))
    )]
    pub(in crate::cli) scope: Option<Scope>,
    /// Only those that are alive and expire before this, as 2027-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expires_before: Option<String>,
    /// Only those that are alive and expire within this from now, as 14d
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) expiring_within: Option<Duration>,
    /// Only those that were not used since this, or never
    #[arg(long, value_name = "TIME", conflicts_with = "unused_for")]
    pub(in crate::cli) unused_since: Option<String>,
    /// Only those that were not used for so long, or never, as 90d
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) unused_for: Option<Duration>,
    /// Only those whose name begins with this, to the letter
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) name_prefix: Option<String>,
    /// Only those of this family: a credential and all that succeeded it by rotation
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) family: Option<String>,
    /// In which order
    #[arg(long, default_value = "oldest")]
    pub(in crate::cli) order: OrderArg,
    /// No more than so many [default: all]
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
    /// By create time
    Oldest,
    /// By create time, backwards
    Newest,
    /// By last use, longest ago first, those never used before all others
    LastUse,
    /// By expiry, soonest first; only those that expire
    Expiry,
}

const LIST_EXAMPLES: &str = "\
Examples:
  sophic-auth credentials list --state active --unused-for 90d --order last-use
  sophic-auth key list --workspace acme --name-prefix ci- --output json
  sophic-auth pat list --user ada --state revoked";

const EXPIRING_EXAMPLES: &str = "\
Example, for a nightly job:
  sophic-auth credentials expiring --within 14d --output json > expiring.json
  case $? in 1) mail-owners < expiring.json;; 2) page-somebody;; esac";

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
  sophic-auth pat update 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --scope read --ttl 7d";

/// Flags of `revoke`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RevokeArgs {
    /// The credential's id; '-' reads its token from standard input
    pub(in crate::cli) credential: String,
    /// Why, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) reason: String,
    /// Text of any shape is looked up now, whether or not this is given
    #[arg(long = "accept-imported-tokens", hide = true)]
    _accept_imported_tokens: bool,
}

/// Flags of `disable` and `enable`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwitchArgs {
    /// Its id
    pub(in crate::cli) id: String,
    /// Why, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) reason: String,
}

/// Flags of `rotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateArgs {
    /// Its id
    pub(in crate::cli) id: String,
    /// How long the old token lives on, as 1d; never past its own expiry [default: it is dead at once, or as soon as its
    /// workspace's policy allows]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(in crate::cli) overlap: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) expiration: ExpirationArgs,
    /// A UUID of your own making: the same command with the same id within 24 hours makes no second successor
    #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
    pub(in crate::cli) request_id: String,
    /// Only if it has not changed since this etag was read
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) etag: String,
}

/// Flags of `update`.
#[derive(Debug, Args)]
#[group(id = "changes", required = true, multiple = true)]
pub(in crate::cli) struct Changes {
    /// What to call it
    #[arg(long)]
    pub(in crate::cli) name: Option<String>,
    /// A scope that it keeps, of those that it has; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(in crate::cli) scopes: Vec<Scope>,
    /// How long it lives from now: less than it would
    #[arg(long, value_parser = duration, value_name = "DURATION", conflicts_with = "expire_time")]
    pub(in crate::cli) ttl: Option<Duration>,
    /// The first instant at which it is dead: earlier than it was
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) expire_time: Option<String>,
    /// A CIDR or address that a client must be in, in place of all that there are; may be given more than once
    #[arg(long = "allow-ip", value_name = "CIDR")]
    pub(in crate::cli) ip_allowlist: Vec<String>,
    /// Let clients be anywhere
    #[arg(long, conflicts_with = "ip_allowlist")]
    pub(in crate::cli) allow_any_ip: bool,
    /// Free text by key, in place of all that there is; may be given more than once
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(in crate::cli) annotations: Vec<String>,
    /// Take all annotations away
    #[arg(long, conflicts_with = "annotations")]
    pub(in crate::cli) no_annotations: bool,
}

/// Flags of `update`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// Its id
    pub(in crate::cli) id: String,
    #[command(flatten)]
    pub(in crate::cli) changes: Changes,
    /// Only if it has not changed since this etag was read
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) etag: String,
}
