//! Drives the [`Lookout`] of a process, as `src/cache/barrier.rs` does with a task, and the service above it: a change is
//! committed, and what narrows waits.

use std::time::Duration;

use sophic_auth::cache::{BarrierError, Lookout, LookoutAction, LookoutEvent};
use sophic_auth::model::Revision;
use sophic_auth::store::{Replica, Replicas};

use super::follow::nanos;
use super::plan::{Broken, L, MS};
use super::store::{Effect, Wanted};
use super::world::{Address, Arrival, Event, Query, Reply, World};

/// For how long rows that were read once are taken for new ones, where that is wrong.
const OLD_ROWS: u64 = 50 * MS;
/// `RESTART_PAUSE`.
pub(super) const RESTART_PAUSE: u64 = 100 * MS;

/// Who waits: the attempt, the version that was committed, and the revision.
pub(super) type Waiter = (u64, i64, Revision);

/// What the task that looks waits for. Each number is that of the query, or of the time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looking {
    /// It has died; it is started again after this time, if it is.
    Dead(u64),
    /// `list_replicas`, asked at this time since boot.
    Rows(u64, Duration),
    Fence(u64),
    Resting(u64),
}

impl World {
    /// A change comes in: its transaction, in a task of its own.
    pub(super) fn operate(&mut self, me: Address, attempt: u64, wanted: Wanted) {
        let call = self.call(me, Query::Commit(wanted));
        self.processes[me.process].commits.insert(call, (attempt, wanted));
    }

    fn committed(&mut self, me: Address, call: u64, reply: &Reply) {
        let Some((attempt, wanted)) = self.processes[me.process].commits.remove(&call) else {
            return;
        };
        let Reply::Committed(revision, version, changed) = *reply else {
            return self.failed(attempt);
        };
        // The effect follows from what is asked, not from what it came to.
        let narrows = wanted.effect() == Effect::Narrows;
        let skips = match self.plan.broken {
            Some(Broken::NoWait) => true,
            Some(Broken::RetryAtOnce) => !changed,
            Some(Broken::MissingAtOnce) => !changed && wanted.deletes(),
            _ => false,
        };
        if !narrows || skips {
            return self.returned(attempt, narrows.then_some(revision), version);
        }
        // `Barrier::wait`.
        self.prompt(me, revision);
        let process = &mut self.processes[me.process];
        process.lookout.arrive(revision, (attempt, version, revision));
        if let Looking::Resting(_) = process.looking {
            self.look_out(me, LookoutEvent::Due);
        }
    }

    /// What comes to the threads that work.
    pub(super) fn work(&mut self, me: Address, arrival: Arrival) {
        match arrival {
            Arrival::Ask(request) => self.introspect(me, request),
            Arrival::Believe(request, facts, term) => self.believe(me, request, &facts, term),
            Arrival::Operate(attempt, wanted) => self.operate(me, attempt, wanted),
            Arrival::Beat => self.beat(me),
            Arrival::Exit => self.end_process(me.process),
            Arrival::Start => self.look_out(me, LookoutEvent::Due),
            Arrival::Die => self.die(me),
            Arrival::Time(number) => self.over(me, number),
            Arrival::Reply(call, reply) => {
                let process = &mut self.processes[me.process];
                if let Some((_, sent)) = process.beat.take_if(|beat| beat.0 == call) {
                    if matches!(reply, Reply::Done) {
                        process.lease.extend(sent);
                    }
                } else if process.flights.contains_key(&call) {
                    self.landed(me, call, reply);
                } else if process.commits.contains_key(&call) {
                    self.committed(me, call, &reply);
                } else {
                    self.looked(me, call, reply);
                }
            }
            Arrival::Prompt | Arrival::Heard(..) | Arrival::Stop => {}
        }
    }

    fn over(&mut self, me: Address, number: u64) {
        let process = &self.processes[me.process];
        if process.flights.contains_key(&number) {
            return self.landed(me, number, Reply::Failed);
        }
        match process.looking {
            Looking::Resting(time) | Looking::Dead(time) if time == number => {
                self.look_out(me, LookoutEvent::Due);
            }
            Looking::Rows(call, _) | Looking::Fence(call) if call == number => {
                self.look_out(me, LookoutEvent::Failed);
            }
            _ => {}
        }
    }

    /// A heartbeat that knows nothing of the log.
    fn beat(&mut self, me: Address) {
        self.after(L / 6, Event::At(me, Arrival::Beat));
        let process = &self.processes[me.process];
        let Some((id, _)) = process.local.row() else { return };
        let sent = process.boot(self.now);
        let call = self.call(me, Query::Beat(id));
        self.processes[me.process].beat = Some((call, sent));
    }

