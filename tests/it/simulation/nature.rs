//! What goes wrong in a run: processes that stop, die and start, a store that crashes and fails over, clocks that are set, and
//! people who meddle.

use sophic_auth::model::Revision;
use sophic_auth::store::Hint;

use super::plan::{Broken, L, MS};
use super::process::Process;
use super::world::{Address, Arrival, Event, Fault, Thread, World};

impl World {
    /// Somebody who may connect notifies, mostly of the revision that comes next.
    fn forge(&mut self) {
        let (_, revision) = self.store.state();
        let ahead = [1, 1, 2, 1_000_000][self.rng.place(4)];
        for process in 0..self.processes.len() {
            self.tell(process, Hint::Revision(Revision(revision.0 + ahead)));
        }
    }

    /// A row is deleted by hand: one that every process that runs has seen.
    fn vanish(&mut self) {
        let running = self.processes.iter().filter(|process| process.running);
        let seen = running.map(|process| process.looked_at).min().unwrap_or(0);
        let at = self.rng.place(8);
        self.store.vanish(seen.saturating_sub(3 * L / 2), at);
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        if let Fault::Start(process) = fault {
            return self.start_process(process);
        }
        if !self.faulty() {
            return;
        }
        let mean = match fault {
            Fault::Pause | Fault::Stall | Fault::ClockStep => L,
            Fault::Restart => 3 * L / 2,
            Fault::StoreCrash | Fault::Promotion => self.plan.store_pause,
            Fault::WriteBehind => self.plan.store_pause / 5,
            Fault::Forge => self.plan.forged_every.unwrap_or(L),
            Fault::LookoutDies => L / 2,
            Fault::Death => 2 * L,
            Fault::RowVanishes => 3 * L / 2,
            Fault::Start(_) => L,
        };
        let again = self.rng.between(mean / 2, 3 * mean / 2);
        self.after(again, Event::Nature(fault));
        let process = self.rng.place(self.processes.len());
        match fault {
            Fault::Pause => {
                let long = self.long();
                self.processes[process].pause(self.now, long, self.plan.is(Broken::ClockStops));
            }
            Fault::Stall => {
                let long = self.long();
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
                let lost = self.rng.place(4);
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
            Fault::LookoutDies => {
                let address = self.processes[process].address(process, Thread::Work);
                self.after(0, Event::At(address, Arrival::Die));
            }
            Fault::Death => self.kill(process),
            Fault::RowVanishes => self.vanish(),
            Fault::Start(_) => {}
        }
    }

    /// Of a pause: mostly about a lease, sometimes more.
    fn long(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => self.rng.between(0, L / 5),
            1 | 2 => self.rng.between(L / 2, 5 * L / 4),
            _ => self.rng.between(L, 3 * L),
        }
    }

    fn start_process(&mut self, at: usize) {
        let old = &self.processes[at];
        let (life, server) = (old.life + 1, old.server);
        self.processes[at] = Process::new(&self.plan, &mut self.rng, life, server);
        self.reconnect(at);
        let address = self.processes[at].address(at, Thread::Tail);
        let work = Address { thread: Thread::Work, ..address };
        self.after(0, Event::At(work, Arrival::Start));
        if server {
            self.after(0, Event::At(address, Arrival::Start));
            if self.plan.is(Broken::Heartbeat) {
                self.after(L / 6, Event::At(work, Arrival::Beat));
            }
        }
    }

    /// By kill -9, or in good order; another starts in its place.
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
            let tail = process.address(at, Thread::Tail);
            let work = process.address(at, Thread::Work);
            gone = L;
            self.after(0, Event::At(tail, Arrival::Stop));
            self.after(gone, Event::At(work, Arrival::Exit));
        }
        let pause = self.rng.below(L);
        self.after(gone + pause, Event::Nature(Fault::Start(at)));
    }

    /// By kill -9, and nothing starts in its place; one server stays.
    fn kill(&mut self, at: usize) {
        let servers = self.processes.iter().filter(|process| process.server && process.running);
        let process = &self.processes[at];
        if servers.count() > 1 && process.server && process.running && !process.stopping {
            self.end_process(at);
        }
    }

    /// Its connections break, and those who waited on one know that at once.
    pub(super) fn end_process(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.running = false;
        let commits = std::mem::take(&mut process.commits).into_values();
        let mut attempts: Vec<_> = commits.map(|(attempt, _)| attempt).collect();
        process.lookout.retain(|waiter| {
            attempts.push(waiter.0);
            false
        });
        for attempt in attempts {
            self.failed(attempt);
        }
    }
}
