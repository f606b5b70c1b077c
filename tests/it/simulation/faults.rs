//! The faults of a run: processes stop, crash and start, the store crashes and fails over, clocks are set, and people
//! interfere.

use sophic_auth::model::Revision;
use sophic_auth::store::Hint;

use super::plan::{L, MS, Omission};
use super::process::Process;
use super::world::{Address, Event, Fault, Message, Thread, World};

impl World {
    /// Sends forged notifications, mostly of the next revision, as every role that may connect to the database can.
    fn forge(&mut self) {
        let (_, revision) = self.store.state();
        let ahead = [1, 1, 2, 1_000_000][self.rng.index(4)];
        for process in 0..self.processes.len() {
            self.send_hint(process, Hint::Revision(Revision(revision.0 + ahead)));
        }
    }

    /// Deletes a row by hand that every running process has seen.
    fn vanish(&mut self) {
        let running = self.processes.iter().filter(|process| process.running);
        let seen = running.map(|process| process.rows_read_at).min().unwrap_or(0);
        let at = self.rng.index(8);
        self.store.vanish(seen.saturating_sub(3 * L / 2), at);
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        if let Fault::Start(process) = fault {
            return self.start_process(process);
        }
        if !self.faults_are_on() {
            return;
        }
        let mean = match fault {
            Fault::Pause | Fault::Stall | Fault::ClockStep => L,
            Fault::Restart => 3 * L / 2,
            Fault::StoreCrash | Fault::Promotion => self.plan.store_pause,
            Fault::WriteBehind => self.plan.store_pause / 5,
            Fault::Forge => self.plan.forged_every.unwrap_or(L),
            Fault::MonitorPanics => L / 2,
            Fault::Death => 2 * L,
            Fault::RowVanishes => 3 * L / 2,
            Fault::Start(_) => L,
        };
        let delay = self.rng.between(mean / 2, 3 * mean / 2);
        self.after(delay, Event::Fault(fault));
        let process = self.rng.index(self.processes.len());
        match fault {
            Fault::Pause => {
                let long = self.pause_length();
                self.processes[process].pause(
                    self.now,
                    long,
                    self.plan.omits(Omission::ClockStops),
                );
            }
            Fault::Stall => {
                let long = self.pause_length();
                let process = &mut self.processes[process];
                process.stalled_until = process.stalled_until.max(self.now + long);
            }
            Fault::Restart => self.stop_process(process),
            Fault::StoreCrash => {
                self.store.crash();
                self.connection += 1;
                self.store_down_until = self.now + self.rng.between(10 * MS, 2 * L);
            }
            Fault::Promotion => {
                let lost = self.rng.index(4);
                let lost = self.store.promote(lost);
                self.lost.extend(lost);
                self.connection += 1;
                self.demoted = self.plan.demotions.then(|| self.store.clone());
                for process in 0..self.processes.len() {
                    self.reconnect(process);
                }
                self.store_down_until = self.now + self.rng.between(MS, L / 2);
            }
            Fault::ClockStep => {
                let offset = self.rng.between(0, 5 * L);
                self.wall_offset = i64::try_from(offset).expect("small") - 3_000_000_000;
            }
            Fault::WriteBehind => self.store.write_behind(),
            Fault::Forge => self.forge(),
            Fault::MonitorPanics => {
                let address = self.processes[process].address(process, Thread::Work);
                self.after(0, Event::At(address, Message::MonitorPanics));
            }
            Fault::Death => self.kill(process),
            Fault::RowVanishes => self.vanish(),
            Fault::Start(_) => {}
        }
    }

    /// Length of a pause: mostly about a lease, sometimes longer.
    fn pause_length(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => self.rng.between(0, L / 5),
            1 | 2 => self.rng.between(L / 2, 5 * L / 4),
            _ => self.rng.between(L, 3 * L),
        }
    }

    fn start_process(&mut self, at: usize) {
        let old = &self.processes[at];
        let (earlier_starts, server) = (old.earlier_starts + 1, old.server);
        self.processes[at] = Process::new(&self.plan, &mut self.rng, earlier_starts, server);
        self.reconnect(at);
        let address = self.processes[at].address(at, Thread::Follower);
        let work = Address { thread: Thread::Work, ..address };
        self.after(0, Event::At(work, Message::Start));
        if server {
            self.after(0, Event::At(address, Message::Start));
            if self.plan.omits(Omission::Heartbeat) {
                self.after(L / 6, Event::At(work, Message::Heartbeat));
            }
        }
    }

    /// Stops a process, by kill -9 or cleanly. Another starts in its place.
    fn stop_process(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if !process.running || process.stopping {
            return;
        }
        let mut gone = 0;
        if self.rng.in_thousand(500) || !process.server {
            self.end_process(at);
        } else {
            process.stopping = true;
            let follower = process.address(at, Thread::Follower);
            let work = process.address(at, Thread::Work);
            gone = L;
            self.after(0, Event::At(follower, Message::Stop));
            self.after(gone, Event::At(work, Message::Exit));
        }
        let pause = self.rng.below(L);
        self.after(gone + pause, Event::Fault(Fault::Start(at)));
    }

    /// Kills a process for good, by kill -9. At least one server keeps running.
    fn kill(&mut self, at: usize) {
        let servers = self.processes.iter().filter(|process| process.server && process.running);
        let process = &self.processes[at];
        if servers.count() > 1 && process.server && process.running && !process.stopping {
            self.end_process(at);
        }
    }

    /// Ends a process. Its connections break, and its clients notice at once.
    pub(super) fn end_process(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.running = false;
        let commits = std::mem::take(&mut process.commits).into_values();
        let mut attempts: Vec<_> = commits.map(|(attempt, _)| attempt).collect();
        process.monitor.retain_waiters(|waiter| {
            attempts.push(waiter.0);
            false
        });
        for attempt in attempts {
            self.failed(attempt);
        }
    }
}