    /// The task that looks panics.
    fn die(&mut self, me: Address) {
        let time = if self.plan.is(Broken::LookoutStaysDead) {
            self.fresh_number()
        } else {
            self.time(me, RESTART_PAUSE)
        };
        self.processes[me.process].looking = Looking::Dead(time);
    }

    fn looked(&mut self, me: Address, of: u64, reply: Reply) {
        match (self.processes[me.process].looking, reply) {
            (Looking::Rows(call, asked), Reply::Replicas(rows, expired)) if call == of => {
                let rows = self.misread(me, rows, &expired);
                let process = &mut self.processes[me.process];
                process.rows = Some((self.now, rows.clone()));
                process.misjudges_at = self.plan.is(Broken::SeenBeforeRead).then_some(asked);
                self.look_out(me, LookoutEvent::Rows(rows));
            }
            (Looking::Fence(call), Reply::Fenced(fenced)) if call == of => {
                self.look_out(me, LookoutEvent::Fenced(fenced));
            }
            (Looking::Rows(call, _) | Looking::Fence(call), Reply::Failed) if call == of => {
                self.look_out(me, LookoutEvent::Failed);
            }
            _ => {}
        }
    }

    /// What safeguards that are left out make of the rows.
    fn misread(
        &mut self,
        me: Address,
        mut rows: Replicas,
        expired: &[(sophic_auth::model::ReplicaId, i64)],
    ) -> Replicas {
        let given_up: Vec<_> = match self.plan.broken {
            Some(Broken::DatabaseClock) => expired.to_vec(),
            Some(Broken::FencedAtOnce) if !self.processes[me.process].lookout.is_idle() => {
                rows.replicas.iter().map(|row| (row.id, row.seq)).collect()
            }
            _ => Vec::new(),
        };
        for (id, seq) in given_up {
            self.store.fence(id, seq);
            rows.replicas.retain(|row| row.id != id);
            rows.ended.push(id);
        }
        if self.plan.is(Broken::VanishedForgotten) {
            rows.ended.extend(self.store.all_ids());
        }
        rows
    }

    /// One turn of the loop in `Shared::run`.
    fn look_out(&mut self, me: Address, event: LookoutEvent) {
        let clients = &self.clients;
        let process = &mut self.processes[me.process];
        if matches!(event, LookoutEvent::Rows(_)) {
            process.looked_at = self.now;
        }
        process.lookout.retain(|waiter: &Waiter| clients.is_waited_for(waiter.0));
        let now = process.misjudges_at.take().unwrap_or_else(|| process.boot(self.now));
        let any_life =
            self.plan.is(Broken::AcknowledgedInAnotherLife) || self.plan.is(Broken::EpochIgnored);
        let local = &process.local;
        let known = |row: &Replica, rows: &Replicas| {
            let life = local.row().filter(|_| any_life).map(|(_, life)| life);
            local.known(row.id, life.as_ref().unwrap_or(&rows.incarnation))
        };
        let action = process.lookout.on(event, now, known);
        let released = process.lookout.take_released();
        if self.plan.is(Broken::StandstillForgotten) && process.lookout.is_idle() {
            process.lookout = Lookout::default();
        }
        for ((attempt, version, revision), outcome) in released {
            match outcome {
                Ok(()) => self.returned(attempt, Some(revision), version),
                Err(BarrierError::AnotherLife) => self.failed(attempt),
                Err(BarrierError::NotSeen) => {
                    self.checker.fail(self.now, "a commit that the store does not show".to_owned());
                }
            }
        }
        self.perform(me, action);
    }

    fn perform(&mut self, me: Address, action: LookoutAction) {
        let looking = match action {
            LookoutAction::Look => {
                let old = self.plan.is(Broken::JudgedByEarlierLook);
                let process = &self.processes[me.process];
                let rows =
                    process.rows.clone().filter(|(read, _)| old && self.now < read + OLD_ROWS);
                let asked = process.boot(self.now);
                let call = match rows {
                    Some((_, rows)) => {
                        let call = self.fresh_number();
                        let reply = Arrival::Reply(call, Reply::Replicas(rows, Vec::new()));
                        self.after(MS, Event::At(me, reply));
                        call
                    }
                    None => self.call(me, Query::Replicas),
                };
                self.after(L, Event::At(me, Arrival::Time(call)));
                Looking::Rows(call, asked)
            }
            LookoutAction::Fence(id, seq) => {
                let call = self.call(me, Query::Fence(id, seq));
                self.after(L, Event::At(me, Arrival::Time(call)));
                Looking::Fence(call)
            }
            LookoutAction::Rest(pause) => Looking::Resting(self.time(me, nanos(pause))),
        };
        self.processes[me.process].looking = looking;
    }
}
