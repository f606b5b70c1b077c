//! The command line: management on the store itself, and running the server.
//!
//! Exit codes: 0 done or allowed; 1 refused or failed; 2 wrong usage (flags, variables, URLs, stores and files that are not
//! there), or, of `introspect` and `credentials expiring`, could not tell; 3 committed, but not confirmed by every server
//! yet; 128 and more: ended by a signal. `failure.rs` has them all.

mod args;
mod asked;
mod attend;
mod audit;
mod backup;
mod caller;
mod credential;
mod failure;
mod files;
mod introspect;
mod logging;
mod member;
mod migrate;
mod new_file;
mod operator;
mod output;
mod presented;
mod progress;
mod purge;
mod serve;
mod signals;
mod transfer;
mod unshown;
mod user;
mod variables;
mod workspace;

use std::process::ExitCode;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::model::Invalid;
use crate::server;
use crate::service::{Options, Page, PageRequest, Service, ServiceError};
use args::{Cli, Command, Output};
pub use failure::{COMMAND_REASONS, CommandReason, exit_code};
use operator::{operator, operator_who_rotates};
use output::Unprinted;
use presented::read_token;

/// How long a rotation waits for other servers before it shows the new token, and waits on.
const TOKEN_SHOWN_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The exit code of what is committed, while some server may still answer as before.
const NOT_CONFIRMED: u8 = 3;

/// How a command ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
}

/// What was given on the command line cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and go to standard output.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let help = !error.use_stderr();
            // Help is for people, whatever a variable says that is meant for what commands print.
            let json = if help { says_output(Some("json")) } else { asks_for_json() };
            let printed = output::usage(&error, json);
            return ExitCode::from(if printed.is_err() { code.max(1) } else { code });
        }
    };
    let format = cli.global.output;
    if format == Output::Json && !cli.command.is_server() {
        output::speak_json();
    }
    match run(cli) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::from(1),
        // Whoever reads, as `head` does, wants no more of it: that is no failure of what was done.
        Err(error)
            if failure::of(&error).1 == 1
                && matches!(error.downcast_ref(), Some(Unprinted::Closed)) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(format, &error);
            ExitCode::from(failure::of(&error).1)
        }
    }
}

/// Every command with its flags, variables, defaults and help texts: `docs/flags.md` is made from it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Whether `--output json` is asked for, where the rest of the command line could not be read.
fn asks_for_json() -> bool {
    let by_variable = || std::env::var("SOPHIC_AUTH_OUTPUT").is_ok_and(|value| value == "json");
    says_output(Some("json")) || (!says_output(None) && by_variable())
}

/// Whether `--output` stands on the command line, with this value.
fn says_output(value: Option<&str>) -> bool {
    let words: Vec<_> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let is_value = |text: &str| value.is_none_or(|value| text == value);
    let split = words.windows(2).any(|pair| pair[0] == "--output" && is_value(&pair[1]));
    split || words.iter().any(|word| word.strip_prefix("--output=").is_some_and(is_value))
}

/// What is said on the command line and by variables.
fn parse() -> clap::error::Result<Cli> {
    let mut command = variables::without_empty(Cli::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
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
    variables::name_unknown(&Cli::command());
    operator::init(&cli.global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let url = asked::url_unasked(&cli.global).to_owned();
    let outcome = if server {
        // These end by signals, in good order.
        runtime.block_on(dispatch(cli))
    } else {
        let attended = cli.global.attended.clone();
        runtime.block_on(attended.attend(dispatch(cli)))
    };
    outcome.inspect_err(|error| runtime.block_on(asked::look_for_rights(&url, error)))
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
        Command::Credentials(command) => return credential::list::run(&global, command).await,
        Command::Leaked(args) => return credential::leaked::run(&global, args).await,
        Command::Audit(command) => audit::run(&global, command).await?,
        Command::Purge(args) => purge::run(&global, args).await?,
        Command::Introspect(args) => return introspect::run(&global, args).await,
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

/// The store, opened, with the use cases over it; to be closed by [`finish`].
async fn open(global: &args::Global) -> anyhow::Result<Arc<Service>> {
    open_with(global, Options::default()).await
}

/// The same, with these choices.
async fn open_with(global: &args::Global, options: Options) -> anyhow::Result<Arc<Service>> {
    let service = server::open_service(asked::url(global), options).await?;
    global.attended.set(&service);
    Ok(service)
}

/// Waits on, once the new token is shown.
async fn wait_for_the_end(service: &Service, end_pending: bool) -> anyhow::Result<()> {
    if end_pending {
        output::note("waiting until every server knows when the old token ends");
        service.wait_for_replicas(&operator()).await?;
        output::note("done: every server knows");
    }
    Ok(())
}

/// Every item, page after page.
async fn every<T, F>(fetch: impl Fn(PageRequest) -> F) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = Result<Page<T>, ServiceError>>,
{
    let mut items = Vec::new();
    let mut request = PageRequest { size: 1_000, token: String::new() };
    loop {
        let page = fetch(request.clone()).await?;
        items.extend(page.items);
        if page.next_token.is_empty() {
            return Ok(items);
        }
        request.token = page.next_token;
    }
}

/// The value of a flag, or what is wrong with it.
fn flag<T>(name: &str, parsed: Result<T, Invalid>) -> anyhow::Result<T> {
    parsed.map_err(|Invalid(description)| Usage(format!("{name} {description}")).into())
}

/// `--output token` prints a token alone, so it goes only with what makes one.
fn refuse_token_output(global: &args::Global) -> anyhow::Result<()> {
    if global.output == Output::Token {
        anyhow::bail!(Usage(
            "--output token goes with `create` and `rotate` only: use table or json".to_owned()
        ));
    }
    Ok(())
}
