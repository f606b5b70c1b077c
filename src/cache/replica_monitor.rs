//! What a revocation waits for, as a state machine without I/O and without a clock: it looks at the replicas' rows again and
//! again, gives up those whose lease is over, and tells those who wait. `barrier.rs` drives it with a task, the simulation
//! in `tests/it/simulation` with a seeded scheduler.
//!
//! It looks whether or not anybody waits: a replica that died is then given up as soon as a wait comes, however short the
//! deadlines of the calls are.

use std::time::Duration;

use super::barrier_wait::is_behind;
use super::{BarrierError, BarrierWait, StallDetector};
use crate::model::{ReplicaId, Revision};
use crate::store::{Replica, Replicas};

/// For so long after a wait began the rows are looked at without a pause: nearly every wait is over by then, and a timer
/// would add a millisecond.
const EAGER: Duration = Duration::from_millis(5);
/// Between two looks after that while somebody waits, at first and at the longest.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Between two looks while nobody waits: so long, or this part of the shortest lease.
const IDLE_PAUSE_MAX: Duration = Duration::from_millis(500);
const IDLE_PARTS: u32 = 10;

/// What happened.
#[derive(Debug)]
pub enum MonitorEvent {
    /// The pause is over, somebody has begun to wait, or the machine is started, be it once more.
    Due,
    /// The rows, as they were read after the action that asked for them.
    Rows(Replicas),
    /// Whether the row still stood at that number, and is marked as ended now.
    Fenced(bool),
    /// The action failed, or took longer than it may.
    Failed,
}

/// What to do next. One at a time: the outcome of each is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorAction {
    /// Read the rows from the primary.
    ReadRows,
    /// Mark this row as ended if it still stands at this number.
    Fence(ReplicaId, i64),
    /// Wait so long, or until somebody begins to wait.
    Wait(Duration),
}

#[derive(Debug)]
enum State {
    Waiting,
    ReadingRows,
    Fencing { id: ReplicaId, lease: Duration, rows: Replicas, stalled: Vec<(ReplicaId, i64)> },
}

#[derive(Debug)]
struct Waiter<W> {
    wait: BarrierWait,
    /// Whether the look that is under way began after this one came: the rows of an earlier one say nothing about it.
    rows_requested: bool,
    handle: W,
}

/// The state machine; `W` is who waits.
#[derive(Debug)]
pub struct ReplicaMonitor<W> {
    stall_detector: StallDetector,
    waiters: Vec<Waiter<W>>,
    state: State,
    pause: Duration,
    /// When the last wait that came is no longer looked for eagerly; nothing: one came since the last event.
    eager_until: Option<Duration>,
    released: Vec<(W, Result<(), BarrierError>)>,
    /// Whom the newest wait waits for, as the last look showed it, each with its lease.
    lagging: Vec<(ReplicaId, Duration)>,
}

impl<W> Default for ReplicaMonitor<W> {
    fn default() -> Self {
        Self {
            stall_detector: StallDetector::default(),
            waiters: Vec::new(),
            state: State::Waiting,
            pause: PAUSE_MIN,
            eager_until: Some(Duration::ZERO),
            released: Vec::new(),
            lagging: Vec::new(),
        }
    }
}

impl<W> ReplicaMonitor<W> {
    /// Begins to wait for a revision, which is committed. If the machine rests, [`MonitorEvent::Due`] is to follow.
    pub fn add_waiter(&mut self, revision: Revision, handle: W) {
        self.waiters.push(Waiter {
            wait: BarrierWait::new(revision),
            rows_requested: false,
            handle,
        });
        self.eager_until = None;
        self.pause = PAUSE_MIN;
    }

    /// Forgets those who have gone away.
    pub fn retain_waiters(&mut self, mut keep: impl FnMut(&W) -> bool) {
        self.waiters.retain(|waiter| keep(&waiter.handle));
    }

