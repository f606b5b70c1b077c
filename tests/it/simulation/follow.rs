//! Drives the [`Follower`] of a process, as `src/cache/replica.rs` does with connections: each of its actions becomes a query
//! that may fail, be lost or come late, or a time that is waited for.

use std::time::Duration;

use sophic_auth::cache::{FollowerAction, FollowerEvent};
use sophic_auth::model::ReplicaId;
use sophic_auth::store::{Hint, IncarnationId};

use super::plan::{Broken, L};
use super::world::{Address, Arrival, Event, Query, Reply, Thread, World};

/// For a server that takes connections and says nothing.
const PATIENCE: u64 = L / 2;

/// What the driver waits for. Each number is that of the query, or of the time.
#[derive(Debug, Clone)]
pub(super) enum Doing {
    /// The thread does not run.
    Nothing,
    /// A query with one reply.
    Asking(u64),
    /// `register`: the row, and after it the state.
    Inserting(u64, ReplicaId),
    Reading(u64, ReplicaId),
    /// The wrong way round: the state, before the row.
    ReadingFirst(u64, ReplicaId, Duration),
    InsertingLast(u64, ReplicaId, IncarnationId, sophic_auth::model::Revision),
    Waiting(u64),
    Resting(u64),
}

impl World {
    /// What comes to the thread that follows the log.
    pub(super) fn tail(&mut self, me: Address, arrival: Arrival) {
        let doing = self.processes[me.process].doing.clone();
        match (arrival, doing) {
            (Arrival::Start, _) => self.follow(me, FollowerEvent::Due),
            (Arrival::Stop, Doing::Waiting(_) | Doing::Resting(_)) => {
                self.follow(me, FollowerEvent::Due);
            }
            (Arrival::Prompt, Doing::Waiting(_)) => self.follow(me, FollowerEvent::Prompted),
            (Arrival::Prompt, _) => self.processes[me.process].prompted = true,
            (Arrival::Heard(hint), Doing::Waiting(_)) => {
                self.follow(me, FollowerEvent::Heard(hint));
            }
            (Arrival::Heard(hint), _) => self.processes[me.process].inbox.push(hint),
            (Arrival::Time(over), Doing::Waiting(time) | Doing::Resting(time)) if over == time => {
                if self.plan.is(Broken::DetachedTooLate) {
                    self.processes[me.process].reader.board().detach();
                }
                self.follow(me, FollowerEvent::Due);
            }
            (
                Arrival::Time(over),
                Doing::Asking(call)
                | Doing::Inserting(call, _)
                | Doing::Reading(call, _)
                | Doing::ReadingFirst(call, ..)
                | Doing::InsertingLast(call, ..),
            ) if over == call => self.follow(me, FollowerEvent::Failed),
            (Arrival::Reply(of, reply), doing) => self.answered(me, of, reply, doing),
            _ => {}
        }
    }

    /// One turn of the loop in `follow`.
    fn follow(&mut self, me: Address, event: FollowerEvent) {
        let synced = matches!(event, FollowerEvent::Synced(_));
        let process = &mut self.processes[me.process];
        if process.stopping {
            process.follower.stop();
        }
        let now = process.boot(self.now);
        if let (FollowerEvent::Heard(Hint::Revision(revision)), true) =
            (&event, self.plan.is(Broken::HintApplied))
        {
            process.mirror.publish(*revision);
        }
        let action = process.follower.on(event, now);
        if synced && self.plan.is(Broken::LeaseFromReply) && process.is_current(self.now) {
            process.lease.extend(now);
        }
        self.look_at_applied(me);
        match action {
            FollowerAction::Connect => self.ask_store(me, Query::Connect),
            FollowerAction::Register => self.register(me),
            FollowerAction::Sync(id, mut published) => {
                published.durable &= !self.plan.is(Broken::SyncsForgotten);
                self.ask_store(me, Query::Sync(id, published));
            }
            FollowerAction::Leave(id) => {
                if self.plan.is(Broken::LeaseOutlivesRow) {
                    self.processes[me.process].lease.extend(now);
                }
                self.ask_store(me, Query::EndRow(id));
            }
            FollowerAction::Wait(longest) => self.wait_for_hint(me, longest),
            FollowerAction::Rest(pause) => {
                let time = self.time(me, nanos(pause));
                self.processes[me.process].doing = Doing::Resting(time);
            }
            FollowerAction::End => self.processes[me.process].doing = Doing::Nothing,
        }
    }

