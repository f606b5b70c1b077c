//! How a replica follows the change log, as a state machine without I/O and without a clock: what comes in is an [`Event`],
//! what is to be done next is an [`Action`]. `replica.rs` drives it with a thread and connections, the simulation in
//! `tests/it/simulation` with a seeded scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::{Local, Step, Tail};
use crate::model::{ReplicaId, Revision};
use crate::store::{Hint, IncarnationId, Published, Synced};

/// A sync is sent at least this often, hint or not.
const SYNC_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// Between two tries to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// After a hint that led to nothing, the next one waits for so long, and twice as long each time up to the longest: a
/// flood of forged hints costs a bounded number of syncs, and delays a true one by no more than this.
const HINT_PAUSE_MIN: Duration = Duration::from_millis(1);
const HINT_PAUSE_MAX: Duration = Duration::from_millis(10);

/// What happened: the outcome of the last action.
#[derive(Debug)]
pub enum FollowerEvent {
    /// The connections are open.
    Connected,
    /// The replica's row was committed, and then the store's life and newest revision were read.
    Registered(ReplicaId, IncarnationId, Revision),
    /// The outcome of a sync; nothing if the row has ended.
    Synced(Option<Synced>),
    /// The row is marked as ended.
    Left,
    /// A hint was heard while waiting.
    Heard(Hint),
    /// This process has committed something.
    Prompted,
    /// The wait or the rest is over, or the machine is started.
    Due,
    /// The action failed, or took longer than it may.
    Failed,
}

/// What to do next. One at a time: the outcome of each is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowerAction {
    /// Open connections.
    Connect,
    /// Insert a row under a new id, commit that, and only then read the store's life and newest revision.
    Register,
    /// Send this sync now: the lease counts from the moment at which this action was given.
    Sync(ReplicaId, Published),
    /// Mark the row as ended.
    Leave(ReplicaId),
    /// Wait for a hint or a prompt, at the longest so long.
    Wait(Duration),
    /// Drop the connections, and wait so long.
    Rest(Duration),
    /// It is over.
    End,
}

#[derive(Debug)]
enum At {
    Resting,
    Connecting,
    Registering,
    Syncing { sent: Duration, published: Published, hinted: bool },
    Leaving,
    Waiting { due: Duration, hinted: bool },
}

/// The state machine.
pub struct Follower {
    tail: Tail,
    local: Arc<Local>,
    interval: Duration,
    at: At,
    stopping: bool,
    /// How long the next hint waits, and from when on it need not.
    hint_pause: Duration,
    hints_from: Duration,
}

impl Follower {
    /// Over these parts; the lease is that of the tail. It begins with [`FollowerEvent::Due`].
    pub fn new(tail: Tail, local: Arc<Local>, lease: Duration) -> Self {
        Self {
            tail,
            local,
            interval: (lease / 6).min(SYNC_INTERVAL_MAX),
            at: At::Resting,
            stopping: false,
            hint_pause: Duration::ZERO,
            hints_from: Duration::ZERO,
        }
    }

    /// The next event is to lead to the end: the row is marked as ended, so that nobody waits for this process.
    pub const fn stop(&mut self) {
        self.stopping = true;
    }

    /// Gives up what it was at, after a panic: memory is not believed any more, its row stands still and is given up by
    /// others, and [`FollowerEvent::Due`] begins again under another.
    pub fn abandon(&mut self) {
        self.tail.leave();
        self.local.set_row(None);
        self.at = At::Resting;
    }

