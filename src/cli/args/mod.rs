//! Command-line flags and environment variables. `serve`, credentials, policies, records and transfers each have a
//! separate file.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, read in a terminal")]

pub(super) mod caller;
pub(super) mod credential;
pub(super) mod policy;
pub(super) mod record;
pub(super) mod serve;
pub(super) mod status;
pub(super) mod transfer;

use std::net::IpAddr;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::monitor::CommandMonitor;
use crate::model::{Invalid, Role, Scope, parse_client_ip};
use caller::CallerCommand;
use credential::{CredentialsCommand, ExplainArgs, KeyCommand, PatCommand};
use policy::{BarArgs, PatPolicyArgs, WorkspacePolicyArgs};
use record::{AuditCommand, LeakedArgs, PurgeArgs};
use serve::{Ports, ServeArgs};
use status::{ReplicaCommand, StatusArgs};

/// API keys and personal access tokens: create, introspect, revoke
#[derive(Debug, Parser)]
#[command(name = "sophic-auth", version, about, max_term_width = 100, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sophic-auth dev                                        a demo server, to try it out
  sophic-auth migrate                                    creates the store
  sophic-auth workspace put acme --name \"Acme\"
  sophic-auth key create --workspace acme --name ci --scope read --output token
  printf '%s' \"$TOKEN\" | sophic-auth introspect --workspace acme --scope read
  sophic-auth serve --database-url postgres://sophic@db/auth --listen 127.0.0.1:50051";

const DEV_EXAMPLES: &str = "\
Examples:
  sophic-auth dev
  sophic-auth dev --database-url sqlite:demo.db";

const EXPORT_EXAMPLES: &str = "\
Examples:
  sophic-auth export --workspace acme credentials.csv
  sophic-auth export --all deployment.jsonl
  sophic-auth --database-url \"$NEW\" migrate && sophic-auth --database-url \"$NEW\" import deployment.jsonl";

const LEAKED_EXAMPLES: &str = "\
Examples:
  gitleaks git --report-format json --report-path - | sophic-auth leaked --reason \"found by gitleaks\"
  trufflehog git https://git.example/app --json | sophic-auth leaked
  grep -rn sophic_ . | sophic-auth leaked";

