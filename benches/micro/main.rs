//! In process: what an introspection from memory costs without any wire, and that it allocates nothing.
//!
//! Check characters and digest of the token, look-up in the mirror, the lease, the decision: all that
//! `Service::introspect_from_memory` does, over the live tokens of a file that `load sqlite-rows` made, in random order.
//! Prints one line of JSON. A target of its own, since counting takes an allocator of its own, which must not slow the
//! servers of `load`.

#[path = "../load/tokens.rs"]
#[expect(dead_code, reason = "the other target uses the rest")]
mod tokens;

use std::hint::black_box;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use hdrhistogram::Histogram;
use sophic_auth::model::{Scope, ScopeSet};
use sophic_auth::server::{self, Config};
use sophic_auth::service::{IntrospectionRequest, Service};
use sophic_auth::token::digest_of_presented;

/// Times are taken of so many at once: looking at the clock takes tens of nanoseconds itself.
const AT_ONCE: usize = 16;
/// The longest that is told apart, in nanoseconds.
const LONGEST_NS: u64 = 1_000_000_000;

/// Introspection from memory, in process.
#[derive(Debug, Parser)]
struct Args {
    /// The file with the population.
    #[arg(long)]
    path: PathBuf,
    /// Live credentials in it.
    #[arg(long)]
    live: u64,
    #[arg(long, default_value_t = 5)]
    rounds: u64,
}

/// A token, and the workspace that is asked for.
struct Presented {
    token: String,
    workspace: String,
}

/// All that is presented, one behind the other in the order of asking: a request comes in one piece, and has just been
/// written to memory when it is looked at.
struct Asked {
    texts: String,
    /// Where each token ends, and the workspace behind it.
    ends: Vec<(usize, usize)>,
}

impl Asked {
    fn shuffled(presented: &[Presented], seed: u64) -> Self {
        let mut asked = Self { texts: String::new(), ends: Vec::new() };
        for place in shuffled(presented.len(), seed) {
            asked.texts += &presented[place].token;
            let token = asked.texts.len();
            asked.texts += &presented[place].workspace;
            asked.ends.push((token, asked.texts.len()));
        }
        asked
    }

    fn requests(&self) -> impl Iterator<Item = IntrospectionRequest<'_>> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins.zip(&self.ends).map(|(begin, (token, end))| {
            request(&self.texts[begin..*token], &self.texts[*token..*end])
        })
    }
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` runs every target without arguments.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        return print("a part of scripts/bench: run that");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(Args::parse()))?;
    print(&report.to_string())
}

async fn measure(args: Args) -> anyhow::Result<serde_json::Value> {
    let url = format!("sqlite:{}", args.path.display());
    let any = ([127, 0, 0, 1], 0).into();
    let running = server::start(Config::new(&url, any, any)).await?;
    let service = Arc::clone(&running.service);
    let presented = population(args.live)?;
    for one in &presented {
        service.introspect(&request(&one.token, &one.workspace)).await?;
    }
    let mut rounds = Rounds::default();
    for round in 0..args.rounds {
        rounds.run(&service, &presented, round)?;
    }
    running.stop().await;
    anyhow::ensure!(rounds.bad == 0, "{} were not from memory, or not allowed", rounds.bad);
    Ok(serde_json::json!({
        "tokens": presented.len(),
        "median_ns": rounds.median,
        "p99_ns": rounds.p99,
        "allocations": rounds.allocations,
        "digest_ns": digest_alone(&presented),
    }))
}

/// What came of each round.
#[derive(Default)]
struct Rounds {
    median: Vec<u64>,
    p99: Vec<u64>,
    allocations: u64,
    bad: usize,
}

impl Rounds {
    fn run(&mut self, service: &Service, presented: &[Presented], seed: u64) -> anyhow::Result<()> {
        let asked = Asked::shuffled(presented, seed);
        let mut requests = asked.requests();
        let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3)?;
        let counted = allocation_counter::measure(|| {
            for _ in 0..presented.len() / AT_ONCE {
                let begun = Instant::now();
                for request in requests.by_ref().take(AT_ONCE) {
                    let term = service.term();
                    let answer = service.introspect_from_memory(black_box(&request), term);
                    let allowed = answer
                        .ok()
                        .flatten()
                        .is_some_and(|answer| answer.decision.denial.is_none());
                    self.bad += usize::from(!allowed);
                }
                times.saturating_record(nanos(begun) / AT_ONCE as u64);
            }
        });
        self.allocations += counted.count_total;
        self.median.push(times.value_at_quantile(0.5));
        self.p99.push(times.value_at_quantile(0.99));
        Ok(())
    }
}

/// The check characters and the digest by themselves: the floor of it.
fn digest_alone(presented: &[Presented]) -> u64 {
    let begun = Instant::now();
    for one in presented {
        black_box(digest_of_presented(black_box(&one.token), false));
    }
    nanos(begun) / presented.len().max(1) as u64
}

fn nanos(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn request<'a>(token: &'a str, workspace: &'a str) -> IntrospectionRequest<'a> {
    IntrospectionRequest {
        token,
        workspace,
        required_scopes: ScopeSet::from_scopes(&[Scope::Read]),
        client_ip: Some(IpAddr::from([203, 0, 113, 27])),
        fresh: false,
        at_least_revision: 0,
        asker: None,
    }
}

fn population(live: u64) -> anyhow::Result<Vec<Presented>> {
    let one = |index| {
        let token = String::from_utf8(tokens::token(index).to_vec())?;
        Ok(Presented { token, workspace: tokens::slug(tokens::owner(index)) })
    };
    (0..live).map(one).collect()
}

/// Every place once.
fn shuffled(length: usize, mut seed: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..length).collect();
    for end in (1..length).rev() {
        let other = tokens::mixed(&mut seed) % (end as u64 + 1);
        places.swap(end, usize::try_from(other).unwrap_or_default());
    }
    places
}

fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
