//! Background tasks of a server: writing last-use times and suppressed refusals, purging, writing pending end events, and
//! synchronizing the clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{defaults, spawn};
use crate::service::{Context, Service};

/// Time limit of the final flush when the server stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which the server synchronizes its clock with the store.
const CLOCK_SYNC_INTERVAL: Duration = Duration::from_secs(10);
/// Interval at which the server checks whether this machine's clock was set. If so, it synchronizes at once.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which pending end events are written. Without any, that is one statement on an empty table.
const PENDING_ENDS_INTERVAL: Duration = Duration::from_secs(1);

/// Intervals of the background tasks, and retention times.
#[derive(Debug, Clone, Copy)]
pub struct Housekeeping {
    /// Interval between flushes of last-use times.
    pub last_use_flush: Duration,
    /// Interval between purges. The first runs at start.
    pub purge_every: Duration,
    /// Retention of revoked and expired credentials. Zero keeps them for ever.
    pub purge_dead_after: Duration,
    /// Retention of rows of the change log. Zero keeps them for ever.
    pub purge_changes_after: Duration,
}

impl Default for Housekeeping {
    fn default() -> Self {
        Self {
            last_use_flush: defaults::LAST_USE_FLUSH.value,
            purge_every: defaults::PURGE_EVERY.value,
            purge_dead_after: defaults::PURGE_DEAD_AFTER.value,
            purge_changes_after: defaults::PURGE_CHANGES_AFTER.value,
        }
    }
}

/// The running tasks. They end when the server stops.
pub(super) struct Background {
    service: Arc<Service>,
    tasks: [JoinHandle<()>; 4],
}

impl Background {
    pub(super) fn start(
        service: &Arc<Service>,
        housekeeping: Housekeeping,
        stop: &CancellationToken,
    ) -> Self {
        let flush = flush(Arc::clone(service), housekeeping.last_use_flush, stop.clone());
        let purge = purge(Arc::clone(service), housekeeping, stop.clone());
        let pending_ends = write_pending_ends(Arc::clone(service), stop.clone());
        let clock = sync_clock(Arc::clone(service), stop.clone());
        let tasks = [spawn(flush), spawn(purge), spawn(pending_ends), spawn(clock)];
        Self { service: Arc::clone(service), tasks }
    }

    /// Waits for the tasks, then flushes once more. Call it after the last request and before the store closes.
    pub(super) async fn finish(self) {
        for task in self.tasks {
            // Nothing aborts these tasks, so the only error is a panic, and then there is nothing left to wait for.
            let _ = task.await;
        }
        if timeout(FINISH_TIMEOUT, flush_uses_and_refusals(&self.service)).await.is_err() {
            tracing::warn!("could not write the last-use times before the time limit");
        }
    }
}

/// Writes last-use times of credentials and callers, and the number of refusals that were not recorded one by one.
async fn flush_uses_and_refusals(service: &Service) {
    service.flush_last_uses().await;
    service.flush_caller_uses().await;
    service.record_suppressed_refusals().await;
}

/// Regularly calls [`flush_uses_and_refusals`], and writes last-use times sooner when they fill up.
async fn flush(service: Arc<Service>, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => flush_uses_and_refusals(&service).await,
            () = service.last_uses_fill_up() => { service.flush_last_uses().await; }
            () = stop.cancelled() => return,
        }
    }
}

/// Regularly synchronizes the clock with the store, and at once when this machine's clock was set. Failures are not logged
/// here, because the readiness monitor reports a store that is unreachable.
async fn sync_clock(service: Arc<Service>, stop: CancellationToken) {
    let mut synced = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(CLOCK_CHECK_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        if synced.elapsed() < CLOCK_SYNC_INTERVAL && !service.clock_was_set() {
            continue;
        }
        synced = Instant::now();
        tokio::select! {
            _ = service.sync_clock() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Writes pending end events to the audit log: those of credentials that ended with their owner. Retries a failure at the
/// next interval.
async fn write_pending_ends(service: Arc<Service>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PENDING_ENDS_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        let written = tokio::select! {
            written = service.write_pending_ends(|_| ()) => written,
            () = stop.cancelled() => return,
        };
        match written {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(
                    count,
                    "wrote audit events of credentials that ended with their owner"
                );
            }
            Err(error) => {
                tracing::debug!(%error, "could not write audit events of credentials that ended with their owner");
            }
        }
    }
}

/// Regularly purges old rows, and lets programs of earlier releases open the store again once they may. Retries a failure at the next interval.
async fn purge(service: Arc<Service>, housekeeping: Housekeeping, stop: CancellationToken) {
    loop {
        let started = Instant::now();
        tokio::select! {
            () = clean(&service, housekeeping) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep_until(started + housekeeping.purge_every) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn clean(service: &Arc<Service>, housekeeping: Housekeeping) {
    if let Err(error) = service.release_rules().await {
        tracing::warn!(%error, "could not check whether programs of earlier releases may open the store");
    }
    if !housekeeping.purge_dead_after.is_zero() {
        let cutoff = service.ago(housekeeping.purge_dead_after);
        match service.purge_dead(Context::operator("server"), cutoff, |_| ()).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "purged credentials that were revoked or expired long ago");
            }
            Err(error) => tracing::warn!(%error, "could not purge revoked and expired credentials"),
        }
    }
    if !housekeeping.purge_changes_after.is_zero() {
        let cutoff = service.ago(housekeeping.purge_changes_after);
        match service.purge_changes(cutoff).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "purged old rows of the change log"),
            Err(error) => tracing::warn!(%error, "could not purge old rows of the change log"),
        }
    }
}
