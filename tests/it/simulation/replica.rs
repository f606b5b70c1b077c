//! `src/cache/replica.rs`, its loop as a table of states: to be read beside it. The steps are the real ones, [`Tail`]'s;
//! what is modelled is that each query may fail, be lost, or come late.

use std::time::Duration;

use sophic_auth::cache::Step;
use sophic_auth::model::ReplicaId;
use sophic_auth::store::{Change, Incarnation, Published};

use super::plan::{Broken, L, MS};
use super::world::{Address, Arrival, Event, Query, Reply, Thread, World};

/// `SYNC_INTERVAL_MAX`, or a sixth of the lease.
const INTERVAL: u64 = L / 6;
const RECONNECT_PAUSE: u64 = 100 * MS;
/// For a server that takes connections and says nothing.
const PATIENCE: u64 = L / 2;

/// Where the loop stands. Each number is that of the query, or of the time, that is waited for.
#[derive(Debug, Clone)]
pub(super) enum TailAt {
    Stopped,
    /// In `follow`, after an error.
    Resting(u64),
    /// `open_feed`.
    Connecting(u64),
    /// `register`: the row.
    Inserting(u64, ReplicaId),
    /// `register`: the state, after it.
    Reading(u64, ReplicaId),
    /// The wrong way round: the state, before the row.
    ReadingFirst(u64, Duration),
    Syncing(u64, Duration, Published),
    Waiting(u64),
    /// `deregister`, and then to register anew.
    Deregistering(u64),
    /// `deregister`, and then the end.
    Leaving(u64),
}

impl World {
    pub(super) fn tail(&mut self, me: Address, arrival: Arrival) {
        let at = self.processes[me.process].tail_at.clone();
        match (arrival, at) {
            (Arrival::Start, _) => self.connect(me),
            (Arrival::Hint | Arrival::Stop, TailAt::Waiting(_)) => self.turn(me),
            (Arrival::Hint, _) => self.processes[me.process].prompted = true,
            (Arrival::Heard(life, change), TailAt::Waiting(_)) => self.hear(me, &[(life, change)]),
            (Arrival::Heard(life, change), _) => {
                self.processes[me.process].heard.push((life, change));
            }
            (Arrival::Time(over), TailAt::Resting(time)) if over == time => self.connect(me),
            (Arrival::Time(over), TailAt::Waiting(time)) if over == time => {
                if self.plan.is(Broken::DetachedTooLate) {
                    let process = &self.processes[me.process];
                    process.board.lock().expect("one thread").clear();
                }
                self.turn(me);
            }
            (
                Arrival::Time(over),
                TailAt::Connecting(call)
                | TailAt::Inserting(call, _)
                | TailAt::Reading(call, _)
                | TailAt::ReadingFirst(call, _)
                | TailAt::Syncing(call, ..)
                | TailAt::Deregistering(call)
                | TailAt::Leaving(call),
            ) if over == call => self.rest(me),
            (Arrival::Reply(of, reply), at) => self.answered(me, of, reply, at),
            _ => {}
        }
    }

    fn connect(&mut self, me: Address) {
        let call = self.bounded(me, Query::Connect);
        self.processes[me.process].tail_at = TailAt::Connecting(call);
    }

    /// `hear` of Postgres's feed, and `until_due`.
    fn hear(&mut self, me: Address, heard: &[(Incarnation, Change)]) {
        let Some((life, _)) = heard.first().cloned() else { return };
        if heard.iter().any(|(other, _)| *other != life) {
            return self.turn(me);
        }
        let process = &mut self.processes[me.process];
        let changes: Vec<_> = heard.iter().map(|(_, change)| change.clone()).collect();
        if process.tail.hear(&life, &changes) {
            self.turn(me);
        }
    }

    /// An error left `connected`.
    fn rest(&mut self, me: Address) {
        if self.processes[me.process].stopping {
            self.processes[me.process].tail_at = TailAt::Stopped;
            return;
        }
        let time = self.time(me, RECONNECT_PAUSE);
        self.processes[me.process].tail_at = TailAt::Resting(time);
    }

    /// The top of the loop in `connected`.
    fn turn(&mut self, me: Address) {
        let process = &self.processes[me.process];
        if process.row.is_none() {
            // `registered`.
            if self.plan.is(Broken::ReadBeforeRegistered) {
                let sent = process.boot(self.now);
                let call = self.bounded(me, Query::State);
                self.processes[me.process].tail_at = TailAt::ReadingFirst(call, sent);
                return;
            }
            return self.insert(me);
        }
        self.sync(me);
    }

