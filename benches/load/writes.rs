//! `CreateKey` and `Revoke` in a closed loop: keys are created for a while, and then revoked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sophic_auth::grpc::pb;
use tokio::task::JoinSet;

use crate::calls::{Client, Target};
use crate::tally::Tally;
use crate::tokens;

/// The server to write to, and the load.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Number of connections, each with one call in flight.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Duration of each of the two phases in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Ids of the keys created.
type Made = Arc<Mutex<Vec<String>>>;

/// Runs both phases and returns their reports.
pub(crate) async fn run(args: Args) -> anyhow::Result<Value> {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(args.target.connect().await?);
    }
    let made = Made::default();
    let longest = Duration::from_secs_f64(args.seconds);
    let created = in_turns(&clients, longest, |client, owner, end, tally| {
        create(client, owner, end, tally, Arc::clone(&made))
    });
    let created = created.await?;
    let revoked = in_turns(&clients, longest, |client, _, end, tally| {
        revoke(client, end, tally, Arc::clone(&made))
    });
    let revoked = revoked.await?;
    Ok(json!({"create": created, "revoke": revoked}))
}

async fn in_turns<F>(
    clients: &[Client],
    longest: Duration,
    work: impl Fn(Client, u64, Instant, Arc<Mutex<Tally>>) -> F,
) -> anyhow::Result<Value>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (owner, client) in (0..).zip(clients) {
        tasks.spawn(work(client.clone(), owner, begin + longest, Arc::clone(&tally)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    // The keys may be used up before the time is over.
    let took = begin.elapsed().min(longest);
    let report = tally.lock().report(took);
    Ok(report)
}

async fn create(
    mut client: Client,
    owner: u64,
    end: Instant,
    tally: Arc<Mutex<Tally>>,
    made: Made,
) -> anyhow::Result<()> {
    loop {
        let sent = Instant::now();
        if sent >= end {
            return Ok(());
        }
        match client.create_key(new_key(owner)).await {
            Ok(created) => {
                record(&tally, sent, end);
                made.lock().push(created.into_inner().credential.unwrap_or_default().id);
            }
            Err(status) => refused(&tally, &status),
        }
    }
}

/// Returns a request for a key like those of the population.
pub(crate) fn new_key(owner: u64) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        workspace: tokens::slug(owner % tokens::OWNERS),
        name: "made while measuring".to_owned(),
        scopes: vec![pb::Scope::Read.into()],
        ..pb::CreateKeyRequest::default()
    }
}

async fn revoke(
    mut client: Client,
    end: Instant,
    tally: Arc<Mutex<Tally>>,
    made: Made,
) -> anyhow::Result<()> {
    loop {
        let sent = Instant::now();
        let id = made.lock().pop();
        let Some(id) = id.filter(|_| sent < end) else { return Ok(()) };
        let credential = Some(pb::revoke_request::Credential::CredentialId(id));
        let request = pb::RevokeRequest { credential, ..pb::RevokeRequest::default() };
        match client.revoke(request).await {
            Ok(_) => record(&tally, sent, end),
            Err(status) => refused(&tally, &status),
        }
    }
}

fn record(tally: &Mutex<Tally>, sent: Instant, end: Instant) {
    let now = Instant::now();
    let mut tally = tally.lock();
    if now <= end {
        tally.record(now - sent);
    } else {
        tally.late += 1;
    }
}

/// Counts a refusal by an overloaded server, and keeps it as the example.
fn refused(tally: &Mutex<Tally>, status: &tonic::Status) {
    let mut tally = tally.lock();
    tally.refusals += 1;
    tally.example.get_or_insert_with(|| format!("{:?}: {}", status.code(), status.message()));
}