    fn wait_for_hint(&mut self, me: Address, longest: Duration) {
        let time = self.time(me, nanos(longest));
        let process = &mut self.processes[me.process];
        process.doing = Doing::Waiting(time);
        if process.stopping {
            return self.follow(me, FollowerEvent::Due);
        }
        if std::mem::take(&mut process.prompted) {
            return self.follow(me, FollowerEvent::Prompted);
        }
        // What was notified while nobody listened waits in the socket.
        if let Some(newest) = std::mem::take(&mut process.inbox).into_iter().max_by_key(revision) {
            self.follow(me, FollowerEvent::Heard(newest));
        }
    }

    fn register(&mut self, me: Address) {
        let number = self.fresh_number();
        let id = ReplicaId(uuid::Uuid::from_u128(u128::from(number)));
        if self.plan.is(Broken::ReadBeforeRegistered) {
            let sent = self.processes[me.process].boot(self.now);
            let call = self.bounded(me, Query::State);
            self.processes[me.process].doing = Doing::ReadingFirst(call, id, sent);
            return;
        }
        let call = self.bounded(me, Query::InsertRow(id));
        self.processes[me.process].doing = Doing::Inserting(call, id);
    }

    fn answered(&mut self, me: Address, of: u64, reply: Reply, doing: Doing) {
        let (Doing::Asking(call)
        | Doing::Inserting(call, _)
        | Doing::Reading(call, _)
        | Doing::ReadingFirst(call, ..)
        | Doing::InsertingLast(call, ..)) = doing
        else {
            return;
        };
        if call != of {
            return;
        }
        match (doing, reply) {
            (Doing::Asking(_), Reply::Done) => self.follow(me, FollowerEvent::Connected),
            (Doing::Asking(_), Reply::Ended) => self.follow(me, FollowerEvent::Left),
            (Doing::Asking(_), Reply::Synced(synced)) => {
                self.follow(me, FollowerEvent::Synced(synced));
            }
            (Doing::Inserting(_, id), Reply::Done) => {
                let call = self.bounded(me, Query::State);
                self.processes[me.process].doing = Doing::Reading(call, id);
            }
            (Doing::Reading(_, id), Reply::State(incarnation, revision)) => {
                self.follow(me, FollowerEvent::Registered(id, incarnation, revision));
            }
            (Doing::ReadingFirst(_, id, sent), Reply::State(incarnation, revision)) => {
                let call = self.bounded(me, Query::InsertRow(id));
                let process = &mut self.processes[me.process];
                // And believed.
                process.mirror.start_over(revision);
                process.lease.extend(sent);
                process.doing = Doing::InsertingLast(call, id, incarnation, revision);
            }
            (Doing::InsertingLast(_, id, incarnation, revision), Reply::Done) => {
                self.follow(me, FollowerEvent::Registered(id, incarnation, revision));
            }
            _ => self.follow(me, FollowerEvent::Failed),
        }
    }

    /// `applied` never goes back within one life of the store, and those who stream changes on are told of no other.
    fn look_at_applied(&mut self, me: Address) {
        let process = &mut self.processes[me.process];
        let Some((_, incarnation)) = process.local.row() else { return };
        let applied = process.mirror.applied();
        let position = process.hub.position().borrow().clone();
        let told = (position.incarnation, position.revision);
        let before = process.applied.replace((incarnation.clone(), applied));
        let back = before.is_some_and(|(life, before)| life == incarnation && applied < before);
        if back {
            self.checker.fail(self.now, format!("applied went back to {applied:?}"));
        }
        if told != (Some(incarnation), applied) {
            self.checker.fail(self.now, format!("applied {applied:?}, and told {told:?}"));
        }
    }

    fn ask_store(&mut self, me: Address, query: Query) {
        let call = self.bounded(me, query);
        self.processes[me.process].doing = Doing::Asking(call);
    }

    /// A query, and the time that it may take.
    fn bounded(&mut self, me: Address, query: Query) -> u64 {
        let call = self.call(me, query);
        self.after(PATIENCE, Event::At(me, Arrival::Time(call)));
        call
    }

    pub(super) fn time(&mut self, me: Address, long: u64) -> u64 {
        let time = self.fresh_number();
        self.after(long, Event::At(me, Arrival::Time(time)));
        time
    }

    /// `Local::prompt`.
    pub(super) fn prompt(&mut self, me: Address, revision: sophic_auth::model::Revision) {
        self.processes[me.process].local.prompt(revision);
        let tail = Address { thread: Thread::Tail, ..me };
        self.after(0, Event::At(tail, Arrival::Prompt));
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
