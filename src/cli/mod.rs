//! The command line: management directly on the store, and running the server.
//!
//! Exit codes:
//!
//! - 0: done, or allowed
//! - 1: refused, or failed
//! - 2: wrong usage (flags, variables, URLs, missing stores and files), or any failure of `introspect`, `explain`
//!   and `credentials expiring`
//! - 3: committed, but not yet confirmed by every server
//! - 128 and more: ended by a signal
//!
//! `failure.rs` has the full table.

mod args;
mod audit;
mod audit_follow;
mod backup;
mod caller;
mod credential;
mod explain;
mod failure;
mod files;
mod flag_names;
mod introspect;
mod logging;
mod member;
mod migrate;
mod misplaced_token;
mod monitor;
mod new_file;
mod operator;
mod output;
mod progress;
mod purge;
mod serve;
mod signals;
mod status;
mod store_url;
mod token_input;
mod transfer;
mod unprinted_token;
mod user;
mod variables;
mod workspace;

use std::process::ExitCode;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::model::Invalid;
use crate::model::limits::PAGE_SIZE_MAX;
use crate::server;
use crate::service::{Options, Page, PageRequest, Service, ServiceError};
use args::{Cli, Command, Output};
pub use failure::{COMMAND_REASONS, CommandReason, exit_code};
use failure::{EXIT_FAILED, EXIT_USAGE};
use operator::{operator, operator_for_rotation};
use output::PrintError;
use token_input::read_token_from_stdin;

/// How long a rotation waits for other servers before it prints the new token. It then continues to wait.
const TOKEN_SHOWN_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Outcome of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
}

/// The command line, a variable or a file is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports help and version as errors, but they go to standard output.
            let code = u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE);
            let help = !error.use_stderr();
            // The variable is for the output of commands. It does not turn help into JSON.
            let json = if help { has_output_flag(Some("json")) } else { wants_json() };
            let printed = output::usage(&error, json);
            return ExitCode::from(if printed.is_err() { code.max(EXIT_FAILED) } else { code });
        }
    };
    let format = cli.global.output;
    if format == Output::Json && !cli.command.is_server() {
        output::use_json();
    }
    match run(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::from(EXIT_FAILED),
        // The reader closed the pipe, as `head` does. The command itself succeeded.
        Err(error)
            if failure::classify(&error).1 == EXIT_FAILED
                && matches!(error.downcast_ref(), Some(PrintError::Closed)) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(format, &error);
            ExitCode::from(failure::classify(&error).1)
        }
    }
}

/// Returns every command with its flags, variables, defaults and help texts. `docs/flags.md` is generated from it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Whether JSON output is requested, for a command line that clap could not parse.
fn wants_json() -> bool {
    let by_variable = || std::env::var("SOPHIC_AUTH_OUTPUT").is_ok_and(|value| value == "json");
    has_output_flag(Some("json")) || (!has_output_flag(None) && by_variable())
}

/// Whether the command line has `--output` with this value. `None` matches any value.
fn has_output_flag(value: Option<&str>) -> bool {
    let words: Vec<_> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let is_value = |text: &str| value.is_none_or(|value| text == value);
    let split = words.windows(2).any(|pair| pair[0] == "--output" && is_value(&pair[1]));
    split || words.iter().any(|word| word.strip_prefix("--output=").is_some_and(is_value))
}

