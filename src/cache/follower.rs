//! How a replica follows the change log, as a state machine without I/O and without a clock: what comes in is an [`Event`],
//! what is to be done next is an [`Action`]. `replica.rs` drives it with a thread and connections, the simulation in
//! `tests/it/simulation` with a seeded scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::{ChangeApplier, LocalReplica, NextStep};
use crate::model::{ReplicaId, Revision};
use crate::store::{Hint, Incarnation, Published, Synced};

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
    Registered(ReplicaId, Incarnation, Revision),
    /// The outcome of a sync; nothing if the row has ended.
    Synced(Option<Synced>),
    /// The row is marked as ended.
    Deregistered,
    /// A hint was heard while waiting.
    Notified(Hint),
    /// This process has committed something.
    SyncRequested,
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
    Deregister(ReplicaId),
    /// Wait for a hint or a prompt, at the longest so long.
    Wait(Duration),
    /// Drop the connections, and wait so long.
    Disconnect(Duration),
    /// It is over.
    End,
}

#[derive(Debug)]
enum State {
    Disconnected,
    Connecting,
    Registering,
    Syncing { sent: Duration, published: Published, hinted: bool },
    Deregistering,
    Waiting { due: Duration, hinted: bool },
}

/// The state machine.
pub struct Follower {
    applier: ChangeApplier,
    local: Arc<LocalReplica>,
    interval: Duration,
    state: State,
    stopping: bool,
    /// How long the next hint waits, and from when on it need not.
    hint_pause: Duration,
    hints_allowed_from: Duration,
}

impl Follower {
    /// Over these parts; the lease is that of the tail. It begins with [`FollowerEvent::Due`].
    pub fn new(applier: ChangeApplier, local: Arc<LocalReplica>, lease: Duration) -> Self {
        Self {
            applier,
            local,
            interval: (lease / 6).min(SYNC_INTERVAL_MAX),
            state: State::Disconnected,
            stopping: false,
            hint_pause: Duration::ZERO,
            hints_allowed_from: Duration::ZERO,
        }
    }

    /// The next event is to lead to the end: the row is marked as ended, so that nobody waits for this process.
    pub const fn stop(&mut self) {
        self.stopping = true;
    }

    /// Gives up what it was at, after a panic: memory is not believed any more, its row stands still and is given up by
    /// others, and [`FollowerEvent::Due`] begins again under another.
    pub fn abandon(&mut self) {
        self.applier.deregister();
        self.local.set_row(None);
        self.state = State::Disconnected;
    }

    /// Takes in what happened; `now` is the time since boot, read after it happened and before the action that this
    /// returns is begun.
    pub fn on(&mut self, event: FollowerEvent, now: Duration) -> FollowerAction {
        let state = std::mem::replace(&mut self.state, State::Disconnected);
        match (state, event) {
            (State::Disconnected, FollowerEvent::Due) => self.connect(),
            (State::Registering, FollowerEvent::Registered(id, incarnation, revision)) => {
                self.applier.on_registered(incarnation.clone(), revision);
                tracing::debug!(replica = %id, revision = revision.0, "registered");
                self.local.set_row(Some((id, incarnation)));
                self.sync(id, false, now)
            }
            (State::Syncing { sent, published, hinted }, FollowerEvent::Synced(outcome)) => {
                self.on_synced(sent, &published, hinted, outcome, now)
            }
            (State::Deregistering, FollowerEvent::Deregistered) if self.stopping => {
                FollowerAction::End
            }
            (State::Connecting, FollowerEvent::Connected)
            | (State::Deregistering, FollowerEvent::Deregistered) => self.register_or_sync(now),
            (State::Waiting { due, hinted }, FollowerEvent::Notified(hint)) => {
                self.on_hint(due, hinted, hint, now)
            }
            (State::Waiting { due, hinted }, FollowerEvent::SyncRequested)
                if !self.local.has_unapplied_commit() =>
            {
                self.wait(due, hinted, now)
            }
            (State::Waiting { due, hinted }, FollowerEvent::Due) if now < due && !self.stopping => {
                self.wait(due, hinted, now)
            }
            (State::Waiting { hinted, .. }, FollowerEvent::Due | FollowerEvent::SyncRequested) => {
                self.sync_or_deregister(hinted, now)
            }
            // A failure, or an event that answers no action of this state.
            _ => self.disconnect(),
        }
    }

