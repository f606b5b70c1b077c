//! `src/cache/barrier.rs`, and what `Service::commit_and_wait` does around it: to be read beside them. Who may be given
//! up and who need wait no longer is decided by the real [`Standstill`] and [`Wait`]; what is modelled is the polling.

use std::time::Duration;

use sophic_auth::cache::{BarrierError, Standstill, Wait, is_behind};
use sophic_auth::model::{ReplicaId, Revision};
use sophic_auth::store::{Replica, Replicas};

use super::plan::{Broken, L, MS, US};
use super::store::Wanted;
use super::world::{Address, Arrival, Event, Query, Reply, World};

const PAUSE_MIN: u64 = 400 * US;
const PAUSE_MAX: u64 = 40 * MS;

/// Who waits for a revision.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) attempt: u64,
    version: i64,
    wait: Wait,
    looked_for: bool,
}

/// Where `Shared::poll` stands.
#[derive(Debug)]
pub(super) enum Polling {
    Idle,
    /// `list_replicas`, asked at this time since boot.
    Looking(u64, Duration),
    /// `fence_replica`, of the first of those that are left.
    Fencing(u64, Replicas, Vec<(ReplicaId, i64)>),
    Sleeping(u64),
}

impl World {
    /// A change comes in: its transaction, in a task of its own.
    pub(super) fn operate(&mut self, me: Address, attempt: u64, wanted: Wanted, waits: bool) {
        let call = self.call(me, Query::Commit(wanted));
        self.processes[me.process].commits.insert(call, (attempt, waits));
    }

    fn committed(&mut self, me: Address, call: u64, reply: &Reply) {
        let Some((attempt, waits)) = self.processes[me.process].commits.remove(&call) else {
            return;
        };
        let Reply::Committed(revision, version, changed) = *reply else {
            return self.failed(attempt);
        };
        let at_once =
            self.plan.is(Broken::NoWait) || (self.plan.is(Broken::RetryAtOnce) && !changed);
        if !waits || at_once {
            return self.returned(attempt, waits.then_some(revision), version);
        }
        // `Barrier::wait`.
        self.prompt(me);
        let waiter = Waiter { attempt, version, wait: Wait::new(revision), looked_for: false };
        let process = &mut self.processes[me.process];
        process.waiters.push(waiter);
        match process.polling {
            Polling::Idle => {
                process.standstill = Standstill::default();
                process.poll_pause = PAUSE_MIN;
                self.look(me);
            }
            // `arrived`.
            Polling::Sleeping(_) => {
                process.poll_pause = PAUSE_MIN;
                self.look(me);
            }
            Polling::Looking(..) | Polling::Fencing(..) => {}
        }
    }

    /// What comes to the threads that work.
    pub(super) fn work(&mut self, me: Address, arrival: Arrival) {
        match arrival {
            Arrival::Ask(request) => self.introspect(me, request),
            Arrival::Believe(request, facts, term) => self.believe(me, request, &facts, term),
            Arrival::Operate(attempt, wanted, waits) => self.operate(me, attempt, wanted, waits),
            Arrival::Beat => self.beat(me),
            Arrival::Exit => self.end_process(me.process),
            Arrival::Time(number) => self.over(me, number),
            Arrival::Reply(call, reply) => {
                let process = &mut self.processes[me.process];
                if let Some((_, sent)) = process.beat.take_if(|beat| beat.0 == call) {
                    if matches!(reply, Reply::Done) {
                        process.lease.extend(sent);
                    }
                } else if process.fills.contains_key(&call) {
                    self.filled(me, call, reply);
                } else if process.commits.contains_key(&call) {
                    self.committed(me, call, &reply);
                } else {
                    self.looked(me, call, reply);
                }
            }
            Arrival::Start | Arrival::Hint | Arrival::Heard(..) | Arrival::Stop => {}
        }
    }

    fn over(&mut self, me: Address, number: u64) {
        let process = &self.processes[me.process];
        if process.fills.contains_key(&number) {
            return self.filled(me, number, Reply::Failed);
        }
        match process.polling {
            Polling::Sleeping(time) if time == number => {
                let process = &mut self.processes[me.process];
                process.poll_pause = (process.poll_pause * 2).min(PAUSE_MAX);
                self.look(me);
            }
            Polling::Looking(call, _) if call == number => self.pause(me, true),
            Polling::Fencing(call, ..) if call == number => self.pause(me, true),
            _ => {}
        }
    }

    /// A heartbeat that knows nothing of the log.
    fn beat(&mut self, me: Address) {
        self.after(L / 6, Event::At(me, Arrival::Beat));
        let process = &self.processes[me.process];
        let Some((id, _)) = process.row else { return };
        let sent = process.boot(self.now);
        let call = self.call(me, Query::Beat(id));
        self.processes[me.process].beat = Some((call, sent));
    }