    /// Whether nobody waits.
    pub const fn is_idle(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The newest revision that somebody waits for.
    pub fn newest_awaited(&self) -> Revision {
        self.waiters.iter().map(|waiter| waiter.wait.revision()).max().unwrap_or_default()
    }

    /// The replicas that the newest wait waits for, each with its lease, as the last look showed them. None is known while
    /// the rows cannot be read.
    pub fn lagging_replicas(&self) -> &[(ReplicaId, Duration)] {
        if self.is_idle() { &[] } else { &self.lagging }
    }

    /// Those who need wait no longer, and what came of it; each is given once.
    pub fn take_released(&mut self) -> Vec<(W, Result<(), BarrierError>)> {
        std::mem::take(&mut self.released)
    }

    /// Takes in what happened; `now` is the time since boot, read after it happened. `known` is what is known of a replica
    /// beside its row: of the replica in this process.
    pub fn on(
        &mut self,
        event: MonitorEvent,
        now: Duration,
        locally_applied: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) -> MonitorAction {
        self.eager_until.get_or_insert(now + EAGER);
        let state = std::mem::replace(&mut self.state, State::Waiting);
        match (state, event) {
            (_, MonitorEvent::Due) => self.read_rows(),
            (State::ReadingRows, MonitorEvent::Rows(mut rows)) => {
                let stalled = self.stall_detector.observe(&mut rows, now);
                self.fence_next(rows, stalled, now, locally_applied)
            }
            (State::Fencing { id, lease, mut rows, stalled }, MonitorEvent::Fenced(fenced)) => {
                if fenced {
                    tracing::warn!(replica = %id, ?lease, "a replica stood still for its whole lease, and was given up");
                    rows.replicas.retain(|row| row.id != id);
                    rows.ended.push(id);
                }
                self.fence_next(rows, stalled, now, locally_applied)
            }
            // Those who wait do so until their time is over, and are told then.
            (_, MonitorEvent::Failed | MonitorEvent::Rows(_) | MonitorEvent::Fenced(_)) => {
                self.pause = PAUSE_MAX;
                self.lagging.clear();
                self.pause()
            }
        }
    }

    fn read_rows(&mut self) -> MonitorAction {
        self.waiters.iter_mut().for_each(|waiter| waiter.rows_requested = true);
        self.state = State::ReadingRows;
        MonitorAction::ReadRows
    }

    /// Gives up the next of those that hold somebody up; then judges.
    fn fence_next(
        &mut self,
        rows: Replicas,
        mut stalled: Vec<(ReplicaId, i64)>,
        now: Duration,
        locally_applied: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) -> MonitorAction {
        let newest = self.newest_awaited();
        while let Some((id, seq)) = stalled.pop() {
            let mut all = rows.replicas.iter();
            let behind = |row: &&Replica| is_behind(row, newest, locally_applied(row, &rows));
            if let Some(row) = all.find(|row| row.id == id).filter(behind) {
                let lease = row.lease;
                self.state = State::Fencing { id, lease, rows, stalled };
                return MonitorAction::Fence(id, seq);
            }
        }
        self.release(&rows, locally_applied);
        if self.waiters.iter().any(|waiter| !waiter.rows_requested) {
            return self.read_rows();
        }
        if !self.is_idle() && self.eager_until.is_some_and(|until| now < until) {
            return self.read_rows();
        }
        self.pause()
    }

    fn release(
        &mut self,
        rows: &Replicas,
        locally_applied: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) {
        for mut waiter in std::mem::take(&mut self.waiters) {
            let outcome = if waiter.rows_requested {
                waiter.wait.check(rows, |row| locally_applied(row, rows))
            } else {
                None
            };
            match outcome {
                Some(outcome) => self.released.push((waiter.handle, outcome)),
                None => self.waiters.push(waiter),
            }
        }
        let newest = self.newest_awaited();
        let lagging =
            rows.replicas.iter().filter(|row| is_behind(row, newest, locally_applied(row, rows)));
        self.lagging.clear();
        self.lagging.extend(lagging.map(|row| (row.id, row.lease)));
    }

    fn pause(&mut self) -> MonitorAction {
        if self.is_idle() {
            let part = self.stall_detector.shortest_lease().map(|lease| lease / IDLE_PARTS);
            return MonitorAction::Wait(
                part.map_or(IDLE_PAUSE_MAX, |part| part.min(IDLE_PAUSE_MAX)),
            );
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        MonitorAction::Wait(pause)
    }
}
