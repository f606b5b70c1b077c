//! Decides when a replica syncs with the change log: a state machine without I/O and without a clock. It takes a
//! [`FollowerEvent`] and returns the next [`FollowerAction`]. `replica.rs` drives it with a thread and connections, the
//! simulation in `tests/it/simulation` with a seeded scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::{ChangeApplier, LocalReplica, NextStep};
use crate::model::{ReplicaId, Revision};
use crate::store::{Hint, IncarnationId, Published, Synced};

/// Longest interval between two syncs.
const SYNC_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// Pause between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Pause after a hint that led to nothing. It doubles with each such hint, up to the maximum. So a flood of forged
/// hints costs a bounded number of syncs, and delays a true hint by at most the maximum.
const HINT_PAUSE_MIN: Duration = Duration::from_millis(1);
const HINT_PAUSE_MAX: Duration = Duration::from_millis(10);

/// The outcome of the last action.
#[derive(Debug)]
pub enum FollowerEvent {
    /// The connections are open.
    Connected,
    /// The replica's row was committed. After that, the incarnation and newest revision of the store were read.
    Registered(ReplicaId, IncarnationId, Revision),
    /// The outcome of a sync. `None` if the row has ended.
    Synced(Option<Synced>),
    /// The row is marked as ended.
    Deregistered,
    /// A hint arrived during the wait.
    Notified(Hint),
    /// This process has committed something.
    SyncRequested,
    /// The time of a wait is over, or the state machine starts.
    Due,
    /// The action failed or timed out.
    Failed,
}

/// The next action. One at a time; its outcome is the next event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowerAction {
    /// Open connections.
    Connect,
    /// Insert a row under a new id and commit it. Only then read the incarnation and newest revision of the store.
    Register,
    /// Send this sync now. The lease counts from the moment this action was returned.
    Sync(ReplicaId, Published),
    /// Mark the row as ended.
    Deregister(ReplicaId),
    /// Wait for a hint or a request to sync, at most this long.
    Wait(Duration),
    /// Drop the connections and wait this long.
    Disconnect(Duration),
    /// Stop: the replica is finished.
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

/// Decides when a replica syncs.
pub struct Follower {
    applier: ChangeApplier,
    local: Arc<LocalReplica>,
    interval: Duration,
    state: State,
    stopping: bool,
    /// Current pause between hints, and the time from which the next hint leads to a sync at once.
    hint_pause: Duration,
    hints_allowed_from: Duration,
}

impl Follower {
    /// Creates a follower. `lease` is the length of the applier's lease. The first event is [`FollowerEvent::Due`].
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

    /// Makes the next event begin the shutdown: the row is marked as ended, so that no revocation waits for this
    /// process.
    pub const fn stop(&mut self) {
        self.stopping = true;
    }

    /// Resets the follower after a panic. Memory is no longer valid, and other processes give up the row once it has
    /// stood still. [`FollowerEvent::Due`] starts again with a new row.
    pub fn abandon(&mut self) {
        self.applier.deregister();
        self.local.set_row(None);
        self.state = State::Disconnected;
    }

    /// Handles an event and returns the next action. `now` is the time since boot, read after the event and before the
    /// returned action starts.
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
            // A failure, or an event that does not belong to this state.
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

    /// Syncs, or registers if there is no row yet. Connections are open.
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

    /// Syncs, or deregisters if the follower is stopping.
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
                tracing::warn!(replica = %id, "given up, or the store is another incarnation: registering again");
                // If the row is still there, no revocation should wait for it.
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

    /// Ends the lease, and only then marks the row as ended.
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
