//! Drives the [`ReplicaMonitor`] of a process, as `src/cache/barrier.rs` does with a task, and the service above it:
//! commits a change, and waits if the change takes something away.

use std::time::Duration;

use sophic_auth::cache::{BarrierError, MonitorAction, MonitorEvent, ReplicaMonitor};
use sophic_auth::model::Revision;
use sophic_auth::store::{Replica, Replicas};

use super::follow::nanos;
use super::plan::{L, MS, Omission};
use super::store::{Effect, Mutation};
use super::world::{Address, Event, Message, Reply, Statement, World};

/// For [`Omission::ReleasedByEarlierRows`]: how long rows are reused.
const OLD_ROWS: u64 = 50 * MS;
/// `RESTART_PAUSE`.
pub(super) const RESTART_PAUSE: u64 = 100 * MS;

/// A waiting call: the attempt, the committed version, and the revision.
pub(super) type Waiter = (u64, i64, Revision);

/// What the monitoring task waits for. The number is that of the query or timer.
#[derive(Debug, Clone, Copy)]
pub(super) enum MonitorState {
    /// The task has panicked. It restarts when this timer elapses, if at all.
    Dead(u64),
    /// `list_replicas`, sent at this time since boot.
    Rows(u64, Duration),
    MarkingEnded(u64),
    Resting(u64),
}

impl World {
    /// Starts the transaction of a change, as a task.
    pub(super) fn mutate(&mut self, me: Address, attempt: u64, mutation: Mutation) {
        let call = self.call(me, Statement::Commit(mutation));
        self.processes[me.process].commits.insert(call, (attempt, mutation));
    }

    fn committed(&mut self, me: Address, call: u64, reply: &Reply) {
        let Some((attempt, mutation)) = self.processes[me.process].commits.remove(&call) else {
            return;
        };
        let Reply::Committed(revision, version, changed) = *reply else {
            return self.failed(attempt);
        };
        // The effect follows from the request, not from its outcome.
        let narrows = mutation.effect() == Effect::Narrows;
        let skips = match self.plan.omission {
            Some(Omission::NoWait) => true,
            Some(Omission::RetryAtOnce) => !changed,
            Some(Omission::NotFoundAtOnce) => !changed && mutation.deletes(),
            _ => false,
        };
        if !narrows || skips {
            return self.returned(attempt, narrows.then_some(revision), version);
        }
        // `Barrier::wait`.
        self.request_sync(me, revision);
        let process = &mut self.processes[me.process];
        process.monitor.add_waiter(revision, (attempt, version, revision));
        if let MonitorState::Resting(_) = process.monitor_state {
            self.drive_monitor(me, MonitorEvent::Due);
        }
    }

    /// Handles a message to the threads that serve requests.
    pub(super) fn work(&mut self, me: Address, message: Message) {
        match message {
            Message::Introspect(request) => self.introspect(me, request),
            Message::CheckLease(request, facts, snapshot) => {
                self.check_lease(me, request, &facts, snapshot)
            }
            Message::Mutate(attempt, mutation) => self.mutate(me, attempt, mutation),
            Message::Heartbeat => self.heartbeat(me),
            Message::Exit => self.end_process(me.process),
            Message::Start => self.drive_monitor(me, MonitorEvent::Due),
            Message::MonitorPanics => self.panic_monitor(me),
            Message::Time(number) => self.timed_out(me, number),
            Message::Reply(call, reply) => {
                let process = &mut self.processes[me.process];
                if let Some((_, sent)) = process.heartbeat.take_if(|heartbeat| heartbeat.0 == call)
                {
                    if matches!(reply, Reply::Done) {
                        process.lease.extend(sent);
                    }
                } else if process.reads.contains_key(&call) {
                    self.landed(me, call, reply);
                } else if process.commits.contains_key(&call) {
                    self.committed(me, call, &reply);
                } else {
                    self.on_monitor_reply(me, call, reply);
                }
            }
            Message::SyncRequested | Message::Notified(..) | Message::Stop => {}
        }
    }

    fn timed_out(&mut self, me: Address, number: u64) {
        let process = &self.processes[me.process];
        if process.reads.contains_key(&number) {
            return self.landed(me, number, Reply::Failed);
        }
        match process.monitor_state {
            MonitorState::Resting(time) | MonitorState::Dead(time) if time == number => {
                self.drive_monitor(me, MonitorEvent::Due);
            }
            MonitorState::Rows(call, _) | MonitorState::MarkingEnded(call) if call == number => {
                self.drive_monitor(me, MonitorEvent::Failed);
            }
            _ => {}
        }
    }

    /// Sends a heartbeat that is independent of the change log.
    fn heartbeat(&mut self, me: Address) {
        self.after(L / 6, Event::At(me, Message::Heartbeat));
        let process = &self.processes[me.process];
        let Some((id, _)) = process.local.row() else { return };
        let sent = process.boot(self.now);
        let call = self.call(me, Statement::Heartbeat(id));
        self.processes[me.process].heartbeat = Some((call, sent));
    }

