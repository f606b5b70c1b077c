//! What a revocation waits for, as a state machine without I/O and without a clock: it looks at the replicas' rows again and
//! again, gives up those whose lease is over, and tells those who wait. `barrier.rs` drives it with a task, the simulation
//! in `tests/it/simulation` with a seeded scheduler.
//!
//! It looks whether or not anybody waits: a replica that died is then given up as soon as a wait comes, however short the
//! deadlines of the calls are.

use std::time::Duration;

use super::verdict::is_behind;
use super::{BarrierError, Standstill, Wait};
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
pub enum LookoutEvent {
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
pub enum LookoutAction {
    /// Read the rows from the primary.
    Look,
    /// Mark this row as ended if it still stands at this number.
    Fence(ReplicaId, i64),
    /// Wait so long, or until somebody begins to wait.
    Rest(Duration),
}

#[derive(Debug)]
enum At {
    Resting,
    Looking,
    Fencing { id: ReplicaId, lease: Duration, rows: Replicas, over: Vec<(ReplicaId, i64)> },
}

#[derive(Debug)]
struct Waiter<W> {
    wait: Wait,
    /// Whether the look that is under way began after this one came: the rows of an earlier one say nothing about it.
    looked_for: bool,
    who: W,
}

/// The state machine; `W` is who waits.
#[derive(Debug)]
pub struct Lookout<W> {
    standstill: Standstill,
    waiters: Vec<Waiter<W>>,
    at: At,
    pause: Duration,
    /// When the last wait that came is no longer looked for eagerly; nothing: one came since the last event.
    eager_until: Option<Duration>,
    released: Vec<(W, Result<(), BarrierError>)>,
    /// Whom the newest wait waits for, as the last look showed it, each with its lease.
    behind: Vec<(ReplicaId, Duration)>,
}

impl<W> Default for Lookout<W> {
    fn default() -> Self {
        Self {
            standstill: Standstill::default(),
            waiters: Vec::new(),
            at: At::Resting,
            pause: PAUSE_MIN,
            eager_until: Some(Duration::ZERO),
            released: Vec::new(),
            behind: Vec::new(),
        }
    }
}

impl<W> Lookout<W> {
    /// Begins to wait for a revision, which is committed. If the machine rests, [`LookoutEvent::Due`] is to follow.
    pub fn arrive(&mut self, revision: Revision, who: W) {
        self.waiters.push(Waiter { wait: Wait::new(revision), looked_for: false, who });
        self.eager_until = None;
        self.pause = PAUSE_MIN;
    }

    /// Forgets those who have gone away.
    pub fn retain(&mut self, mut stays: impl FnMut(&W) -> bool) {
        self.waiters.retain(|waiter| stays(&waiter.who));
    }

    /// Whether nobody waits.
    pub const fn is_idle(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The newest revision that somebody waits for.
    pub fn newest_wanted(&self) -> Revision {
        self.waiters.iter().map(|waiter| waiter.wait.revision()).max().unwrap_or_default()
    }

    /// The replicas that the newest wait waits for, each with its lease, as the last look showed them. None is known while
    /// the rows cannot be read.
    pub fn behind(&self) -> &[(ReplicaId, Duration)] {
        if self.is_idle() { &[] } else { &self.behind }
    }

    /// Those who need wait no longer, and what came of it; each is given once.
    pub fn take_released(&mut self) -> Vec<(W, Result<(), BarrierError>)> {
        std::mem::take(&mut self.released)
    }

    /// Takes in what happened; `now` is the time since boot, read after it happened. `known` is what is known of a replica
    /// beside its row: of the replica in this process.
    pub fn on(
        &mut self,
        event: LookoutEvent,
        now: Duration,
        known: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) -> LookoutAction {
        self.eager_until.get_or_insert(now + EAGER);
        let at = std::mem::replace(&mut self.at, At::Resting);
        match (at, event) {
            (_, LookoutEvent::Due) => self.look(),
            (At::Looking, LookoutEvent::Rows(mut rows)) => {
                let over = self.standstill.look(&mut rows, now);
                self.fence_next(rows, over, now, known)
            }
            (At::Fencing { id, lease, mut rows, over }, LookoutEvent::Fenced(fenced)) => {
                if fenced {
                    tracing::warn!(replica = %id, ?lease, "a replica stood still for its whole lease, and was given up");
                    rows.replicas.retain(|row| row.id != id);
                    rows.ended.push(id);
                }
                self.fence_next(rows, over, now, known)
            }
            // Those who wait do so until their time is over, and are told then.
            (_, LookoutEvent::Failed | LookoutEvent::Rows(_) | LookoutEvent::Fenced(_)) => {
                self.pause = PAUSE_MAX;
                self.behind.clear();
                self.rest()
            }
        }
    }

    fn look(&mut self) -> LookoutAction {
        self.waiters.iter_mut().for_each(|waiter| waiter.looked_for = true);
        self.at = At::Looking;
        LookoutAction::Look
    }

    /// Gives up the next of those that hold somebody up; then judges.
    fn fence_next(
        &mut self,
        rows: Replicas,
        mut over: Vec<(ReplicaId, i64)>,
        now: Duration,
        known: impl Fn(&Replica, &Replicas) -> Option<Revision>,
    ) -> LookoutAction {
        let newest = self.newest_wanted();
        while let Some((id, seq)) = over.pop() {
            let mut all = rows.replicas.iter();
            let behind = |row: &&Replica| is_behind(row, newest, known(row, &rows));
            if let Some(row) = all.find(|row| row.id == id).filter(behind) {
                let lease = row.lease;
                self.at = At::Fencing { id, lease, rows, over };
                return LookoutAction::Fence(id, seq);
            }
        }
        self.judge(&rows, known);
        if self.waiters.iter().any(|waiter| !waiter.looked_for) {
            return self.look();
        }
        if !self.is_idle() && self.eager_until.is_some_and(|until| now < until) {
            return self.look();
        }
        self.rest()
    }

    fn judge(&mut self, rows: &Replicas, known: impl Fn(&Replica, &Replicas) -> Option<Revision>) {
        for mut waiter in std::mem::take(&mut self.waiters) {
            let outcome = if waiter.looked_for {
                waiter.wait.judge(rows, |row| known(row, rows))
            } else {
                None
            };
            match outcome {
                Some(outcome) => self.released.push((waiter.who, outcome)),
                None => self.waiters.push(waiter),
            }
        }
        let newest = self.newest_wanted();
        let rows_behind =
            rows.replicas.iter().filter(|row| is_behind(row, newest, known(row, rows)));
        self.behind.clear();
        self.behind.extend(rows_behind.map(|row| (row.id, row.lease)));
    }

    fn rest(&mut self) -> LookoutAction {
        if self.is_idle() {
            let part = self.standstill.shortest_lease().map(|lease| lease / IDLE_PARTS);
            return LookoutAction::Rest(
                part.map_or(IDLE_PAUSE_MAX, |part| part.min(IDLE_PAUSE_MAX)),
            );
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        LookoutAction::Rest(pause)
    }
}
