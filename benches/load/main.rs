//! The tools of `scripts/bench`: a load generator, servers to compare with, and the data.
//!
//! Each is a subcommand that prints one line of JSON. `benches/README.md` explains the rows and how they are kept fair.
//! Nothing here runs in `cargo test`.

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

/// The tools of `scripts/bench`.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// `cargo bench` passes this to every target. The program then does nothing.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send introspections, from memory or from the store, over hand-written HTTP/2.
    Drive(drive::Args),
    /// Run a tonic server that echoes messages of the service's sizes.
    Echo(peers::Args),
    /// Run a bare hyper server that answers bytes of the service's sizes.
    Hyper(peers::Args),
    /// Print the lengths of one answer of each kind, for the peers.
    Probe(calls::Target),
    /// Send `BatchIntrospect`, to warm a server up or to measure.
    Batch(calls::BatchArgs),
    /// Send `CreateKey`, then `Revoke` for the keys created.
    Writes(writes::Args),
    /// Measure how long a `Revoke` takes and how long its token stays active anywhere, beside one durable commit.
    Revoke(revoke::Args),
    /// Run many watchers of one server.
    Watch(watch::Args),
    /// Print the rows of a store as a script for psql.
    Rows(rows::Args),
    /// Write the rows of a store into an SQLite file.
    SqliteRows(sqlite::RowsArgs),
    /// Measure the look-up, a bare insert and a bare update on SQLite in process.
    SqliteAlone(sqlite::AloneArgs),
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` runs every target with no other arguments.
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

/// A generator must be cheap, and leave the other core to the server it measures.
fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// As production servers run.
fn many_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Prints one line and flushes, since the parent process waits for it.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