const WORKSPACE_EXAMPLES: &str = "\
Examples:
  sophic-auth workspace put acme --name \"Acme\"
  sophic-auth workspace put acme --disabled                    # --enabled enables it again
  sophic-auth workspace put acme --key-lifetime-max 90d --keys-max 20 --overlap-max 7d
  sophic-auth workspace put acme --keys-max 0                  # removes this limit and keeps the rest of the policy
  sophic-auth workspace put acme --pat-expiry-required --pat-lifetime-max 90d";

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// URL of the store: sqlite:PATH or postgres://USER@HOST[:PORT][,HOST…]/DATABASE [default: sqlite:sophic-auth.db, for dev
    /// a temporary store]
    #[arg(long, global = true, env = "SOPHIC_AUTH_DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: Option<String>,
    /// Whether the URL was given on the command line, not by the variable
    #[arg(skip)]
    pub(super) database_url_given: bool,
    /// Your name, for the audit log, if several people share an account. It is recorded after the operating system's user,
    /// as in operator:root(ada)
    #[arg(long, global = true, env = "SOPHIC_AUTH_OPERATOR", value_name = "NAME")]
    pub(super) operator: Option<String>,
    /// Output format. With json, each line of output, errors and log is JSON. With token, `create` and `rotate` print
    /// only the token
    #[arg(long, global = true, env = "SOPHIC_AUTH_OUTPUT", default_value = "table")]
    pub(super) output: Output,
    /// Log level on standard error: off, error, warn, info, debug, trace, or a filter such as sophic_auth=debug,sqlx=warn
    /// [default: info for serve and dev, warn for other commands]
    #[arg(long, global = true, env = "SOPHIC_AUTH_LOG")]
    pub(super) log: Option<String>,
    /// Log format
    #[arg(long, global = true, env = "SOPHIC_AUTH_LOG_FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
    #[arg(skip)]
    pub(super) monitor: CommandMonitor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
    Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// Run a server with a demo workspace, user, caller, key and personal access token, and print commands to try. The store
    /// is temporary and deleted at the end, unless --database-url names one: that must be empty or made by dev, and stays
    #[command(after_help = DEV_EXAMPLES)]
    Dev(DevArgs),
    /// Create the store if it does not exist, and migrate its schema to the current version. `serve` also does this, other
    /// commands do not
    #[command(after_help = "Example:\n  sophic-auth migrate --dry-run")]
    Migrate(MigrateArgs),
    /// Manage callers: the services that call sophic-auth
    #[command(subcommand)]
    Caller(CallerCommand),
    /// Manage workspaces
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// Manage users
    #[command(subcommand)]
    User(UserCommand),
    /// Manage memberships of users in workspaces
    #[command(subcommand)]
    Member(MemberCommand),
    /// Manage API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Manage personal access tokens
    #[command(subcommand)]
    Pat(PatCommand),
    /// List or revoke keys and personal access tokens together
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// Revoke leaked tokens found in a secret scanner's output, or in any text or JSON. Tokens of sophic-auth are found
    /// anywhere in the text. Imported tokens are found if nothing else is on their line, or in a field `token` of a
    /// JSON object. Prints the number of candidates and the credentials that were found, but no token. Exit code 1:
    /// nothing looked like a token, or the input has a service token, which only `caller rotate` or `caller revoke`
    /// ends
    #[command(after_help = LEAKED_EXAMPLES)]
    Leaked(LeakedArgs),
    /// List, export or purge the audit log, or erase a deleted user's texts from it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Delete credentials that were revoked or expired long ago, and old rows of the change log. The server does this
    /// regularly
    #[command(after_help = "Example:\n  sophic-auth purge --dead-after 90d")]
    Purge(PurgeArgs),
    /// Show what the store contains, and which credentials expire soon. What reaches 1,000,000 is not counted further
    #[command(after_help = "Example:\n  sophic-auth status --expiring-within 30d")]
    Status(StatusArgs),
    /// The servers on the store
    #[command(subcommand)]
    Replica(ReplicaCommand),
    /// Introspect the token on standard input: whose it is, and whether it may do what is asked. Exit code 0: allowed; 1:
    /// refused; 2: the command failed
    #[command(
        after_help = "Example:\n  printf '%s' \"$TOKEN\" | sophic-auth introspect --workspace acme --scope read"
    )]
    Introspect(IntrospectArgs),
    /// Explain how a request with a credential would be decided: each row of the decision table with what it judged, and
    /// the decision. Exit code 0: allowed; 1: refused; 2: the command failed
    #[command(after_help = credential::EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Import credentials, with their digests or tokens, from CSV or JSON lines
    #[command(after_help = transfer::IMPORT_EXAMPLES, after_long_help = transfer::import_long_help())]
    Import(transfer::ImportArgs),
    /// Export credentials with their digests, including revoked and expired ones, in the format that import reads.
    /// Credentials of deleted workspaces and users are left out. A digest cannot be used to log in, but keep the file private
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(transfer::ExportArgs),
    /// Back up an SQLite store while servers run. For Postgres, use pg_dump
    #[command(after_help = "Example:\n  sophic-auth backup /backups/sophic-auth-$(date +%F).db")]
    Backup {
        /// File to write. It must not exist
        file: PathBuf,
    },
    /// Replace an SQLite store with a backup, while no server runs. The backup is checked first, and the old store is kept
    /// beside it. Credentials that were revoked after the backup was made are valid again: if the old store can be read, the
    /// command lists them. For Postgres, use pg_restore, then new-epoch
    #[command(
        after_help = "Example:\n  sophic-auth --database-url sqlite:/var/lib/sophic-auth/store.db restore /backups/sophic-auth-2027-01-31.db"
    )]
    Restore {
        /// Backup file
        file: PathBuf,
    },
    /// Mark the store as restored from a backup, so that running servers discard their caches. Tokens that were
    /// revoked after the backup was made are valid again: revoke them again, guided by the audit log of the lost store
    #[command(
        after_help = "Example:\n  pg_restore --dbname auth auth.dump && sophic-auth --database-url postgres://sophic@db/auth new-epoch"
    )]
    NewEpoch,
    /// Print the regular expression that finds tokens in text
    #[command(after_help = "Example:\n  grep -rnP \"$(sophic-auth scanner-regex)\" .")]
    ScannerRegex,
    /// Print shell completions
    #[command(
        after_help = "Example:\n  sophic-auth completions bash > /etc/bash_completion.d/sophic-auth"
    )]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether the command runs until a signal stops it.
    pub(super) const fn is_server(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Dev(_))
    }
}

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// List pending migrations and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Flags of `dev`.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    pub(super) ports: Ports,
}

