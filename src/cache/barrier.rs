//! The revocation barrier, the side of a process that revokes: drives a [`ReplicaMonitor`] with the store. One task looks for all
//! who wait, and goes on when those who asked have left.

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

/// How long a call that only gives waits for this process itself.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);
/// How long this process may take to apply its own commit before the rows are looked at: the other replicas are about as
/// far as this one, and before that there is nothing to see.
const LOCAL_TIMEOUT: Duration = Duration::from_millis(5);
/// How long one statement may take; the store limits its own as well, unless the network swallows all of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// After a panic of the task that looks.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// What a process waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierStatus {
    /// Until every replica has applied this revision, which is committed.
    pub revision: Revision,
    /// The replicas that have not, each with the time after which one that has died is given up; none is known while the
    /// store is out of reach.
    pub replicas: Vec<(ReplicaId, Duration)>,
}

impl BarrierStatus {
    /// When the last of the replicas is given up if all have died; nothing where none is known.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.replicas.iter().map(|(_, longest)| *longest).max()
    }
}

type Outcome = std::result::Result<(), BarrierError>;

/// What waits.
pub struct Barrier(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    boot: Arc<dyn BootClock>,
    /// This process's own replica, if it is one: asked directly.
    local: Option<Arc<LocalReplica>>,
    monitor: Mutex<ReplicaMonitor<oneshot::Sender<Outcome>>>,
    waiter_added: Notify,
    started: AtomicBool,
    /// Whether the last look failed.
    failing: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Barrier {
    /// Over this store. It looks from the first wait on, in a task of its own, until it is stopped or dropped.
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

    /// Looks from now on, though nobody waits yet: what is seen of a dead replica then counts for every later wait. For a
    /// process that lives long.
    pub fn start(&self) {
        if !self.0.started.swap(true, Ordering::Relaxed) {
            self.0.tasks.spawn(supervise(Arc::clone(&self.0)));
        }
    }

    /// Waits a moment until this process itself answers from `revision`, which is committed: a caller who asks the server
    /// that it told sees what it said. Where that takes longer it is no matter: what only gives may come late.
    pub async fn settle_locally(&self, revision: Revision) {
        let Some(local) = &self.0.local else { return };
        local.request_sync(revision);
        local.wait_until_applied(revision, SETTLE_TIMEOUT).await;
    }

    /// Waits until no replica answers from before `revision`, which is committed.
    ///
    /// # Errors
    /// If that cannot be told any more. There is no time limit here: the caller brings one.
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

    /// What is waited for now, if anything is.
    pub fn status(&self) -> Option<BarrierStatus> {
        let monitor = self.0.monitor.lock();
        if monitor.is_idle() {
            return None;
        }
        let behind =
            monitor.lagging_replicas().iter().map(|(id, lease)| (*id, stall_timeout(*lease)));
        Some(BarrierStatus { revision: monitor.newest_awaited(), replicas: behind.collect() })
    }

    /// Ends the task that looks. To be called when nobody waits any more.
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

/// Runs the task that looks, and starts it again should it panic: those who wait must not hang on it.
async fn supervise(shared: Arc<Shared>) {
    loop {
        let task = shared.tasks.spawn(Arc::clone(&shared).run());
        match task.await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "the task that looks at the replicas ended: starting it again");
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Looks until it is stopped.
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
            MonitorAction::Fence(id, seq) => {
                let fence = self.store.fence_replica(id, seq);
                let fenced = tokio::time::timeout(STATEMENT_TIMEOUT, fence).await;
                self.outcome(fenced, MonitorEvent::Fenced)
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
            // A caller who went away needs no word.
            let _ = done.send(outcome);
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
                // While nobody waits it is no matter; an outage is told once.
                let is_logged =
                    self.monitor.lock().is_idle() || self.failing.load(Ordering::Relaxed);
                if is_logged {
                    tracing::debug!(%error, "the replicas could not be looked at");
                } else {
                    self.failing.store(true, Ordering::Relaxed);
                    tracing::warn!(%error, "the replicas could not be looked at: calls that take something away wait");
                }
                MonitorEvent::Failed
            }
        }
    }

    /// What is known here of this process's own replica before its row says so.
    fn locally_applied(&self, row: &Replica, rows: &Replicas) -> Option<Revision> {
        self.local.as_ref()?.applied_by(row.id, &rows.incarnation)
    }
}
