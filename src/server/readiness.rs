//! Readiness of this server, for introspection and for management separately. While the store is unreachable,
//! introspection can still answer from memory. Management cannot.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::service::{MemoryState, Readiness, Service};
use crate::store::StoreError;

/// Interval between probes of the store.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of a read probe.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of a write probe. It is longer because a write may queue behind others.
const WRITE_TIMEOUT: Duration = Duration::from_secs(6);
/// Interval between checks of the cache, because a lease expires without a notification.
const CACHE_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Result of the last probe. `None` before the first.
type ProbeResult = Option<Result<(), StoreError>>;

/// Source of answers to introspections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Store,
    Memory,
    LastKnown,
    Nowhere,
    /// The store is reachable, but denies reads.
    Denied,
}

impl Source {
    const fn can_answer(self) -> bool {
        !matches!(self, Self::Nowhere | Self::Denied)
    }
}

/// Probes the store and checks the cache until `stop`. Publishes the readiness and logs each change once.
pub(super) async fn monitor(
    service: Arc<Service>,
    ready: watch::Sender<Readiness>,
    stop: CancellationToken,
) {
    let (can_read, readable) = watch::channel(None);
    let (can_write, writable) = watch::channel(None);
    let probing = async {
        tokio::join!(
            probe(&service, Probe::Read, can_read),
            probe(&service, Probe::Write, can_write),
            publish(&service, readable, writable, &ready),
        )
    };
    tokio::select! {
        _ = probing => {}
        () = stop.cancelled() => {}
    }
}

/// Kind of a probe.
#[derive(Debug, Clone, Copy)]
enum Probe {
    Read,
    Write,
}

/// Probes the store at every interval.
async fn probe(service: &Service, probe: Probe, result: watch::Sender<ProbeResult>) {
    loop {
        let answer = async {
            match probe {
                Probe::Read => service.probe_reads().await,
                Probe::Write => service.probe_writes().await,
            }
        };
        let timeout = match probe {
            Probe::Read => READ_TIMEOUT,
            Probe::Write => WRITE_TIMEOUT,
        };
        let late = |_| StoreError::Unavailable(format!("it did not answer within {timeout:?}"));
        let answer = tokio::time::timeout(timeout, answer).await.map_err(late);
        result.send_replace(Some(answer.and_then(|answer| answer)));
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Publishes the readiness whenever a probe or the cache changes it.
async fn publish(
    service: &Service,
    mut readable: watch::Receiver<ProbeResult>,
    mut writable: watch::Receiver<ProbeResult>,
    health: &watch::Sender<Readiness>,
) {
    let mut logged = LoggedState::default();
    loop {
        let reads = readable.borrow_and_update().clone();
        let writes = writable.borrow_and_update().clone();
        if let Some(reads) = &reads {
            let source = source(service.memory_state(), reads);
            logged.source(source, reads);
            let management = matches!((reads, &writes), (Ok(()), Some(Ok(()))));
            if let Some(writes) = &writes {
                logged.management(management, if reads.is_err() { reads } else { writes });
            }
            let now = Readiness { introspection: source.can_answer(), management };
            health.send_if_modified(|last| std::mem::replace(last, now) != now);
        }
        tokio::select! {
            () = tokio::time::sleep(CACHE_CHECK_INTERVAL) => {}
            _ = readable.changed() => {}
            _ = writable.changed() => {}
        }
    }
}

/// Returns the source of answers, by the state of the cache and the last read probe.
fn source(memory: MemoryState, reads: &Result<(), StoreError>) -> Source {
    if reads.is_ok() {
        Source::Store
    } else if matches!(reads, Err(StoreError::Denied(_))) {
        Source::Denied
    } else {
        match memory {
            MemoryState::Current => Source::Memory,
            MemoryState::LastKnown => Source::LastKnown,
            MemoryState::TooOld => Source::Nowhere,
        }
    }
}

/// State that was logged last.
#[derive(Debug, Default)]
struct LoggedState {
    source: Option<Source>,
    management: Option<bool>,
}

impl LoggedState {
    fn source(&mut self, source: Source, reads: &Result<(), StoreError>) {
        let before = self.source.replace(source);
        if before == Some(source) {
            return;
        }
        let error = reads.as_ref().err().map(StoreError::cause).unwrap_or_default();
        match source {
            Source::Store if before.is_none() => tracing::info!("serving"),
            Source::Store => tracing::info!("the store answers again: serving normally"),
            Source::Memory => tracing::warn!(
                error,
                "the store is unreachable: introspections are answered from memory until the lease expires"
            ),
            Source::LastKnown => tracing::warn!(
                error,
                "the store is unreachable and the lease has expired: answers are stale, and marked so, until \
                --outage-grace is over"
            ),
            Source::Nowhere => tracing::error!(
                error,
                "the store is unreachable and the cache is too old: not serving"
            ),
            Source::Denied => tracing::error!(
                error,
                "the store denies this server reads: not serving. docs/postgres-roles.md lists the rights it needs"
            ),
        }
    }

    fn management(&mut self, serving: bool, result: &Result<(), StoreError>) {
        let before = self.management.replace(serving);
        if before == Some(serving) {
            return;
        }
        let error = result.as_ref().err().map(StoreError::cause).unwrap_or_default();
        match (before, serving) {
            (None, true) => {}
            (_, true) => tracing::info!("management works again"),
            (_, false) => {
                tracing::warn!(error, "management does not work: the store accepts no writes");
            }
        }
    }
}
