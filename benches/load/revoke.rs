//! Measures how long a `Revoke` takes to return, how long its token stays active at any replica, and how long one
//! durable commit takes on the same store. The measurements alternate in one run.
//!
//! In every other round nobody introspects, and the time of the call is measured. In the rounds between, each replica
//! is asked about the token without a pause, and the time of the last active answer is recorded. An active answer to a
//! request sent after `Revoke` had returned breaks the promise and counts as a violation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use sophic_auth::grpc::pb;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Client};
use crate::writes::new_key;

/// How long to keep asking after a `Revoke` has returned.
const AFTERWARDS: Duration = Duration::from_millis(50);
/// Pause between two requests to one replica, because there are only two cores.
const PAUSE: Duration = Duration::from_micros(500);

/// The servers to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Addresses of the replicas. Keys are created and revoked at each in turn.
    #[arg(long = "replica", required = true)]
    replicas: Vec<SocketAddr>,
    #[arg(long)]
    caller_token: String,
    /// URL of their store.
    #[arg(long)]
    postgres: String,
    #[arg(long, default_value_t = 20)]
    iterations: usize,
    /// Measure only the call, because one replica does not answer.
    #[arg(long)]
    alone: bool,
}

#[derive(Default)]
struct Times {
    commit: Vec<Duration>,
    revoke: Vec<Duration>,
    stale: Vec<Duration>,
    violations: u64,
}

/// Runs the measurement.
pub(crate) async fn run(args: Args) -> anyhow::Result<Value> {
    let mut clients = Vec::new();
    for replica in &args.replicas {
        clients.push(calls::connect(*replica, &args.caller_token).await?);
    }
    let mut db = PgConnection::connect(&args.postgres).await.context("connecting to the store")?;
    sqlx::query("CREATE TABLE IF NOT EXISTS bench_commits (id int PRIMARY KEY, n bigint NOT NULL)")
        .execute(&mut db)
        .await?;
    sqlx::query("INSERT INTO bench_commits VALUES (1, 0) ON CONFLICT DO NOTHING")
        .execute(&mut db)
        .await?;
    let mut times = Times::default();
    // The first round prepares statements and opens connections. With a replica that does not answer there is no such
    // round: the first Revoke gives it up, and no later one would wait for it.
    let warm_up = usize::from(!args.alone);
    for round in 0..args.iterations + warm_up {
        let watched = !args.alone && round % 2 == 1;
        let mut one = Times::default();
        one.commit.push(commit(&mut db).await?);
        revoke(&clients, round, watched, &mut one).await?;
        if round >= warm_up {
            times.commit.append(&mut one.commit);
            times.revoke.append(&mut one.revoke);
            times.stale.append(&mut one.stale);
        }
        times.violations += one.violations;
    }
    Ok(json!({
        "commit": spread(&mut times.commit),
        "revoke": spread(&mut times.revoke),
        "stale": spread(&mut times.stale),
        "violations": times.violations,
    }))
}

/// Commits a change of one row durably, the smallest commit possible.
async fn commit(db: &mut PgConnection) -> anyhow::Result<Duration> {
    let started = Instant::now();
    sqlx::query("UPDATE bench_commits SET n = n + 1 WHERE id = 1").execute(db).await?;
    Ok(started.elapsed())
}

async fn revoke(
    clients: &[Client],
    round: usize,
    watched: bool,
    times: &mut Times,
) -> anyhow::Result<()> {
    let mut client = clients[round % clients.len()].clone();
    let created = client.create_key(new_key(round as u64)).await?.into_inner();
    let (token, id) = (created.token, created.credential.unwrap_or_default().id);
    let returned = Arc::new(AtomicU64::new(u64::MAX));
    let stop = CancellationToken::new();
    let epoch = Instant::now();
    let mut watchers = JoinSet::new();
    if watched {
        for client in clients {
            let one = Watcher {
                client: client.clone(),
                token: token.clone(),
                epoch,
                returned: Arc::clone(&returned),
            };
            watchers.spawn(one.run(stop.clone()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let credential = Some(pb::revoke_request::Credential::CredentialId(id));
    let request = pb::RevokeRequest { credential, ..pb::RevokeRequest::default() };
    let sent = Instant::now();
    client.revoke(request).await?;
    let now = Instant::now();
    returned.store(nanos(now - epoch), Ordering::SeqCst);
    if watched {
        tokio::time::sleep(AFTERWARDS).await;
        stop.cancel();
        let mut last = Duration::ZERO;
        while let Some(ended) = watchers.join_next().await {
            let (active, violations) = ended??;
            last = last.max(active);
            times.violations += violations;
        }
        times.stale.push((epoch + last).saturating_duration_since(sent));
    } else {
        times.revoke.push(now - sent);
    }
    Ok(())
}

/// Introspects one token at one replica.
struct Watcher {
    client: Client,
    token: String,
    epoch: Instant,
    /// When `Revoke` returned, in nanoseconds since `epoch`.
    returned: Arc<AtomicU64>,
}

impl Watcher {
    /// Returns the time of the last active answer, and the number of active answers to requests sent after the Revoke.
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<(Duration, u64)> {
        let (mut last, mut violations) = (Duration::ZERO, 0);
        while !stop.is_cancelled() {
            let request = pb::IntrospectRequest {
                token: self.token.clone(),
                ..pb::IntrospectRequest::default()
            };
            let sent = nanos(self.epoch.elapsed());
            let late = sent > self.returned.load(Ordering::SeqCst);
            let answer = self.client.introspect(request).await?.into_inner();
            if answer.active {
                last = self.epoch.elapsed();
                violations += u64::from(late);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok((last, violations))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the distribution in milliseconds.
fn spread(times: &mut [Duration]) -> Value {
    times.sort_unstable();
    let at = |part: usize| {
        let place = (times.len().saturating_sub(1)) * part / 100;
        times.get(place).map(|time| time.as_secs_f64() * 1_000.0)
    };
    json!({"n": times.len(), "min_ms": at(0), "p50_ms": at(50), "p99_ms": at(99), "max_ms": at(100)})
}
