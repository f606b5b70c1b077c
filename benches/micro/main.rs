//! Measures an introspection from memory in process, without a wire, and checks that it allocates nothing.
//!
//! It does all that `Service::introspect_from_memory` does: check characters and digest of the token, look-up in the
//! mirror, lease, decision. The tokens are the live ones of a file made by `load sqlite-rows`, in random order. Prints
//! one line of JSON. It is a separate target because counting needs its own allocator, which must not slow down the
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
use sophic_auth::store::Location;
use sophic_auth::token::digest_of_presented;

/// Number of introspections that are timed together, since reading the clock takes tens of nanoseconds itself.
const AT_ONCE: usize = 16;
/// Longest time that is recorded exactly, in nanoseconds.
const LONGEST_NS: u64 = 1_000_000_000;

/// Measure introspection from memory, in process.
#[derive(Debug, Parser)]
struct Args {
    /// Path of the file with the population.
    #[arg(long)]
    path: PathBuf,
    /// Number of live credentials in it.
    #[arg(long)]
    live: u64,
    #[arg(long, default_value_t = 5)]
    rounds: u64,
}

/// A token, and the workspace to act in.
struct Sample {
    token: String,
    workspace: String,
}

/// All requests, back to back in the order of use. A server's request is contiguous too, and was just written to memory
/// when it is read.
struct Requests {
    texts: String,
    /// Where each token ends, and the workspace after it.
    ends: Vec<(usize, usize)>,
}

impl Requests {
    fn shuffled(samples: &[Sample], seed: u64) -> Self {
        let mut requests = Self { texts: String::new(), ends: Vec::new() };
        for place in shuffled(samples.len(), seed) {
            requests.texts += &samples[place].token;
            let token = requests.texts.len();
            requests.texts += &samples[place].workspace;
            requests.ends.push((token, requests.texts.len()));
        }
        requests
    }

    fn requests(&self) -> impl Iterator<Item = IntrospectionRequest<'_>> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        begins.zip(&self.ends).map(|(begin, (token, end))| {
            request(&self.texts[begin..*token], &self.texts[*token..*end])
        })
    }
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` runs every target with no other arguments.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        return print("a part of scripts/bench: run that");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(Args::parse()))?;
    print(&report.to_string())
}

async fn measure(args: Args) -> anyhow::Result<serde_json::Value> {
    let location = Location::Sqlite(args.path.clone());
    let any = ([127, 0, 0, 1], 0).into();
    let running = server::start(Config::new(location, any, any)).await?;
    let service = Arc::clone(&running.service);
    let samples = population(args.live)?;
    for one in &samples {
        service.introspect(&request(&one.token, &one.workspace)).await?;
    }
    let mut rounds = Rounds::default();
    for round in 0..args.rounds {
        rounds.run(&service, &samples, round)?;
    }
    running.stop().await;
    anyhow::ensure!(rounds.bad == 0, "{} were not from memory, or not allowed", rounds.bad);
    Ok(serde_json::json!({
        "tokens": samples.len(),
        "median_ns": rounds.median,
        "p99_ns": rounds.p99,
        "allocations": rounds.allocations,
        "digest_ns": digest_alone(&samples),
    }))
}

/// Results of all rounds.
#[derive(Default)]
struct Rounds {
    median: Vec<u64>,
    p99: Vec<u64>,
    allocations: u64,
    bad: usize,
}

impl Rounds {
    fn run(&mut self, service: &Service, samples: &[Sample], seed: u64) -> anyhow::Result<()> {
        let requests = Requests::shuffled(samples, seed);
        let mut requests = requests.requests();
        let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3)?;
        let counted = allocation_counter::measure(|| {
            for _ in 0..samples.len() / AT_ONCE {
                let started = Instant::now();
                for request in requests.by_ref().take(AT_ONCE) {
                    let snapshot = service.lease_snapshot();
                    let answer = service.introspect_from_memory(black_box(&request), snapshot);
                    let allowed = answer
                        .ok()
                        .flatten()
                        .is_some_and(|answer| answer.decision.denial.is_none());
                    self.bad += usize::from(!allowed);
                }
                times.saturating_record(nanos(started) / AT_ONCE as u64);
            }
        });
        self.allocations += counted.count_total;
        self.median.push(times.value_at_quantile(0.5));
        self.p99.push(times.value_at_quantile(0.99));
        Ok(())
    }
}

/// Measures the check characters and the digest alone, which is the lower bound.
fn digest_alone(samples: &[Sample]) -> u64 {
    let started = Instant::now();
    for one in samples {
        black_box(digest_of_presented(black_box(&one.token), false));
    }
    nanos(started) / samples.len().max(1) as u64
}

fn nanos(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn request<'a>(token: &'a str, workspace: &'a str) -> IntrospectionRequest<'a> {
    IntrospectionRequest {
        token,
        workspace,
        required_scopes: ScopeSet::from_scopes(&[Scope::Read]),
        client_ip: Some(IpAddr::from([203, 0, 113, 27])),
        fresh: false,
        at_least_revision: 0,
        caller_id: None,
    }
}

fn population(live: u64) -> anyhow::Result<Vec<Sample>> {
    let one = |index| {
        let token = String::from_utf8(tokens::token(index).to_vec())?;
        Ok(Sample { token, workspace: tokens::slug(tokens::owner(index)) })
    };
    (0..live).map(one).collect()
}

/// Returns each index once, in random order.
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