    fn connect(&mut self) -> FollowerAction {
        if self.stopping {
            return FollowerAction::End;
        }
        self.state = State::Connecting;
        FollowerAction::Connect
    }

    /// With connections: registers, or syncs if there is a row already.
    fn register_or_sync(&mut self, now: Duration) -> FollowerAction {
        match self.local.row() {
            Some((id, _)) => self.sync(id, false, now),
            None if self.stopping => FollowerAction::End,
            None => {
                self.state = State::Registering;
                FollowerAction::Register
            }
        }
    }

    /// Syncs, or leaves if it is told to stop.
    fn sync_or_deregister(&mut self, hinted: bool, now: Duration) -> FollowerAction {
        match self.local.row() {
            Some((id, _)) if self.stopping => self.deregister(id),
            Some((id, _)) => self.sync(id, hinted, now),
            None => self.register_or_sync(now),
        }
    }

    fn sync(&mut self, id: ReplicaId, hinted: bool, now: Duration) -> FollowerAction {
        let published = self.applier.begin_sync(now);
        self.state = State::Syncing { sent: now, published: published.clone(), hinted };
        FollowerAction::Sync(id, published)
    }

    fn on_synced(
        &mut self,
        sent: Duration,
        published: &Published,
        hinted: bool,
        outcome: Option<Synced>,
        now: Duration,
    ) -> FollowerAction {
        let step = self.applier.on_synced(sent, published, outcome);
        self.local.notify_progress();
        let Some((id, _)) = self.local.row() else { return self.disconnect() };
        match step {
            _ if self.stopping => self.deregister(id),
            NextStep::SyncAgain => {
                (self.hint_pause, self.hints_allowed_from) = (Duration::ZERO, now);
                self.sync(id, false, now)
            }
            NextStep::Register => {
                tracing::warn!(replica = %id, "given up by another, or the store began another life: starting afresh");
                // If the row is still there, nobody should wait for it.
                self.deregister(id)
            }
            NextStep::Wait => {
                if hinted {
                    let longer = (self.hint_pause * 2).clamp(HINT_PAUSE_MIN, HINT_PAUSE_MAX);
                    (self.hint_pause, self.hints_allowed_from) = (longer, now + longer);
                }
                self.wait(now + self.interval, false, now)
            }
        }
    }

    /// Answers from memory no more, and only then says so.
    fn deregister(&mut self, id: ReplicaId) -> FollowerAction {
        self.applier.deregister();
        self.local.set_row(None);
        self.state = State::Deregistering;
        FollowerAction::Deregister(id)
    }

    fn on_hint(
        &mut self,
        due: Duration,
        hinted: bool,
        hint: Hint,
        now: Duration,
    ) -> FollowerAction {
        let is_news = match hint {
            Hint::Look => true,
            Hint::Revision(revision) => self.local.lags_behind(revision),
        };
        if self.stopping || (is_news && now >= self.hints_allowed_from) {
            return self.sync_or_deregister(true, now);
        }
        let due = if is_news { due.min(self.hints_allowed_from) } else { due };
        self.wait(due, hinted || is_news, now)
    }

    fn wait(&mut self, due: Duration, hinted: bool, now: Duration) -> FollowerAction {
        self.state = State::Waiting { due, hinted };
        FollowerAction::Wait(due.saturating_sub(now))
    }

    fn disconnect(&mut self) -> FollowerAction {
        if self.stopping {
            self.applier.deregister();
            return FollowerAction::End;
        }
        self.state = State::Disconnected;
        FollowerAction::Disconnect(RECONNECT_PAUSE)
    }
}
