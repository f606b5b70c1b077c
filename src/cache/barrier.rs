//! The revocation barrier in the process that revokes: drives a [`ReplicaMonitor`] with the store. One task reads the
//! replicas' rows for all waiting calls, and keeps running after they have left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{
    BarrierError, LocalReplica, MonitorAction, MonitorEvent, ReplicaMonitor, stall_timeout,
};
use crate::model::{BootClock, ReplicaId, Revision};
use crate::store::{Replica, Replicas, Store, StoreError};

/// How long a call that takes nothing away waits for this process to apply its commit.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long this process may take to apply its commit before the rows are read. The other replicas take about as long,
/// so an earlier read would show nothing.
const LOCAL_TIMEOUT: Duration = Duration::from_millis(5);
/// Timeout of one statement. The store has a timeout too, but a network that drops every packet defeats it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the monitoring task is restarted after a panic.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// The barrier waits that are pending in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierStatus {
    /// The newest committed revision that a call waits for.
    pub revision: Revision,
    /// The replicas that have not applied it, each with the time after which it is given up if it has crashed. Empty
    /// while the store is unreachable.
    pub replicas: Vec<(ReplicaId, Duration)>,
}

impl BarrierStatus {
    /// The time after which the last of these replicas is given up. `None` if no replica is known.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.replicas.iter().map(|(_, longest)| *longest).max()
    }
}

type Outcome = std::result::Result<(), BarrierError>;