/// Declares the flags that disable and enable something, with their help texts.
macro_rules! state_args {
    ($(#[$doc:meta])+ $name:ident, $disable:literal, $enable:literal) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, Args)]
        pub(super) struct $name {
            #[arg(long, conflicts_with = "enabled", help = $disable)]
            disabled: bool,
            #[arg(long, help = $enable)]
            enabled: bool,
        }

        impl $name {
            /// The requested state. `None` leaves it unchanged.
            pub(super) fn disabled(self) -> Option<bool> {
                (self.disabled || self.enabled).then_some(self.disabled)
            }
        }
    };
}

state_args! {
    /// State of a workspace. Without a flag it is unchanged, and a new workspace is enabled.
    WorkspaceStateArgs,
    "Disable the workspace: its keys, and requests that act in it, are refused",
    "Enable it"
}

state_args! {
    /// State of a user. Without a flag it is unchanged, and a new user is enabled.
    UserStateArgs,
    "Disable the user: their tokens are refused",
    "Enable them"
}

/// Flags of `workspace put`.
#[derive(Debug, Args)]
pub(super) struct WorkspacePut {
    /// Slug: 3 to 63 characters of a-z, 0-9 and '-'
    pub(super) slug: String,
    /// Display name [default: unchanged, or the slug for a new workspace]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Id. Give it to change the slug of an existing workspace [default: that of the workspace with this slug, or a new id]
    #[arg(long)]
    pub(super) id: Option<String>,
    #[command(flatten)]
    pub(super) switch: WorkspaceStateArgs,
    #[command(flatten)]
    pub(super) policy: WorkspacePolicyArgs,
    #[command(flatten)]
    pub(super) pat_policy: PatPolicyArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum WorkspaceCommand {
    /// Create or update a workspace
    #[command(after_help = WORKSPACE_EXAMPLES)]
    Put(WorkspacePut),
    /// Swap the slugs of two workspaces atomically
    #[command(after_help = "Example:\n  sophic-auth workspace swap-slugs acme acme-new")]
    SwapSlugs {
        /// First workspace, by slug or id
        workspace: String,
        /// Second workspace, by slug or id
        other: String,
    },
    /// List workspaces, by id, with their rules for personal access tokens. With json, also with their policies for keys
    #[command(
        after_help = "Examples:\n  sophic-auth workspace list\n  sophic-auth workspace list --output json"
    )]
    List,
    /// List the personal access tokens that have acted in a workspace, the most recently used there first. An empty role
    /// means that the token may not act there any more
    #[command(after_help = "Example:\n  sophic-auth workspace pats acme")]
    Pats {
        /// Slug or id of the workspace
        workspace: String,
    },
    /// Bar a personal access token, and those that replace it by rotation, from a workspace in which it has acted, without
    /// ending it. Waits until no server accepts it there
    #[command(
        after_help = "Example:\n  sophic-auth workspace bar-pat acme 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --reason \"unknown machine\""
    )]
    BarPat(BarArgs),
    /// Admit a personal access token again to a workspace from which it was barred
    #[command(
        after_help = "Example:\n  sophic-auth workspace unbar-pat acme 0195f2d4-7c1e-7b3a-9d58-0242ac120002"
    )]
    UnbarPat(BarArgs),
    /// Delete a workspace, revoke its keys, remove its memberships, and reserve its slug for 30 days. Waits until every
    /// server has applied the change
    #[command(after_help = "Example:\n  sophic-auth workspace delete acme")]
    Delete {
        /// Slug or id of the workspace
        workspace: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Create or update a user
    #[command(after_help = "Example:\n  sophic-auth user put ada --name \"Ada\"")]
    Put {
        /// Id: 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'
        id: String,
        /// Display name [default: unchanged, or the id for a new user]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        switch: UserStateArgs,
    },
    /// List users, by id
    #[command(after_help = "Example:\n  sophic-auth user list")]
    List,
    /// Delete a user, revoke their personal access tokens, and remove their memberships. Waits until every server has
    /// applied the change
    #[command(after_help = "Example:\n  sophic-auth user delete ada")]
    Delete {
        /// Id of the user
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Add a user to a workspace, or change their role in it
    #[command(
        after_help = "Example:\n  sophic-auth member put --workspace acme --user ada --role member"
    )]
    Put {
        /// Slug or id of the workspace
        #[arg(long)]
        workspace: String,
        /// Id of the user
        #[arg(long)]
        user: String,
        #[arg(long, help = format!("Role: {}", Role::join_names(" or ")))]
        role: Role,
    },
    /// List the memberships of a workspace or of a user
    #[command(
        after_help = "Examples:\n  sophic-auth member list --workspace acme\n  sophic-auth member list --user ada"
    )]
    List {
        /// Slug or id of the workspace
        #[arg(long, required_unless_present = "user")]
        workspace: Option<String>,
        /// Id of the user
        #[arg(long)]
        user: Option<String>,
    },
    /// Remove a user from a workspace, and wait until every server has applied the change
    #[command(after_help = "Example:\n  sophic-auth member delete --workspace acme --user ada")]
    Delete {
        /// Slug or id of the workspace
        #[arg(long)]
        workspace: String,
        /// Id of the user
        #[arg(long)]
        user: String,
    },
}

