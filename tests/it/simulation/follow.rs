//! Drives the [`Follower`] of a process, as `src/cache/replica.rs` does with connections. Each action becomes a query
//! that may fail, be lost or arrive late, or a timer.

use std::time::Duration;

use sophic_auth::cache::{FollowerAction, FollowerEvent};
use sophic_auth::model::ReplicaId;
use sophic_auth::store::{Hint, IncarnationId};

use super::plan::{L, Omission};
use super::world::{Address, Event, Message, Reply, Statement, Thread, World};

/// Timeout of a query, for a server that accepts connections and never answers.
const PATIENCE: u64 = L / 2;

/// What the driver waits for. The number is that of the query or timer.
#[derive(Debug, Clone)]
pub(super) enum FollowerState {
    /// The thread does not run.
    Nothing,
    /// A query with one reply.
    Asking(u64),
    /// `register`: insert the row, then read the state.
    Inserting(u64, ReplicaId),
    Reading(u64, ReplicaId),
    /// `register` in the wrong order: read the state, then insert the row.
    ReadingFirst(u64, ReplicaId, Duration),
    InsertingLast(u64, ReplicaId, IncarnationId, sophic_auth::model::Revision),
    Waiting(u64),
    Resting(u64),
}

impl World {
    /// Handles a message to the thread that follows the log.
    pub(super) fn follower_message(&mut self, me: Address, message: Message) {
        let follower_state = self.processes[me.process].follower_state.clone();
        match (message, follower_state) {
            (Message::Start, _) => self.follow(me, FollowerEvent::Due),
            (Message::Stop, FollowerState::Waiting(_) | FollowerState::Resting(_)) => {
                self.follow(me, FollowerEvent::Due);
            }
            (Message::SyncRequested, FollowerState::Waiting(_)) => {
                self.follow(me, FollowerEvent::SyncRequested)
            }
            (Message::SyncRequested, _) => self.processes[me.process].sync_requested = true,
            (Message::Notified(hint), FollowerState::Waiting(_)) => {
                self.follow(me, FollowerEvent::Notified(hint));
            }
            (Message::Notified(hint), _) => self.processes[me.process].inbox.push(hint),
            (
                Message::Time(elapsed),
                FollowerState::Waiting(time) | FollowerState::Resting(time),
            ) if elapsed == time => {
                if self.plan.omits(Omission::LateDetach) {
                    self.processes[me.process].reader.reads_in_flight().detach_all();
                }
                self.follow(me, FollowerEvent::Due);
            }
            (
                Message::Time(elapsed),
                FollowerState::Asking(call)
                | FollowerState::Inserting(call, _)
                | FollowerState::Reading(call, _)
                | FollowerState::ReadingFirst(call, ..)
                | FollowerState::InsertingLast(call, ..),
            ) if elapsed == call => self.follow(me, FollowerEvent::Failed),
            (Message::Reply(of, reply), follower_state) => {
                self.on_reply(me, of, reply, follower_state)
            }
            _ => {}
        }
    }

    /// One iteration of the loop in `follow_change_log`.
    fn follow(&mut self, me: Address, event: FollowerEvent) {
        let synced = matches!(event, FollowerEvent::Synced(_));
        let process = &mut self.processes[me.process];
        if process.stopping {
            process.follower.stop();
        }
        let now = process.boot(self.now);
        if let (FollowerEvent::Notified(Hint::Revision(revision)), true) =
            (&event, self.plan.omits(Omission::HintTakenForApplied))
        {
            process.mirror.set_applied(*revision);
        }
        let action = process.follower.on(event, now);
        if synced && self.plan.omits(Omission::LeaseFromReply) && process.is_current(self.now) {
            process.lease.extend(now);
        }
        self.check_applied(me);
        match action {
            FollowerAction::Connect => self.ask_store(me, Statement::Connect),
            FollowerAction::Register => self.register(me),
            FollowerAction::Sync(id, mut published) => {
                published.durable &= !self.plan.omits(Omission::NondurableSyncs);
                self.ask_store(me, Statement::Sync(id, published));
            }
            FollowerAction::Deregister(id) => {
                if self.plan.omits(Omission::LeaseOutlivesRow) {
                    self.processes[me.process].lease.extend(now);
                }
                self.ask_store(me, Statement::EndRow(id));
            }
            FollowerAction::Wait(longest) => self.wait_for_hint(me, longest),
            FollowerAction::Disconnect(pause) => {
                let time = self.time(me, nanos(pause));
                self.processes[me.process].follower_state = FollowerState::Resting(time);
            }
            FollowerAction::End => {
                self.processes[me.process].follower_state = FollowerState::Nothing
            }
        }
    }