    /// Takes in what happened; `now` is the time since boot, read after it happened and before the action that this
    /// returns is begun.
    pub fn on(&mut self, event: FollowerEvent, now: Duration) -> FollowerAction {
        let at = std::mem::replace(&mut self.at, At::Resting);
        match (at, event) {
            (At::Resting, FollowerEvent::Due) => self.connect(),
            (At::Registering, FollowerEvent::Registered(id, incarnation, revision)) => {
                self.tail.registered(incarnation.clone(), revision);
                tracing::debug!(replica = %id, revision = revision.0, "registered");
                self.local.set_row(Some((id, incarnation)));
                self.sync(id, false, now)
            }
            (At::Syncing { sent, published, hinted }, FollowerEvent::Synced(outcome)) => {
                self.synced(sent, &published, hinted, outcome, now)
            }
            (At::Leaving, FollowerEvent::Left) if self.stopping => FollowerAction::End,
            (At::Connecting, FollowerEvent::Connected) | (At::Leaving, FollowerEvent::Left) => {
                self.go_on(now)
            }
            (At::Waiting { due, hinted }, FollowerEvent::Heard(hint)) => {
                self.heard(due, hinted, hint, now)
            }
            (At::Waiting { due, hinted }, FollowerEvent::Prompted) if !self.local.is_behind() => {
                self.wait(due, hinted, now)
            }
            (At::Waiting { due, hinted }, FollowerEvent::Due) if now < due && !self.stopping => {
                self.wait(due, hinted, now)
            }
            (At::Waiting { hinted, .. }, FollowerEvent::Due | FollowerEvent::Prompted) => {
                self.look(hinted, now)
            }
            // A failure, or an event that answers no action of this state.
            _ => self.rest(),
        }
    }

    fn connect(&mut self) -> FollowerAction {
        if self.stopping {
            return FollowerAction::End;
        }
        self.at = At::Connecting;
        FollowerAction::Connect
    }

    /// With connections: registers, or syncs if there is a row already.
    fn go_on(&mut self, now: Duration) -> FollowerAction {
        match self.local.row() {
            Some((id, _)) => self.sync(id, false, now),
            None if self.stopping => FollowerAction::End,
            None => {
                self.at = At::Registering;
                FollowerAction::Register
            }
        }
    }

    /// Syncs, or leaves if it is told to stop.
    fn look(&mut self, hinted: bool, now: Duration) -> FollowerAction {
        match self.local.row() {
            Some((id, _)) if self.stopping => self.leave(id),
            Some((id, _)) => self.sync(id, hinted, now),
            None => self.go_on(now),
        }
    }

    fn sync(&mut self, id: ReplicaId, hinted: bool, now: Duration) -> FollowerAction {
        let published = self.tail.publish(now);
        self.at = At::Syncing { sent: now, published: published.clone(), hinted };
        FollowerAction::Sync(id, published)
    }

    fn synced(
        &mut self,
        sent: Duration,
        published: &Published,
        hinted: bool,
        outcome: Option<Synced>,
        now: Duration,
    ) -> FollowerAction {
        let step = self.tail.synced(sent, published, outcome);
        self.local.announce();
        let Some((id, _)) = self.local.row() else { return self.rest() };
        match step {
            _ if self.stopping => self.leave(id),
            Step::SyncAgain => {
                (self.hint_pause, self.hints_from) = (Duration::ZERO, now);
                self.sync(id, false, now)
            }
            Step::Register => {
                tracing::warn!(replica = %id, "given up by another, or the store began another life: starting afresh");
                // If the row is still there, nobody should wait for it.
                self.leave(id)
            }
            Step::Wait => {
                if hinted {
                    let longer = (self.hint_pause * 2).clamp(HINT_PAUSE_MIN, HINT_PAUSE_MAX);
                    (self.hint_pause, self.hints_from) = (longer, now + longer);
                }
                self.wait(now + self.interval, false, now)
            }
        }
    }

    /// Answers from memory no more, and only then says so.
    fn leave(&mut self, id: ReplicaId) -> FollowerAction {
        self.tail.leave();
        self.local.set_row(None);
        self.at = At::Leaving;
        FollowerAction::Leave(id)
    }

    fn heard(&mut self, due: Duration, hinted: bool, hint: Hint, now: Duration) -> FollowerAction {
        let news = match hint {
            Hint::Look => true,
            Hint::Revision(revision) => self.local.has_yet_to_apply(revision),
        };
        if self.stopping || (news && now >= self.hints_from) {
            return self.look(true, now);
        }
        let due = if news { due.min(self.hints_from) } else { due };
        self.wait(due, hinted || news, now)
    }

    fn wait(&mut self, due: Duration, hinted: bool, now: Duration) -> FollowerAction {
        self.at = At::Waiting { due, hinted };
        FollowerAction::Wait(due.saturating_sub(now))
    }

    fn rest(&mut self) -> FollowerAction {
        if self.stopping {
            self.tail.leave();
            return FollowerAction::End;
        }
        self.at = At::Resting;
        FollowerAction::Rest(RECONNECT_PAUSE)
    }
}
