//! Every flag and every variable, and nothing else. Those of `serve`, credentials, policies, records and transfers have
//! a file each beside this one.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, read in a terminal")]

pub(super) mod credential;
pub(super) mod policy;
pub(super) mod record;
pub(super) mod serve;
pub(super) mod transfer;

use std::net::IpAddr;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::attend::Attended;
use crate::model::{Invalid, Permission, Role, Scope, parse_client_ip};
use credential::{CredentialsCommand, KeyCommand, PatCommand};
use policy::WorkspacePolicyArgs;
use record::{AuditCommand, LeakedArgs, PurgeArgs};
use serve::{Ports, ServeArgs};

/// Whose credential is this, and may it do this here?
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
  sophic-auth dev                                        everything at once, to try it out
  sophic-auth workspace put acme --name \"Acme\"
  sophic-auth key create --workspace acme --name ci --scope read --output token
  printf '%s' \"$TOKEN\" | sophic-auth introspect --workspace acme --scope read
  sophic-auth serve --database-url postgres://sophic@db/auth --listen 127.0.0.1:50051";

const EXPORT_EXAMPLES: &str = "\
Examples:
  sophic-auth export --workspace acme credentials.csv
  sophic-auth export --all deployment.jsonl && sophic-auth --database-url \"$NEW\" import deployment.jsonl";

const LEAKED_EXAMPLES: &str = "\
Examples:
  gitleaks git --report-format json --report-path - | sophic-auth leaked --reason \"found by gitleaks\"
  trufflehog git https://git.example/app --json | sophic-auth leaked
  grep -rn sophic_ . | sophic-auth leaked";

const WORKSPACE_EXAMPLES: &str = "\
Examples:
  sophic-auth workspace put acme --name \"Acme\"
  sophic-auth workspace put acme --disabled                    # and --enabled, to switch it on again
  sophic-auth workspace put acme --key-lifetime-max 90d --keys-max 20 --overlap-max 7d
  sophic-auth workspace put acme --keys-max 0                  # no limit on it, and the rest of its policy as it is";