/// Parses the command line and the environment variables.
fn parse() -> clap::error::Result<Cli> {
    let mut command = variables::ignore_empty(Cli::command());
    let words: Vec<_> = std::env::args_os().collect();
    misplaced_token::refuse(&words, &mut command)?;
    let matches = command
        .try_get_matches_from_mut(&words)
        .map_err(|error| misplaced_token::hide(error, &words, &mut command))?;
    flag_names::init(&command, &matches);
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let given = |matches: &clap::ArgMatches| {
        matches.value_source("database_url") == Some(ValueSource::CommandLine)
    };
    let mut levels = std::iter::successors(Some(&matches), |matches| Some(matches.subcommand()?.1));
    cli.global.database_url_given = levels.any(given);
    Ok(cli)
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let server = cli.command.is_server();
    let _flush = logging::init(&cli.global, server)?;
    variables::warn_of_unknown(&Cli::command());
    operator::init(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let location = store_url::get(&cli.global);
    let outcome = if server {
        // Servers handle signals themselves, for a graceful shutdown.
        runtime.block_on(dispatch(cli))
    } else {
        let monitor = cli.global.monitor.clone();
        runtime.block_on(monitor.run(dispatch(cli)))
    };
    outcome.inspect_err(|error| {
        if let Ok(location) = &location {
            runtime.block_on(store_url::find_missing_rights(location, error));
        }
    })
}

async fn dispatch(cli: Cli) -> anyhow::Result<Outcome> {
    let global = cli.global;
    match cli.command {
        Command::Serve(args) => serve::run(&global, args).await?,
        Command::Dev(args) => serve::dev::run(&global, args).await?,
        Command::Migrate(args) => migrate::run(&global, &args).await?,
        Command::Caller(command) => caller::run(&global, command).await?,
        Command::Workspace(command) => workspace::run(&global, command).await?,
        Command::User(command) => user::run(&global, command).await?,
        Command::Member(command) => member::run(&global, command).await?,
        Command::Key(command) => credential::run_key(&global, command).await?,
        Command::Pat(command) => credential::run_pat(&global, command).await?,
        Command::Credentials(command) => {
            return credential::run_credentials(&global, command).await;
        }
        Command::Leaked(args) => return credential::leaked::run(&global, args).await,
        Command::Audit(command) => audit::run(&global, command).await?,
        Command::Purge(args) => purge::run(&global, args).await?,
        Command::Status(args) => status::status(&global, args).await?,
        Command::Replica(command) => status::replica(&global, command).await?,
        Command::Introspect(args) => return introspect::run(&global, args).await,
        Command::Explain(args) => return explain::run(&global, args).await,
        Command::Import(args) => return transfer::import(&global, args).await,
        Command::Export(args) => transfer::export(&global, args).await?,
        Command::Backup { file } => backup::run(&global, &file).await?,
        Command::Restore { file } => Box::pin(backup::restore(&global, &file)).await?,
        Command::NewEpoch => backup::new_epoch(&global).await?,
        Command::ScannerRegex => {
            output::text(global.output, "scanner_regex", crate::token::SCANNER_REGEX)?;
        }
        Command::Completions { shell } => {
            output::completions(global.output, shell, &mut Cli::command())?;
        }
    }
    Ok(Outcome::Done)
}

/// Opens the store and builds the use cases. The caller closes them.
async fn open_service(global: &args::Global) -> anyhow::Result<Arc<Service>> {
    open_service_with(global, Options::default()).await
}

/// Opens the store and builds the use cases with these options.
async fn open_service_with(
    global: &args::Global,
    options: Options,
) -> anyhow::Result<Arc<Service>> {
    let service = server::open_uncached_service(&store_url::select(global)?, options).await?;
    global.monitor.set(&service);
    Ok(service)
}

/// Waits until every server has applied a rotation whose new token was printed early.
async fn wait_for_replicas(service: &Service, end_pending: bool) -> anyhow::Result<()> {
    if end_pending {
        output::note("waiting until every server has applied the end of the old token");
        service.wait_for_replicas(&operator()).await?;
        output::note("done: every server has applied it");
    }
    Ok(())
}

/// Fetches all pages and returns their items.
async fn all_pages<T, F>(fetch: impl Fn(PageRequest) -> F) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = Result<Page<T>, ServiceError>>,
{
    let mut items = Vec::new();
    let mut request = PageRequest { size: PAGE_SIZE_MAX.cast_signed(), token: String::new() };
    loop {
        let page = fetch(request.clone()).await?;
        items.extend(page.items);
        if page.next_token.is_empty() {
            return Ok(items);
        }
        request.token = page.next_token;
    }
}

/// Returns the parsed value of a flag, or a usage error that names the flag.
fn flag<T>(name: &str, parsed: Result<T, Invalid>) -> anyhow::Result<T> {
    parsed.map_err(|Invalid(description)| UsageError(format!("{name} {description}")).into())
}

/// Refuses `--output token` for commands that create no token.
fn refuse_token_output(global: &args::Global) -> anyhow::Result<()> {
    if global.output == Output::Token {
        anyhow::bail!(UsageError(
            "--output token is for `create` and `rotate` only: use table or json".to_owned()
        ));
    }
    Ok(())
}
