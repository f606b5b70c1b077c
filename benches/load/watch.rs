//! Many watchers of one server: how long until the last of them receives a change, and what they cost the server.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use sophic_auth::grpc::pb;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Streaming;

use crate::calls::{Client, Target};
use crate::writes::new_key;

/// Number of watchers on one connection. A server allows 256.
const EACH: usize = 200;

/// The server to watch.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Number of changes. Each is received by all watchers before the next.
    #[arg(long, default_value_t = 10)]
    changes: u64,
    /// Wait for a line on standard input before the changes, so that the server can be inspected with all watchers
    /// connected.
    #[arg(long)]
    pause: bool,
}

/// Runs the measurement.
pub(crate) async fn run(args: Args) -> anyhow::Result<Value> {
    let started = Instant::now();
    let mut client = args.target.connect().await?;
    let (newest, _) = watch::channel(0);
    let (reports, mut all) = tokio::sync::mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for first in (0..args.watchers).step_by(EACH) {
        let connected = args.target.connect().await?;
        for _ in first..args.watchers.min(first + EACH) {
            let stream = begin(connected.clone()).await?;
            watchers.spawn(follow(stream, newest.subscribe(), reports.clone()));
        }
    }
    drop(reports);
    let opened = started.elapsed();
    if args.pause {
        crate::print(&json!({"watching": args.watchers}).to_string())?;
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    }
    let mut times = Vec::new();
    for number in 0..args.changes {
        let sent = Instant::now();
        let created = client.create_key(new_key(number)).await?.into_inner();
        let token = created.token;
        // A fresh answer has at least the revision of the change.
        let request = pb::IntrospectRequest { token, fresh: true, ..Default::default() };
        newest.send_replace(client.introspect(request).await?.into_inner().revision);
        for _ in 0..args.watchers {
            all.recv().await.context("a watcher was dropped")?;
        }
        times.push(sent.elapsed());
    }
    watchers.abort_all();
    times.sort_unstable();
    let at = |place: usize| times.get(place).map(Duration::as_secs_f64);
    Ok(json!({
        "watchers": args.watchers,
        "opened_s": opened.as_secs_f64(),
        "median_s": at(times.len() / 2),
        "max_s": at(times.len().saturating_sub(1)),
    }))
}

async fn begin(mut client: Client) -> anyhow::Result<Streaming<pb::WatchResponse>> {
    let mut stream = client.watch(pb::WatchRequest::default()).await?.into_inner();
    stream.message().await?.context("a stream that ends at once")?;
    Ok(stream)
}

/// Reports each time that it has received everything up to `newest`.
async fn follow(
    mut stream: Streaming<pb::WatchResponse>,
    mut newest: watch::Receiver<u64>,
    reports: tokio::sync::mpsc::UnboundedSender<()>,
) -> anyhow::Result<()> {
    let (mut reached, mut said) = (0, 0);
    loop {
        tokio::select! {
            response = stream.message() => reached = response?.context("an end")?.revision,
            changed = newest.changed() => changed?,
        }
        let wanted = *newest.borrow();
        if wanted > said && reached >= wanted {
            said = wanted;
            reports.send(())?;
        }
    }
}