/// What goes with every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Where the store is: sqlite:PATH or postgres://USER@HOST[:PORT][,HOST…]/DATABASE [default: sqlite:sophic-auth.db]
    #[arg(long, global = true, env = "SOPHIC_AUTH_DATABASE_URL", hide_env_values = true)]
    pub(super) database_url: Option<String>,
    /// Whether that was said on the command line, and not by the variable
    #[arg(skip)]
    pub(super) database_url_given: bool,
    /// Who works here, for the audit log, beside the user of the operating system, as in operator:root(ada): for shared
    /// accounts
    #[arg(long, global = true, env = "SOPHIC_AUTH_OPERATOR", value_name = "NAME")]
    pub(super) operator: Option<String>,
    /// How to print: for people, for programs, or (of what makes one) the token alone. With json every line of a command's
    /// output, its errors and its log is JSON
    #[arg(long, global = true, env = "SOPHIC_AUTH_OUTPUT", default_value = "table")]
    pub(super) output: Output,
    /// What to log to standard error: off, error, warn, info, debug, trace, or a filter as
    /// sophic_auth=debug,sqlx=warn [default: info for serve, warn for all else]
    #[arg(long, global = true, env = "SOPHIC_AUTH_LOG")]
    pub(super) log: Option<String>,
    /// How to log
    #[arg(long, global = true, env = "SOPHIC_AUTH_LOG_FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,
    #[arg(skip)]
    pub(super) attended: Attended,
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
    Serve(Box<ServeArgs>),
    /// Run everything at once on a throwaway store: a server, and a demo workspace, user, caller, key and personal
    /// access token, with commands to paste
    Dev(DevArgs),
    /// Make the store if it is not there, and bring its schema up to date; says which migrations that took. `serve` does so
    /// too, and no other command
    #[command(after_help = "Example:\n  sophic-auth migrate --dry-run")]
    Migrate(MigrateArgs),
    /// Services that call this one
    #[command(subcommand)]
    Caller(CallerCommand),
    /// Workspaces
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// Users
    #[command(subcommand)]
    User(UserCommand),
    /// Memberships of users in workspaces
    #[command(subcommand)]
    Member(MemberCommand),
    /// API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Personal access tokens
    #[command(subcommand)]
    Pat(PatCommand),
    /// Keys and personal access tokens together
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// End those tokens that are real in what a secret scanner printed, or in any other text or JSON. Tokens of sophic-auth
    /// are found anywhere in it, by the expression that scanner-regex prints; those of other systems alone on a line, or in a
    /// field `token` of a JSON object. Prints how many candidates there were and which were real, and no token. Exit code 1:
    /// nothing looked like a token, or a caller's service token did, which `caller rotate` or `caller revoke` ends
    #[command(after_help = LEAKED_EXAMPLES)]
    Leaked(LeakedArgs),
    /// What was done, by whom, and what was refused
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Drop credentials that have long been dead, and old rows of the change log, as the server does by itself
    Purge(PurgeArgs),
    /// Say whose token is on standard input, and whether it may do what is asked. Exit code 0: allowed; 1: refused; 2:
    /// could not tell
    #[command(
        after_help = "Example:\n  printf '%s' \"$TOKEN\" | sophic-auth introspect --workspace acme --scope read"
    )]
    Introspect(IntrospectArgs),
    /// Read credentials from elsewhere: digests or tokens, with what goes with them, as CSV or JSON lines
    #[command(after_help = transfer::IMPORT_EXAMPLES, after_long_help = transfer::import_long_help())]
    Import(transfer::ImportArgs),
    /// Write all credentials with their digests, dead ones too, in the format that import reads, but for those of workspaces
    /// and users that are deleted; nobody can log in with a digest, and still it is not for everybody's eyes
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(transfer::ExportArgs),
    /// Write a copy of an SQLite store, as it is at one moment, while servers run (for Postgres use pg_dump); `restore`
    /// brings it back
    #[command(after_help = "Example:\n  sophic-auth backup /backups/sophic-auth-$(date +%F).db")]
    Backup {
        /// The file to write, which must not be there yet
        file: PathBuf,
    },
    /// Put a backup in the place of an SQLite store, while no server runs: it is checked first, the old store is kept beside
    /// it, and servers that start on it drop what they knew. What was revoked after the backup was made is alive again; as
    /// far as the old store can be read, that is listed (for Postgres use pg_restore, then new-epoch)
    #[command(
        after_help = "Example:\n  sophic-auth --database-url sqlite:/var/lib/sophic-auth/store.db restore /backups/sophic-auth-2027-01-31.db"
    )]
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Say that the store was restored from a backup: running servers then drop what they hold in memory, instead of
    /// taking what was restored for the continuation of what they knew. Tokens that were revoked after the backup was
    /// made are alive again: revoke them anew, by the audit log of the store that was lost
    NewEpoch,
    /// Print the regular expression that finds tokens in any text
    ScannerRegex,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether it runs until it is told to stop.
    pub(super) const fn is_server(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Dev(_))
    }
}

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// List what would be done, and touch nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Flags of `dev`.
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    pub(super) ports: Ports,
}

#[derive(Debug, Subcommand)]
pub(super) enum CallerCommand {
    /// Make a caller, and print its service token this once
    #[command(
        after_help = "Example:\n  sophic-auth caller create gateway --permission introspect --output token"
    )]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9, '.' and '-'
        name: String,
        /// What it may do: introspect, credentials.read, credentials.write, credentials.admin, directory.read,
        /// directory.write, audit.read, callers.admin; may be given more than once
        #[arg(long = "permission", required = true, value_name = "PERMISSION")]
        permissions: Vec<Permission>,
        /// Know it by the DNS name or URI in its client certificate, and make no service token
        #[arg(long, value_name = "SAN")]
        certificate_san: Option<String>,
    },
    /// List callers, oldest first
    List,
    /// Change a caller's name, its permissions, or both
    #[command(
        after_help = "Example:\n  sophic-auth caller update gateway --permission introspect --permission audit.read"
    )]
    Update {
        /// Its id or name
        caller: String,
        /// Its new name [default: as it is]
        #[arg(long, required_unless_present = "permissions")]
        name: Option<String>,
        /// Its new permissions, whole; may be given more than once [default: as they are]
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<Permission>,
    },
    /// Give a caller a new service token, and print it this once; the old one lives on for a while
    #[command(
        after_help = "Example:\n  sophic-auth caller rotate gateway --overlap 1h --output token"
    )]
    Rotate {
        /// Its id or name
        caller: String,
        /// How long the old token lives on, at most 7d; 0s: it is dead when this is done [default: 10m]
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        overlap: Option<Duration>,
        /// A UUID of your own making: the same command with the same id within 10 minutes makes no second rotation, but
        /// another token in place of the one that was lost
        #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
        request_id: String,
    },
    /// End a caller for good, and wait until no server answers it
    Revoke {
        /// Its id or name
        caller: String,
    },
}