    fn insert(&mut self, me: Address) {
        let number = self.fresh_number();
        let id = ReplicaId(uuid::Uuid::from_u128(u128::from(number)));
        let call = self.bounded(me, Query::InsertRow(id));
        self.processes[me.process].tail_at = TailAt::Inserting(call, id);
    }

    fn sync(&mut self, me: Address) {
        let forgotten = self.plan.is(Broken::SyncsForgotten);
        let process = &mut self.processes[me.process];
        let sent = process.boot(self.now);
        let mut published = process.tail.publish(sent);
        published.durable &= !forgotten;
        let Some((id, _)) = process.row else { return };
        let call = self.bounded(me, Query::Sync(id, published.clone()));
        self.processes[me.process].tail_at = TailAt::Syncing(call, sent, published);
    }

    fn answered(&mut self, me: Address, of: u64, reply: Reply, at: TailAt) {
        match (at, reply) {
            (
                TailAt::Connecting(call)
                | TailAt::Inserting(call, _)
                | TailAt::Reading(call, _)
                | TailAt::ReadingFirst(call, _)
                | TailAt::Syncing(call, ..)
                | TailAt::Deregistering(call)
                | TailAt::Leaving(call),
                Reply::Failed,
            ) if call == of => self.rest(me),
            (TailAt::Connecting(call), Reply::Done) if call == of => self.turn(me),
            (TailAt::Inserting(call, id), Reply::Done) if call == of => {
                let process = &mut self.processes[me.process];
                if let (true, Some((incarnation, _))) =
                    (self.plan.is(Broken::ReadBeforeRegistered), process.applied.clone())
                {
                    process.row = Some((id, incarnation));
                    return self.sync(me);
                }
                let call = self.bounded(me, Query::State);
                self.processes[me.process].tail_at = TailAt::Reading(call, id);
            }
            (TailAt::Reading(call, id), Reply::State(incarnation, revision)) if call == of => {
                let process = &mut self.processes[me.process];
                process.tail.registered(incarnation.clone(), revision);
                process.row = Some((id, incarnation));
                self.look_at_applied(me);
                self.sync(me);
            }
            (TailAt::ReadingFirst(call, sent), Reply::State(incarnation, revision))
                if call == of =>
            {
                let process = &mut self.processes[me.process];
                process.tail.registered(incarnation.clone(), revision);
                process.applied = Some((incarnation, revision));
                process.lease.extend(sent);
                self.insert(me);
            }
            (TailAt::Syncing(call, sent, published), Reply::Synced(synced)) if call == of => {
                let late = self.plan.is(Broken::LeaseFromReply);
                let process = &mut self.processes[me.process];
                let sent = if late { process.boot(self.now) } else { sent };
                let step = process.tail.synced(sent, &published, synced);
                // What was heard of, and turns out to be of another life, goes with all the rest.
                if step != Step::Register {
                    self.look_at_applied(me);
                }
                self.step(me, step);
            }
            (TailAt::Deregistering(call), Reply::Done) if call == of => self.turn(me),
            (TailAt::Leaving(call), Reply::Done) if call == of => {
                self.processes[me.process].tail_at = TailAt::Stopped;
            }
            _ => {}
        }
    }

    fn step(&mut self, me: Address, step: Step) {
        let process = &mut self.processes[me.process];
        let Some((id, _)) = process.row else { return };
        if process.stopping {
            if !self.plan.is(Broken::LeaseOutlivesRow) {
                process.tail.leave();
            }
            process.row = None;
            let call = self.bounded(me, Query::DeleteRow(id));
            self.processes[me.process].tail_at = TailAt::Leaving(call);
            return;
        }
        match step {
            Step::SyncAgain => self.turn(me),
            Step::Register => {
                process.row = None;
                let call = self.bounded(me, Query::DeleteRow(id));
                self.processes[me.process].tail_at = TailAt::Deregistering(call);
            }
            Step::Wait if std::mem::take(&mut process.prompted) => self.turn(me),
            Step::Wait => {
                let heard = std::mem::take(&mut process.heard);
                let time = self.time(me, INTERVAL);
                self.processes[me.process].tail_at = TailAt::Waiting(time);
                self.hear(me, &heard);
            }
        }
    }

    /// `applied` never goes back within one life of the store, and who streams changes on is told of no other.
    fn look_at_applied(&mut self, me: Address) {
        let process = &mut self.processes[me.process];
        let Some((_, incarnation)) = process.row.clone() else { return };
        let applied = process.mirror.applied();
        let position = process.hub.position().borrow().clone();
        // What was only heard of is told to nobody until a sync confirms it.
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
    pub(super) fn prompt(&mut self, me: Address) {
        let tail = Address { thread: Thread::Tail, ..me };
        self.after(0, Event::At(tail, Arrival::Hint));
    }
}
