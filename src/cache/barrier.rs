//! The revocation barrier, the side of whoever revokes: wait until every replica has applied a revision, or can no longer
//! answer as before (CATALOGUE E-SPEC 4). One poll of the rows serves all who wait.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::verdict::is_behind;
use super::{BarrierError, Local, Standstill, Wait};
use crate::model::{BootClock, Revision};
use crate::store::{Replica, Replicas, Result, Store};

/// So long after a wait began the rows are looked at without a pause: nearly every wait is over by then, and a timer
/// would add its own millisecond.
const EAGER: Duration = Duration::from_millis(5);
/// Between two looks at the rows after that, at first and at the longest.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// How long what only gives waits for this process itself.
const SETTLE_PATIENCE: Duration = Duration::from_millis(100);

/// What waits.
pub struct Barrier(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    boot: Arc<dyn BootClock>,
    /// This process's own replica, if it is one: asked directly.
    local: Option<Arc<Local>>,
    tasks: TaskTracker,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    polling: bool,
}

struct Waiter {
    wait: Wait,
    /// Whether the look that is under way began after this one came: the rows of an earlier one say nothing about it.
    looked_for: bool,
    done: oneshot::Sender<std::result::Result<(), BarrierError>>,
}

impl Barrier {
    /// Over this store; its polling is a task of `tasks`.
    pub fn new(
        store: Arc<dyn Store>,
        boot: Arc<dyn BootClock>,
        local: Option<Arc<Local>>,
        tasks: TaskTracker,
    ) -> Self {
        let (waiting, arrived) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { store, boot, local, tasks, waiting, arrived }))
    }

    /// Waits a moment until this process itself answers from `revision`, which is committed: whoever asks the server
    /// that they told sees what they said. Where that takes longer it is no matter: what only gives may come late.
    pub async fn settle_here(&self, revision: Revision) {
        let Some(local) = &self.0.local else { return };
        local.prompt(revision);
        local.reach(revision, SETTLE_PATIENCE).await;
    }

    /// Waits until no replica answers from before `revision`, which is committed.
    ///
    /// # Errors
    /// If that cannot be told any more. There is no time limit here: whoever waits brings one.
    pub async fn wait(&self, revision: Revision) -> std::result::Result<(), BarrierError> {
        if let Some(local) = &self.0.local {
            local.prompt(revision);
        }
        let (done, outcome) = oneshot::channel();
        let begin = {
            let mut waiting = self.0.waiting.lock();
            waiting.waiters.push(Waiter { wait: Wait::new(revision), looked_for: false, done });
            !std::mem::replace(&mut waiting.polling, true)
        };
        if begin {
            self.0.tasks.spawn(Arc::clone(&self.0).poll());
        } else {
            self.0.arrived.notify_one();
        }
        outcome.await.unwrap_or(Err(BarrierError::AnotherLife))
    }
}

impl Shared {
    /// Looks until nobody waits.
    async fn poll(self: Arc<Self>) {
        let mut standstill = Standstill::default();
        let mut eager_until = Instant::now() + EAGER;
        let mut pause = PAUSE_MIN;
        loop {
            // The others are as far as this process, or nearly: before that there is nothing to see.
            if let Some(local) = self.local.as_ref().filter(|_| Instant::now() < eager_until) {
                local.reach(self.newest_wanted(), EAGER).await;
            }
            let looked = self.look(&mut standstill).await;
            // Those who wait do so until their time is over, and are told then.
            if let Err(error) = &looked {
                tracing::warn!(%error, "the replicas could not be looked at");
                pause = PAUSE_MAX;
            }
            {
                let mut waiting = self.waiting.lock();
                waiting.waiters.retain(|waiter| !waiter.done.is_closed());
                if waiting.waiters.is_empty() {
                    waiting.polling = false;
                    return;
                }
            }
            if looked.is_ok() && Instant::now() < eager_until {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = self.arrived.notified() => {
                    eager_until = Instant::now() + EAGER;
                    pause = PAUSE_MIN;
                }
            }
        }
    }

    async fn look(&self, standstill: &mut Standstill) -> Result<()> {
        self.waiting.lock().waiters.iter_mut().for_each(|waiter| waiter.looked_for = true);
        let mut rows = self.store.list_replicas().await?;
        for (id, seq) in standstill.look(&rows.replicas, self.boot.since_boot()) {
            let newest = self.newest_wanted();
            let behind = |row: &&_| is_behind(row, newest, self.known(row, &rows));
            let Some(row) = rows.replicas.iter().find(|row| row.id == id).filter(behind) else {
                continue;
            };
            let lease = row.lease;
            if self.store.fence_replica(id, seq).await? {
                tracing::warn!(replica = %id, ?lease, "a replica stood still for its whole lease, and was given up");
                rows.replicas.retain(|row| row.id != id);
            }
        }
        self.settle(&rows);
        Ok(())
    }

    fn newest_wanted(&self) -> Revision {
        let waiting = self.waiting.lock();
        waiting.waiters.iter().map(|waiter| waiter.wait.revision()).max().unwrap_or_default()
    }

    /// What is known here of this process's own replica before its row says so.
    fn known(&self, row: &Replica, rows: &Replicas) -> Option<Revision> {
        self.local.as_ref()?.applied(row.id, &rows.incarnation)
    }

    /// Tells those who need wait no longer.
    fn settle(&self, rows: &Replicas) {
        let mut waiting = self.waiting.lock();
        let mut still = Vec::new();
        for mut waiter in waiting.waiters.drain(..) {
            let outcome = if waiter.looked_for {
                waiter.wait.judge(rows, |row| self.known(row, rows))
            } else {
                None
            };
            match outcome {
                // Whoever went away needs no word.
                Some(outcome) => drop(waiter.done.send(outcome)),
                None => still.push(waiter),
            }
        }
        waiting.waiters = still;
    }
}