/// Whether what is put is switched off. Without either flag it stays as it is, and what is new is on.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct PutSwitch {
    /// Switch it off: a workspace's keys, and all that would act in it, or a user's personal access tokens are refused
    #[arg(long, conflicts_with = "enabled")]
    disabled: bool,
    /// Switch it on again
    #[arg(long)]
    enabled: bool,
}

impl PutSwitch {
    /// Whether it is to be disabled, if that is said.
    pub(super) fn disabled(self) -> Option<bool> {
        (self.disabled || self.enabled).then_some(self.disabled)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum WorkspaceCommand {
    /// Make a workspace, or change what is given of it
    #[command(after_help = WORKSPACE_EXAMPLES)]
    Put {
        /// Its slug: 3 to 63 of a-z, 0-9 and '-'
        slug: String,
        /// Its name, for people [default: as it is, or the slug]
        #[arg(long)]
        name: Option<String>,
        /// Its id [default: that of the workspace of this slug, or a new one]
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        switch: PutSwitch,
        #[command(flatten)]
        policy: WorkspacePolicyArgs,
    },
    /// Give two workspaces each other's slug, at once
    #[command(after_help = "Example:\n  sophic-auth workspace swap-slugs acme acme-new")]
    SwapSlugs {
        /// One, by slug or id
        workspace: String,
        /// The other, by slug or id
        other: String,
    },
    /// List workspaces, by id
    List,
    /// Delete a workspace: revokes its keys, drops its memberships, reserves its slug for 30 days; waits until every server
    /// knows
    Delete {
        /// Its slug or id
        workspace: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Make a user, or change what is given of them
    #[command(after_help = "Example:\n  sophic-auth user put ada --name \"Ada\"")]
    Put {
        /// Its id: 1 to 64 of A-Z, a-z, 0-9, '_' and '-'
        id: String,
        /// Its name, for people [default: as it is, or the id]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        switch: PutSwitch,
    },
    /// List users, by id
    List,
    /// Delete a user: revokes their personal access tokens, drops their memberships; waits until every server knows
    Delete {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Make a user a member of a workspace, or give them another role in it
    #[command(
        after_help = "Example:\n  sophic-auth member put --workspace acme --user ada --role member"
    )]
    Put {
        /// The workspace, by slug or id
        #[arg(long)]
        workspace: String,
        /// The user's id
        #[arg(long)]
        user: String,
        #[arg(long, help = Role::listed(" or "))]
        role: Role,
    },
    /// List the memberships of a workspace, of a user, or of both
    List {
        /// The workspace, by slug or id
        #[arg(long, required_unless_present = "user")]
        workspace: Option<String>,
        /// The user's id
        #[arg(long)]
        user: Option<String>,
    },
    /// Remove a user from a workspace, and wait until every server knows
    Delete {
        /// The workspace, by slug or id
        #[arg(long)]
        workspace: String,
        /// The user's id
        #[arg(long)]
        user: String,
    },
}

/// Flags of `introspect`.
#[derive(Debug, Args)]
pub(super) struct IntrospectArgs {
    /// The workspace that the request names, by slug or id
    #[arg(long, default_value = "")]
    pub(super) workspace: String,
    /// A scope that is needed; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(super) scopes: Vec<Scope>,
    /// The client's address, with or without a port
    #[arg(long, value_parser = client_ip, value_name = "ADDRESS")]
    pub(super) client_ip: Option<IpAddr>,
    /// Look text of any shape up as the token of an imported credential
    #[arg(long, env = "SOPHIC_AUTH_ACCEPT_IMPORTED_TOKENS")]
    pub(super) accept_imported_tokens: bool,
}

/// A client's address, as the server reads it.
fn client_ip(text: &str) -> Result<IpAddr, String> {
    parse_client_ip(text).map_err(|Invalid(description)| description)
}

/// As people write it: 90d, 12h, 15s.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; as 90d, 12h or 15s"))
}

/// The same, of what has to take some time.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        duration => Ok(duration),
    }
}

/// A number of which there is at least one: 0 would be no limit elsewhere, and none at all here.
pub(super) fn at_least_one<N: FromStr<Err = ParseIntError> + PartialOrd + From<u8>>(
    text: &str,
) -> Result<N, String> {
    let number: N = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    if number >= N::from(1) { Ok(number) } else { Err("must be at least 1".to_owned()) }
}

/// An issuer as RFC 8414 §2 has it: a URL without query and fragment. `http` is for trying it out.
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

/// Shorter ones would end whenever the machine hesitates; longer ones make revocations wait too long for a dead server.
pub(super) fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_mins(1)).contains(&lease) {
        Ok(lease)
    } else {
        Err("must be from 1s to 60s".to_owned())
    }
}
