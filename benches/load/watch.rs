//! Many who watch one server: how long until the last of them hears of a change, and how the server fares meanwhile.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use sophic_auth::grpc::pb;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Streaming;

use crate::calls::{Asked, Client};
use crate::writes::new_key;

/// Watchers on one connection: a server lets 256 be.
const EACH: usize = 200;

/// Whom to watch.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Changes, one after the other, each heard by all before the next.
    #[arg(long, default_value_t = 10)]
    changes: u64,
    /// Waits for a line on standard input before the changes: with all watching, somebody may want to look.
    #[arg(long)]
    pause: bool,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> anyhow::Result<Value> {
    let begun = Instant::now();
    let mut client = args.asked.connect().await?;
    let (newest, _) = watch::channel(0);
    let (heard, mut all) = tokio::sync::mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for first in (0..args.watchers).step_by(EACH) {
        let connected = args.asked.connect().await?;
        for _ in first..args.watchers.min(first + EACH) {
            let stream = begin(connected.clone()).await?;
            watchers.spawn(follow(stream, newest.subscribe(), heard.clone()));
        }
    }
    drop(heard);
    let opened = begun.elapsed();
    if args.pause {
        crate::print(&json!({"watching": args.watchers}).to_string())?;
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    }
    let mut times = Vec::new();
    for number in 0..args.changes {
        let sent = Instant::now();
        let created = client.create_key(new_key(number)).await?.into_inner();
        let token = created.token;
        // The answer's revision is not older than the change.
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

/// Says each time that it has heard of everything up to the newest.
async fn follow(
    mut stream: Streaming<pb::WatchResponse>,
    mut newest: watch::Receiver<u64>,
    heard: tokio::sync::mpsc::UnboundedSender<()>,
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
            heard.send(())?;
        }
    }
}