    /// Makes the monitoring task panic.
    fn panic_monitor(&mut self, me: Address) {
        let time = if self.plan.omits(Omission::MonitorNotRestarted) {
            self.fresh_number()
        } else {
            self.time(me, RESTART_PAUSE)
        };
        self.processes[me.process].monitor_state = MonitorState::Dead(time);
    }

    fn on_monitor_reply(&mut self, me: Address, of: u64, reply: Reply) {
        match (self.processes[me.process].monitor_state, reply) {
            (MonitorState::Rows(call, asked), Reply::Replicas(rows, expired)) if call == of => {
                let rows = self.distort_rows(me, rows, &expired);
                let process = &mut self.processes[me.process];
                process.rows = Some((self.now, rows.clone()));
                process.distorted_now =
                    self.plan.omits(Omission::ObservedBeforeRead).then_some(asked);
                self.drive_monitor(me, MonitorEvent::Rows(rows));
            }
            (MonitorState::MarkingEnded(call), Reply::MarkedEnded(was_marked)) if call == of => {
                self.drive_monitor(me, MonitorEvent::MarkedEnded(was_marked));
            }
            (MonitorState::Rows(call, _) | MonitorState::MarkingEnded(call), Reply::Failed)
                if call == of =>
            {
                self.drive_monitor(me, MonitorEvent::Failed);
            }
            _ => {}
        }
    }

    /// Distorts the rows as the omitted safeguard requires.
    fn distort_rows(
        &mut self,
        me: Address,
        mut rows: Replicas,
        expired: &[(sophic_auth::model::ReplicaId, i64)],
    ) -> Replicas {
        let given_up: Vec<_> = match self.plan.omission {
            Some(Omission::DatabaseClock) => expired.to_vec(),
            Some(Omission::GivenUpAtOnce) if !self.processes[me.process].monitor.is_idle() => {
                rows.replicas.iter().map(|row| (row.id, row.seq)).collect()
            }
            _ => Vec::new(),
        };
        for (id, seq) in given_up {
            self.store.mark_ended(id, seq);
            rows.replicas.retain(|row| row.id != id);
            rows.ended.push(id);
        }
        if self.plan.omits(Omission::VanishedRowIgnored) {
            rows.ended.extend(self.store.all_ids());
        }
        rows
    }

    /// One iteration of the loop in `Shared::run`.
    fn drive_monitor(&mut self, me: Address, event: MonitorEvent) {
        let clients = &self.clients;
        let process = &mut self.processes[me.process];
        if matches!(event, MonitorEvent::Rows(_)) {
            process.rows_read_at = self.now;
        }
        process.monitor.retain_waiters(|waiter: &Waiter| clients.is_waited_for(waiter.0));
        let now = process.distorted_now.take().unwrap_or_else(|| process.boot(self.now));
        let any_incarnation = self.plan.omits(Omission::AcknowledgedInAnotherIncarnation)
            || self.plan.omits(Omission::IncarnationIgnored);
        let local = &process.local;
        let known = |row: &Replica, rows: &Replicas| {
            let incarnation =
                local.row().filter(|_| any_incarnation).map(|(_, incarnation)| incarnation);
            local.applied_by(row.id, incarnation.as_ref().unwrap_or(&rows.incarnation))
        };
        let action = process.monitor.on(event, now, known);
        let released = process.monitor.take_released();
        if self.plan.omits(Omission::ObservationsForgotten) && process.monitor.is_idle() {
            process.monitor = ReplicaMonitor::default();
        }
        for ((attempt, version, revision), outcome) in released {
            match outcome {
                Ok(()) => self.returned(attempt, Some(revision), version),
                Err(BarrierError::IncarnationChanged) => self.failed(attempt),
                Err(BarrierError::CommitNotVisible) => {
                    self.checker.fail(self.now, "the store does not show a commit".to_owned());
                }
            }
        }
        self.perform(me, action);
    }

    fn perform(&mut self, me: Address, action: MonitorAction) {
        let monitor_state = match action {
            MonitorAction::ReadRows => {
                let old = self.plan.omits(Omission::ReleasedByEarlierRows);
                let process = &self.processes[me.process];
                let rows =
                    process.rows.clone().filter(|(read, _)| old && self.now < read + OLD_ROWS);
                let asked = process.boot(self.now);
                let call = match rows {
                    Some((_, rows)) => {
                        let call = self.fresh_number();
                        let reply = Message::Reply(call, Reply::Replicas(rows, Vec::new()));
                        self.after(MS, Event::At(me, reply));
                        call
                    }
                    None => self.call(me, Statement::Replicas),
                };
                self.after(L, Event::At(me, Message::Time(call)));
                MonitorState::Rows(call, asked)
            }
            MonitorAction::MarkEnded(id, seq) => {
                let call = self.call(me, Statement::MarkEnded(id, seq));
                self.after(L, Event::At(me, Message::Time(call)));
                MonitorState::MarkingEnded(call)
            }
            MonitorAction::Wait(pause) => MonitorState::Resting(self.time(me, nanos(pause))),
        };
        self.processes[me.process].monitor_state = monitor_state;
    }
}
