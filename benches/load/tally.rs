//! Counting answers, and reporting the counts.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest time that is recorded exactly, in nanoseconds: one minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// Counts and times of answers.
pub(crate) struct Tally {
    times: Histogram<u64>,
    /// Wrong answers.
    pub(crate) mismatches: u64,
    /// Calls that failed with an error instead of a message.
    pub(crate) refusals: u64,
    /// Right answers after the end, to calls that were in flight then.
    pub(crate) late: u64,
    /// Calls that broke or never ended.
    pub(crate) broken: u64,
    /// The first wrong answer, for debugging.
    pub(crate) example: Option<String>,
}

impl Tally {
    /// Returns an empty tally.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let times = Histogram::new_with_bounds(1_000, LONGEST_NS, 3)?;
        Ok(Self { times, mismatches: 0, refusals: 0, late: 0, broken: 0, example: None })
    }

    /// Records an answer.
    pub(crate) fn record(&mut self, took: Duration) {
        self.times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Returns the number of answers.
    pub(crate) fn len(&self) -> u64 {
        self.times.len()
    }

    /// Returns the report as JSON, with times in microseconds.
    pub(crate) fn report(&self, took: Duration) -> Value {
        let micros = |ns: u64| float(ns) / 1_000.0;
        json!({
            "requests": self.len(),
            "seconds": took.as_secs_f64(),
            "rate": float(self.len()) / took.as_secs_f64(),
            "p50_us": micros(self.times.value_at_quantile(0.5)),
            "p99_us": micros(self.times.value_at_quantile(0.99)),
            "p999_us": micros(self.times.value_at_quantile(0.999)),
            "max_us": micros(self.times.max()),
            "mismatches": self.mismatches,
            "refusals": self.refusals,
            "late": self.late,
            "broken": self.broken,
            "example": self.example,
        })
    }
}

/// Returns the CPU time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let on_core = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(on_core.unwrap_or_default())
}

/// Converts a count for a division.
#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
