//! Latency of a verification from the client's cache, measured one by one. Needs a running service and a key:
//!
//!     sophic-auth dev --output json
//!     SOPHIC_AUTH_ENDPOINT=… SOPHIC_AUTH_CALLER_TOKEN=… SOPHIC_AUTH_BENCH_KEY=… cargo bench -p sophic-auth-client
//!
//! Prints as JSON the latency in nanoseconds, the cost of reading the clock that it includes, and the number of calls
//! to the service during the run.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sophic_auth_client::{Client, Counters, Presented, Scopes};

const VERIFICATIONS: usize = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = std::env::var("SOPHIC_AUTH_BENCH_KEY").map_err(|_| {
        "set SOPHIC_AUTH_ENDPOINT, SOPHIC_AUTH_CALLER_TOKEN and SOPHIC_AUTH_BENCH_KEY to what `sophic-auth dev` prints"
    })?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build()?.block_on(measure(&key))
}

async fn measure(key: &str) -> Result<(), Box<dyn std::error::Error>> {
    let counters = Arc::new(Counters::default());
    let client = Client::from_env()?.observer(counters.clone()).build()?;
    let presented = Presented::new(key).requiring(Scopes::READ);
    while client.introspect_cached(&presented).is_none() {
        if !client.introspect(&presented).await?.is_allowed() {
            return Err("the key may not read".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let clock = spans(async || {}).await;
    let calls = counters.calls.load(Ordering::Relaxed);
    let taken = spans(async || {
        // An error shows in the number of calls, or in the result.
        let _ = black_box(client.introspect(black_box(&presented)).await);
    })
    .await;
    let calls = counters.calls.load(Ordering::Relaxed) - calls;
    let at = |spans: &[u64], share: usize| spans[spans.len() * share / 1_000];
    let result = serde_json::json!({
        "verifications": VERIFICATIONS,
        "median_ns": at(&taken, 500),
        "p99_ns": at(&taken, 990),
        "p999_ns": at(&taken, 999),
        "clock_ns": at(&clock, 500),
        "calls": calls,
    });
    #[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
    {
        println!("{result}");
    }
    Ok(())
}

/// Returns the duration of each run in nanoseconds, in ascending order.
async fn spans(run: impl AsyncFn()) -> Vec<u64> {
    let mut spans = Vec::with_capacity(VERIFICATIONS);
    for _ in 0..VERIFICATIONS {
        let start = Instant::now();
        run().await;
        spans.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    spans.sort_unstable();
    spans
}