    fn wait_for_hint(&mut self, me: Address, longest: Duration) {
        let time = self.time(me, nanos(longest));
        let process = &mut self.processes[me.process];
        process.follower_state = FollowerState::Waiting(time);
        if process.stopping {
            return self.follow(me, FollowerEvent::Due);
        }
        if std::mem::take(&mut process.sync_requested) {
            return self.follow(me, FollowerEvent::SyncRequested);
        }
        // Notifications that arrived earlier are in the socket.
        if let Some(newest) = std::mem::take(&mut process.inbox).into_iter().max_by_key(revision) {
            self.follow(me, FollowerEvent::Notified(newest));
        }
    }

    fn register(&mut self, me: Address) {
        let number = self.fresh_number();
        let id = ReplicaId(uuid::Uuid::from_u128(u128::from(number)));
        if self.plan.omits(Omission::StateReadBeforeRow) {
            let sent = self.processes[me.process].boot(self.now);
            let call = self.bounded(me, Statement::State);
            self.processes[me.process].follower_state = FollowerState::ReadingFirst(call, id, sent);
            return;
        }
        let call = self.bounded(me, Statement::InsertRow(id));
        self.processes[me.process].follower_state = FollowerState::Inserting(call, id);
    }

    fn on_reply(&mut self, me: Address, of: u64, reply: Reply, follower_state: FollowerState) {
        let (FollowerState::Asking(call)
        | FollowerState::Inserting(call, _)
        | FollowerState::Reading(call, _)
        | FollowerState::ReadingFirst(call, ..)
        | FollowerState::InsertingLast(call, ..)) = follower_state
        else {
            return;
        };
        if call != of {
            return;
        }
        match (follower_state, reply) {
            (FollowerState::Asking(_), Reply::Done) => self.follow(me, FollowerEvent::Connected),
            (FollowerState::Asking(_), Reply::Ended) => {
                self.follow(me, FollowerEvent::Deregistered)
            }
            (FollowerState::Asking(_), Reply::Synced(synced)) => {
                self.follow(me, FollowerEvent::Synced(synced));
            }
            (FollowerState::Inserting(_, id), Reply::Done) => {
                let call = self.bounded(me, Statement::State);
                self.processes[me.process].follower_state = FollowerState::Reading(call, id);
            }
            (FollowerState::Reading(_, id), Reply::State(incarnation, revision)) => {
                self.follow(me, FollowerEvent::Registered(id, incarnation, revision));
            }
            (FollowerState::ReadingFirst(_, id, sent), Reply::State(incarnation, revision)) => {
                let call = self.bounded(me, Statement::InsertRow(id));
                let process = &mut self.processes[me.process];
                // The omission: memory is trusted already.
                process.mirror.reset(revision);
                process.lease.extend(sent);
                process.follower_state =
                    FollowerState::InsertingLast(call, id, incarnation, revision);
            }
            (FollowerState::InsertingLast(_, id, incarnation, revision), Reply::Done) => {
                self.follow(me, FollowerEvent::Registered(id, incarnation, revision));
            }
            _ => self.follow(me, FollowerEvent::Failed),
        }
    }

    /// Checks that `applied` never goes back within one incarnation of the store, and that the change buffer publishes
    /// the same revision.
    fn check_applied(&mut self, me: Address) {
        let process = &mut self.processes[me.process];
        let Some((_, incarnation)) = process.local.row() else { return };
        let applied = process.mirror.applied();
        let position = process.change_buffer.position().borrow().clone();
        let streamed = (position.incarnation, position.revision);
        let before = process.applied.replace((incarnation.clone(), applied));
        let back =
            before.is_some_and(|(earlier, before)| earlier == incarnation && applied < before);
        if back {
            self.checker.fail(self.now, format!("applied went back to {applied:?}"));
        }
        if streamed != (Some(incarnation), applied) {
            self.checker.fail(self.now, format!("applied {applied:?}, and streamed {streamed:?}"));
        }
    }

    fn ask_store(&mut self, me: Address, statement: Statement) {
        let call = self.bounded(me, statement);
        self.processes[me.process].follower_state = FollowerState::Asking(call);
    }

    /// Sends a query with a timeout.
    fn bounded(&mut self, me: Address, statement: Statement) -> u64 {
        let call = self.call(me, statement);
        self.after(PATIENCE, Event::At(me, Message::Time(call)));
        call
    }

    pub(super) fn time(&mut self, me: Address, delay: u64) -> u64 {
        let time = self.fresh_number();
        self.after(delay, Event::At(me, Message::Time(time)));
        time
    }

    /// `LocalReplica::request_sync`.
    pub(super) fn request_sync(&mut self, me: Address, revision: sophic_auth::model::Revision) {
        self.processes[me.process].local.request_sync(revision);
        let follower = Address { thread: Thread::Follower, ..me };
        self.after(0, Event::At(follower, Message::SyncRequested));
    }
}

fn revision(hint: &Hint) -> u64 {
    match hint {
        Hint::Look => u64::MAX,
        Hint::Revision(revision) => revision.0,
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a few seconds")
}
