//! Decides which replicas a revocation waits for: a state machine without I/O and without a clock. It reads the
//! replicas' rows again and again, gives up the replicas whose lease is over, and releases the calls that wait.
//! `barrier.rs` drives it with a task, the simulation in `tests/it/simulation` with a seeded scheduler.
//!
//! It reads the rows even while no call waits. So a crashed replica is given up as soon as a call has to wait for it,
//! however short the deadlines of the calls are.

use std::time::Duration;

use super::barrier_wait::is_behind;
use super::{BarrierError, BarrierWait, StallDetector};
use crate::model::{ReplicaId, Revision};
use crate::store::{RULES, Replica, Replicas};

/// How long after a wait began the rows are read without a pause. Nearly every wait is over by then, and a timer would
/// add a millisecond.
const EAGER: Duration = Duration::from_millis(5);
/// First and longest pause between two reads after that, while a call waits.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Longest pause between two reads while no call waits. The pause is also at most this fraction of the shortest lease.
const IDLE_PAUSE_MAX: Duration = Duration::from_millis(500);
const IDLE_PARTS: u32 = 10;

/// Length of a wait from which on the replicas that it waits for are reported.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// The outcome of the last action.
#[derive(Debug)]
pub enum MonitorEvent {
    /// The pause is over, a call has begun to wait, or the state machine starts or restarts.
    Due,
    /// The rows, read after the action that requested them.
    Rows(Replicas),
    /// Whether the row still had that sync number and is now marked as ended.
    MarkedEnded(bool),
    /// The action failed or timed out.
    Failed,
}

/// The next action. One at a time; its outcome is the next event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorAction {
    /// Read the rows from the primary.
    ReadRows,
    /// Mark this row as ended if it still has this sync number.
    MarkEnded(ReplicaId, i64),
    /// Wait this long, or until a call begins to wait.
    Wait(Duration),
}

#[derive(Debug)]
enum State {
    Waiting,
    ReadingRows,
    MarkingEnded { id: ReplicaId, lease: Duration, rows: Replicas, stalled: Vec<(ReplicaId, i64)> },
}

#[derive(Debug)]
struct Waiter<W> {
    wait: BarrierWait,
    /// Whether the read in flight began after this waiter was added. The rows of an earlier read do not count for it.
    rows_requested: bool,
    /// When the first event after it was added was handled.
    since: Option<Duration>,
    handle: W,
}

/// Decides which replicas are waited for. `W` identifies a waiting call.
#[derive(Debug)]
pub struct ReplicaMonitor<W> {
    stall_detector: StallDetector,
    waiters: Vec<Waiter<W>>,
    state: State,
    pause: Duration,
    /// The end of the time without pauses. `None` if a waiter was added since the last event.
    eager_until: Option<Duration>,
    released: Vec<(W, Result<(), BarrierError>)>,
    /// The replicas that the newest wait is for, with their leases, as last read.
    lagging: Vec<(ReplicaId, Duration)>,
    /// The replicas that a call has waited for longer than [`LONG_WAIT`], as last read, and those of them that were not
    /// reported yet.
    long_awaited: Vec<ReplicaId>,
    newly_long_awaited: Vec<ReplicaId>,
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
            long_awaited: Vec::new(),
            newly_long_awaited: Vec::new(),
        }
    }
}

impl<W> ReplicaMonitor<W> {
    /// Adds a call that waits for a revision, which is committed. If the machine is waiting, send [`MonitorEvent::Due`]
    /// next.
    pub fn add_waiter(&mut self, revision: Revision, handle: W) {
        self.waiters.push(Waiter {
            wait: BarrierWait::new(revision),
            rows_requested: false,
            since: None,
            handle,
        });
        self.eager_until = None;
        self.pause = PAUSE_MIN;
    }

    /// Removes the calls that have gone away.
    pub fn retain_waiters(&mut self, mut keep: impl FnMut(&W) -> bool) {
        self.waiters.retain(|waiter| keep(&waiter.handle));
    }

