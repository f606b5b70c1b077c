//! What the server does on its own, beside answering: writing last uses, counting refusals, and cleaning up.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::spawn;
use crate::service::{Context, Service};

/// How long the last flush may take when the server stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the store is asked for the time.
const HEAR_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether this machine's clock was set: then the store is asked at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the audit log has yet to be told of something: one statement on an empty table.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How often, and what of how long ago.
#[derive(Debug, Clone, Copy)]
pub struct Housekeeping {
    /// How often last uses are written.
    pub last_use_flush: Duration,
    /// How often to clean up, beginning with the start.
    pub purge_every: Duration,
    /// How long dead credentials stay; zero: for ever.
    pub purge_dead_after: Duration,
    /// How long rows of the change log stay; zero: for ever.
    pub purge_changes_after: Duration,
}

impl Default for Housekeeping {
    fn default() -> Self {
        Self {
            last_use_flush: Duration::from_mins(1),
            purge_every: Duration::from_hours(1),
            purge_dead_after: Duration::from_hours(90 * 24),
            purge_changes_after: Duration::from_hours(7 * 24),
        }
    }
}

/// The tasks, which end when the server is told to stop.
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
        let tell = tell(Arc::clone(service), stop.clone());
        let time = time(Arc::clone(service), stop.clone());
        let tasks = [spawn(flush), spawn(purge), spawn(tell), spawn(time)];
        Self { service: Arc::clone(service), tasks }
    }

    /// Waits for the tasks, and writes what the last requests have left. After the last of them, before the store closes.
    pub(super) async fn finish(self) {
        for task in self.tasks {
            // They only end by themselves; were one to panic, there would be nothing left to wait for.
            let _ = task.await;
        }
        if timeout(FINISH_TIMEOUT, write(&self.service)).await.is_err() {
            tracing::warn!("the last uses could not be written in time");
        }
    }
}

async fn write(service: &Service) {
    service.flush_last_uses().await;
    service.record_suppressed_refusals().await;
}

/// Writes last uses, and how many refusals went unrecorded.
async fn flush(service: Arc<Service>, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => write(&service).await,
            () = service.last_uses_fill_up() => { service.flush_last_uses().await; }
            () = stop.cancelled() => return,
        }
    }
}

/// Asks the store for the time now and then, and when this machine's clock was set. What fails is told by whatever else needs
/// the store.
async fn time(service: Arc<Service>, stop: CancellationToken) {
    let mut asked = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if asked.elapsed() < HEAR_EVERY && !service.clock_was_set() {
            continue;
        }
        asked = Instant::now();
        tokio::select! {
            _ = service.hear_the_time() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Tells the audit log of credentials that died with their owner. What fails is tried again the next time.
async fn tell(service: Arc<Service>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TELL_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let told = tokio::select! {
            told = service.tell_revoked(|_| ()) => told,
            () = stop.cancelled() => return,
        };
        match told {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "told the audit log of what had died with its owner");
            }
            Err(error) => tracing::debug!(%error, "the audit log could not be told what had died"),
        }
    }
}

/// Cleans up. What fails is tried again the next time.
async fn purge(service: Arc<Service>, housekeeping: Housekeeping, stop: CancellationToken) {
    loop {
        let begun = Instant::now();
        tokio::select! {
            () = clean(&service, housekeeping) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep_until(begun + housekeeping.purge_every) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn clean(service: &Arc<Service>, housekeeping: Housekeeping) {
    if !housekeeping.purge_dead_after.is_zero() {
        let cutoff = service.ago(housekeeping.purge_dead_after);
        match service.purge_dead(Context::operator("server"), cutoff, |_| ()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "purged credentials that had long been dead"),
            Err(error) => tracing::warn!(%error, "dead credentials could not be purged"),
        }
    }
    if !housekeeping.purge_changes_after.is_zero() {
        let cutoff = service.ago(housekeeping.purge_changes_after);
        match service.purge_changes(cutoff).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "purged old rows of the change log"),
            Err(error) => tracing::warn!(%error, "old changes could not be purged"),
        }
    }
}