/// Waits for replicas to apply revisions.
pub struct Barrier(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    boot: Arc<dyn BootClock>,
    /// The replica in this process, if there is one. It is asked directly.
    local: Option<Arc<LocalReplica>>,
    monitor: Mutex<ReplicaMonitor<oneshot::Sender<Outcome>>>,
    waiter_added: Notify,
    started: AtomicBool,
    /// Whether the last statement failed.
    failing: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Barrier {
    /// Creates a barrier on this store. A task monitors the replicas from the first wait on, until the barrier is
    /// stopped or dropped.
    pub fn new(
        store: Arc<dyn Store>,
        boot: Arc<dyn BootClock>,
        local: Option<Arc<LocalReplica>>,
    ) -> Self {
        let (monitor, waiter_added) = (Mutex::default(), Notify::new());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (started, failing) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared =
            Shared { store, boot, local, monitor, waiter_added, started, failing, stop, tasks };
        Self(Arc::new(shared))
    }

    /// Monitors the replicas from now on, even while no call waits: the observations of a crashed replica then count
    /// for every later wait. For long-running processes.
    pub fn start(&self) {
        if !self.0.started.swap(true, Ordering::Relaxed) {
            self.0.tasks.spawn(supervise(Arc::clone(&self.0)));
        }
    }

    /// Waits briefly until this process answers from `revision`, which is committed, so that a caller sees its change
    /// at the server that made it. The timeout is harmless: a change that takes nothing away may arrive late.
    pub async fn wait_locally(&self, revision: Revision) {
        let Some(local) = &self.0.local else { return };
        local.request_sync(revision);
        local.wait_until_applied(revision, SETTLE_TIMEOUT).await;
    }

    /// Waits until no replica answers from a state older than `revision`, which is committed.
    ///
    /// # Errors
    /// If that can no longer be determined. There is no timeout here; the caller sets one.
    pub async fn wait(&self, revision: Revision) -> Outcome {
        if let Some(local) = &self.0.local {
            local.request_sync(revision);
        }
        self.start();
        let (done, outcome) = oneshot::channel();
        self.0.monitor.lock().add_waiter(revision, done);
        self.0.waiter_added.notify_one();
        outcome.await.unwrap_or(Err(BarrierError::IncarnationChanged))
    }

    /// The waits that are pending, if any.
    pub fn status(&self) -> Option<BarrierStatus> {
        let monitor = self.0.monitor.lock();
        if monitor.is_idle() {
            return None;
        }
        let behind =
            monitor.lagging_replicas().iter().map(|(id, lease)| (*id, stall_timeout(*lease)));
        Some(BarrierStatus { revision: monitor.newest_awaited(), replicas: behind.collect() })
    }

    /// Ends the monitoring task. Call it when no call waits any more.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

/// Runs the monitoring task and restarts it after a panic, so that waiting calls do not hang.
async fn supervise(shared: Arc<Shared>) {
    loop {
        let task = shared.tasks.spawn(Arc::clone(&shared).run());
        match task.await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "the task that monitors the replicas panicked: restarting it");
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    }
}

/// Records, for people, that a call waits long for this replica.
async fn note_wait(store: Arc<dyn Store>, id: ReplicaId) {
    let noted = tokio::time::timeout(STATEMENT_TIMEOUT, store.note_replica_wait(id)).await;
    if !matches!(noted, Ok(Ok(()))) {
        tracing::debug!(replica = %id, ?noted, "could not record the wait for a replica");
    }
}

impl Shared {
    /// Monitors the replicas until stopped.
    async fn run(self: Arc<Self>) {
        let stopped = self.stop.cancelled();
        let turns = async {
            let mut event = MonitorEvent::Due;
            loop {
                event = self.perform(self.on(event)).await;
            }
        };
        tokio::select! {
            () = turns => {}
            () = stopped => {}
        }
    }

    async fn perform(&self, action: MonitorAction) -> MonitorEvent {
        match action {
            MonitorAction::ReadRows => self.read_rows().await,
            MonitorAction::MarkEnded(id, seq) => {
                let marked = self.store.mark_replica_ended(id, seq);
                let marked = tokio::time::timeout(STATEMENT_TIMEOUT, marked).await;
                self.outcome(marked, MonitorEvent::MarkedEnded)
            }
            MonitorAction::Wait(pause) => {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.waiter_added.notified() => {}
                }
                MonitorEvent::Due
            }
        }
    }

    fn on(&self, event: MonitorEvent) -> MonitorAction {
        let now = self.boot.since_boot();
        let mut monitor = self.monitor.lock();
        monitor.retain_waiters(|done| !done.is_closed());
        let action = monitor.on(event, now, |row, rows| self.locally_applied(row, rows));
        for (done, outcome) in monitor.take_released() {
            // The caller may have gone away.
            let _ = done.send(outcome);
        }
        for id in monitor.take_long_awaited() {
            self.tasks.spawn(note_wait(Arc::clone(&self.store), id));
        }
        action
    }

    async fn read_rows(&self) -> MonitorEvent {
        let wanted = self.monitor.lock().newest_awaited();
        if let Some(local) = &self.local {
            local.wait_until_applied(wanted, LOCAL_TIMEOUT).await;
        }
        let rows = tokio::time::timeout(STATEMENT_TIMEOUT, self.store.list_replicas()).await;
        self.outcome(rows, MonitorEvent::Rows)
    }

    fn outcome<T>(
        &self,
        outcome: Result<Result<T, StoreError>, tokio::time::error::Elapsed>,
        event: impl FnOnce(T) -> MonitorEvent,
    ) -> MonitorEvent {
        let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
        match outcome.map_err(late).and_then(|outcome| outcome) {
            Ok(value) => {
                self.failing.store(false, Ordering::Relaxed);
                event(value)
            }
            Err(error) => {
                // A failure does not matter while no call waits. A warning is logged once for each outage.
                let is_logged =
                    self.monitor.lock().is_idle() || self.failing.load(Ordering::Relaxed);
                if is_logged {
                    tracing::debug!(%error, "could not read the rows of the replicas");
                } else {
                    self.failing.store(true, Ordering::Relaxed);
                    tracing::warn!(%error, "could not read the rows of the replicas: revocations wait");
                }
                MonitorEvent::Failed
            }
        }
    }

    /// The revision that the replica in this process has applied, before its row shows it.
    fn locally_applied(&self, row: &Replica, rows: &Replicas) -> Option<Revision> {
        self.local.as_ref()?.applied_by(row.id, &rows.incarnation)
    }
}
