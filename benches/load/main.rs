//! What `scripts/bench` measures with: a generator of load, the servers that it is compared with, and the data.
//!
//! One subcommand for each; each prints one line of JSON. `benches/README.md` says what the rows mean and how fairness is
//! kept. Nothing here runs in `cargo test`.

mod calls;
mod drive;
mod http2;
mod peers;
mod revoke;
mod rows;
mod sqlite;
mod tally;
mod tokens;
mod watch;
mod writes;

use std::io::Write as _;

use clap::{Parser, Subcommand};

/// The parts of `scripts/bench`.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// `cargo bench` says so to every target; nothing is to be done then.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Introspections from memory or store, over hand-written HTTP/2.
    Drive(drive::Args),
    /// A tonic server that echoes at the sizes of ours.
    Echo(peers::Args),
    /// A bare hyper server that answers bytes at the sizes of ours.
    Hyper(peers::Args),
    /// One answer of each kind: the sizes that the peers are to have.
    Probe(calls::Asked),
    /// `BatchIntrospect`, to warm a server up or to measure.
    Batch(calls::BatchArgs),
    /// `CreateKey`, then `Revoke` of what was made.
    Writes(writes::Args),
    /// How long a `Revoke` takes, and how long its token lives on anywhere, beside one durable commit.
    Revoke(revoke::Args),
    /// Many who watch one server.
    Watch(watch::Args),
    /// The rows of a store, as a script for psql.
    Rows(rows::Args),
    /// The rows of a store, into a file of SQLite.
    SqliteRows(sqlite::RowsArgs),
    /// The look-up, and a bare insert and update, on SQLite in process.
    SqliteAlone(sqlite::AloneArgs),
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` runs every target without arguments.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        return print("the parts of scripts/bench: run that");
    }
    let report = match Cli::parse().command {
        Command::Drive(args) => one_thread()?.block_on(drive::run(args))?,
        Command::Echo(args) => many_threads()?.block_on(peers::echo(args))?,
        Command::Hyper(args) => many_threads()?.block_on(peers::bare(args))?,
        Command::Probe(args) => one_thread()?.block_on(calls::probe(args))?,
        Command::Batch(args) => one_thread()?.block_on(calls::batch(args))?,
        Command::Writes(args) => one_thread()?.block_on(writes::run(args))?,
        Command::Revoke(args) => one_thread()?.block_on(revoke::run(args))?,
        Command::Watch(args) => one_thread()?.block_on(watch::run(args))?,
        Command::Rows(args) => return rows::write(&args),
        Command::SqliteRows(args) => one_thread()?.block_on(sqlite::rows(args))?,
        Command::SqliteAlone(args) => many_threads()?.block_on(sqlite::alone(args))?,
    };
    print(&report.to_string())
}

/// A generator has to be cheap, and to leave the other core to whom it measures.
fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// As servers run.
fn many_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// One line to whoever started this, at once.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