    /// Whether no call waits.
    pub const fn is_idle(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The newest revision that a call waits for.
    pub fn newest_awaited(&self) -> Revision {
        self.waiters.iter().map(|waiter| waiter.wait.revision()).max().unwrap_or_default()
    }

    /// The replicas that the newest wait is for, with their leases, as last read. Empty while the rows cannot be read.
    pub fn lagging_replicas(&self) -> &[(ReplicaId, Duration)] {
        if self.is_idle() { &[] } else { &self.lagging }
    }

    /// Takes the calls that need not wait any longer, with their outcomes.
    pub fn take_released(&mut self) -> Vec<(W, Result<(), BarrierError>)> {
        std::mem::take(&mut self.released)
    }

    /// Takes the replicas that a call has by now waited for longer than a second. Each is reported once until no call
    /// waits for it that long any more.
    pub fn take_long_awaited(&mut self) -> Vec<ReplicaId> {
        std::mem::take(&mut self.newly_long_awaited)
    }

    /// Handles an event and returns the next action. `now` is the time since boot, read after the event.
    /// `locally_applied` is the revision that the replica in this process has applied, which its row may not show yet.
    pub fn on(
        &mut self,
        event: MonitorEvent,
        now: Duration,
        locally_applied: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) -> MonitorAction {
        self.eager_until.get_or_insert(now + EAGER);
        self.waiters.iter_mut().for_each(|waiter| {
            waiter.since.get_or_insert(now);
        });
        let state = std::mem::replace(&mut self.state, State::Waiting);
        match (state, event) {
            (_, MonitorEvent::Due) => self.read_rows(),
            (State::ReadingRows, MonitorEvent::Rows(mut rows)) => {
                let stalled = self.stall_detector.observe(&mut rows, now);
                self.mark_next_ended(rows, stalled, now, locally_applied)
            }
            (
                State::MarkingEnded { id, lease, mut rows, stalled },
                MonitorEvent::MarkedEnded(was_marked),
            ) => {
                if was_marked {
                    tracing::warn!(replica = %id, ?lease, "gave up a replica whose row did not change for its whole lease");
                    rows.replicas.retain(|row| row.id != id);
                    rows.ended.push(id);
                }
                self.mark_next_ended(rows, stalled, now, locally_applied)
            }
            // The waiting calls keep waiting until their deadlines.
            (_, MonitorEvent::Failed | MonitorEvent::Rows(_) | MonitorEvent::MarkedEnded(_)) => {
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

    /// Gives up the next stalled replica that a call waits for, or that is of an earlier release. Releases calls when there is no such replica left.
    fn mark_next_ended(
        &mut self,
        rows: Replicas,
        mut stalled: Vec<(ReplicaId, i64)>,
        now: Duration,
        locally_applied: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) -> MonitorAction {
        let newest = self.newest_awaited();
        while let Some((id, seq)) = stalled.pop() {
            let mut all = rows.replicas.iter();
            // While one of an earlier release seems to live, rules that it would ignore cannot be set.
            let hinders = |row: &&Replica| {
                row.rules < RULES || is_behind(row, newest, locally_applied(row, &rows))
            };
            if let Some(row) = all.find(|row| row.id == id).filter(hinders) {
                let lease = row.lease;
                self.state = State::MarkingEnded { id, lease, rows, stalled };
                return MonitorAction::MarkEnded(id, seq);
            }
        }
        self.release(&rows, &locally_applied);
        self.find_long_awaited(&rows, now, &locally_applied);
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

    fn find_long_awaited(
        &mut self,
        rows: &Replicas,
        now: Duration,
        locally_applied: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) {
        let waits = self.waiters.iter().filter(|waiter| {
            waiter.since.is_some_and(|since| now.saturating_sub(since) >= LONG_WAIT)
        });
        let Some(newest) = waits.map(|waiter| waiter.wait.revision()).max() else {
            self.long_awaited.clear();
            return;
        };
        let rows_behind =
            rows.replicas.iter().filter(|row| is_behind(row, newest, locally_applied(row, rows)));
        let before = std::mem::take(&mut self.long_awaited);
        self.long_awaited.extend(rows_behind.map(|row| row.id));
        let newly = self.long_awaited.iter().filter(|id| !before.contains(id));
        self.newly_long_awaited.extend(newly);
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