/// Flags of `introspect`.
#[derive(Debug, Args)]
pub(super) struct IntrospectArgs {
    /// Workspace that the request names, by slug or id
    #[arg(long, default_value = "")]
    pub(super) workspace: String,
    /// Required scope. Repeatable
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(super) scopes: Vec<Scope>,
    /// Address of the client, with or without a port
    #[arg(long, value_parser = client_ip, value_name = "ADDRESS")]
    pub(super) client_ip: Option<IpAddr>,
    /// Also look up text that is not a sophic-auth token, as the token of an imported credential
    #[arg(long, env = "SOPHIC_AUTH_ACCEPT_IMPORTED_TOKENS")]
    pub(super) accept_imported_tokens: bool,
}

/// Parses a client address, as the server does.
fn client_ip(text: &str) -> Result<IpAddr, String> {
    parse_client_ip(text).map_err(|Invalid(description)| description)
}

/// Parses a duration such as 90d, 12h or 15s.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 90d, 12h or 15s"))
}

/// Parses a duration that must not be zero.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a number that must be at least 1. Zero is refused because it means "no limit" for other flags.
pub(super) fn at_least_one<N: FromStr<Err = ParseIntError> + PartialOrd + From<u8>>(
    text: &str,
) -> Result<N, String> {
    let number: N = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    if number >= N::from(1) { Ok(number) } else { Err("must be at least 1".to_owned()) }
}

/// Parses an issuer (RFC 8414 §2): a URL without query and fragment. `http` is allowed for local tests.
pub(super) fn issuer(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good = rest.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#{}@\\\"<>".contains(&byte))
            && !rest.ends_with('/')
    });
    if good {
        Ok(text.to_owned())
    } else {
        Err("must be an https URL without query, fragment and final slash".to_owned())
    }
}

/// Parses a lease. A shorter lease would expire during short stalls. A longer one would make a revocation wait too long
/// for a crashed server.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_mins(1)).contains(&lease) {
        Ok(lease)
    } else {
        Err("must be from 1s to 60s".to_owned())
    }
}