    /// The first half of `Shared::look`.
    fn look(&mut self, me: Address) {
        let process = &mut self.processes[me.process];
        process.waiters.iter_mut().for_each(|waiter| waiter.looked_for = true);
        let asked = process.boot(self.now);
        let call = self.call(me, Query::Replicas);
        self.after(L, Event::At(me, Arrival::Time(call)));
        self.processes[me.process].polling = Polling::Looking(call, asked);
    }

    fn looked(&mut self, me: Address, call: u64, reply: Reply) {
        let polling = std::mem::replace(&mut self.processes[me.process].polling, Polling::Idle);
        match (polling, reply) {
            (Polling::Looking(of, asked), Reply::Replicas(rows, expired)) if of == call => {
                let over = self.over_with(me, &rows, expired, asked);
                self.fence_next(me, rows, over);
            }
            (Polling::Fencing(of, mut rows, mut over), Reply::Fenced(fenced)) if of == call => {
                let (id, _) = over.remove(0);
                if fenced {
                    rows.replicas.retain(|row| row.id != id);
                }
                self.fence_next(me, rows, over);
            }
            (Polling::Looking(of, _) | Polling::Fencing(of, ..), Reply::Failed) if of == call => {
                self.pause(me, true);
            }
            (polling, _) => self.processes[me.process].polling = polling,
        }
    }

    /// Those that may be given up.
    fn over_with(
        &mut self,
        me: Address,
        rows: &Replicas,
        expired: Vec<(ReplicaId, i64)>,
        asked: Duration,
    ) -> Vec<(ReplicaId, i64)> {
        let before = self.plan.is(Broken::SeenBeforeRead);
        let process = &mut self.processes[me.process];
        let now = if before { asked } else { process.boot(self.now) };
        let over = process.standstill.look(&rows.replicas, now);
        match self.plan.broken {
            Some(Broken::DatabaseClock) => expired,
            Some(Broken::FencedAtOnce) => {
                rows.replicas.iter().map(|row| (row.id, row.seq)).collect()
            }
            _ => over,
        }
    }

    fn known(&self, me: Address, row: &Replica, rows: &Replicas) -> Option<Revision> {
        let process = &self.processes[me.process];
        let any_life =
            self.plan.is(Broken::AcknowledgedInAnotherLife) || self.plan.is(Broken::EpochIgnored);
        let (id, life) = process.row.as_ref()?;
        let own = *id == row.id && (any_life || *life == rows.incarnation);
        own.then(|| process.mirror.applied())
    }

    /// The loop in `Shared::look`, from the next one on.
    fn fence_next(&mut self, me: Address, rows: Replicas, mut over: Vec<(ReplicaId, i64)>) {
        let waiters = &self.processes[me.process].waiters;
        let newest = waiters.iter().map(|waiter| waiter.wait.revision()).max().unwrap_or_default();
        over.retain(|(id, _)| {
            let mut all = rows.replicas.iter();
            all.find(|row| row.id == *id)
                .is_some_and(|row| is_behind(row, newest, self.known(me, row, &rows)))
        });
        if let Some((id, seq)) = over.first().copied() {
            let call = self.call(me, Query::Fence(id, seq));
            self.after(L, Event::At(me, Arrival::Time(call)));
            self.processes[me.process].polling = Polling::Fencing(call, rows, over);
            return;
        }
        self.settle(me, &rows);
        self.pause(me, false);
    }

    fn settle(&mut self, me: Address, rows: &Replicas) {
        let any_look = self.plan.is(Broken::JudgedByEarlierLook);
        let waiters = std::mem::take(&mut self.processes[me.process].waiters);
        let mut still = Vec::new();
        for mut waiter in waiters {
            let outcome = if waiter.looked_for || any_look {
                waiter.wait.judge(rows, |row| self.known(me, row, rows))
            } else {
                None
            };
            match outcome {
                None => still.push(waiter),
                Some(Ok(())) => {
                    self.returned(waiter.attempt, Some(waiter.wait.revision()), waiter.version);
                }
                Some(Err(BarrierError::AnotherLife)) => self.failed(waiter.attempt),
                Some(Err(BarrierError::NotSeen)) => {
                    self.checker.fail(self.now, "a commit that the store does not show".to_owned());
                }
            }
        }
        self.processes[me.process].waiters = still;
    }

    /// The rest of `Shared::poll`'s loop.
    fn pause(&mut self, me: Address, error: bool) {
        let clients = &self.clients;
        let process = &mut self.processes[me.process];
        if error {
            process.poll_pause = PAUSE_MAX;
        }
        process.waiters.retain(|waiter| clients.is_waited_for(waiter.attempt));
        if process.waiters.is_empty() {
            process.polling = Polling::Idle;
            return;
        }
        let arrived = process.waiters.iter().any(|waiter| !waiter.looked_for);
        if arrived {
            process.poll_pause = PAUSE_MIN;
            return self.look(me);
        }
        let long = process.poll_pause;
        let time = self.time(me, long);
        self.processes[me.process].polling = Polling::Sleeping(time);
    }
}
