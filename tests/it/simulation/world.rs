//! The world of a run: true time, what is to happen next, processes, the network and the store. One event at a time, in
//! an order that the seed alone decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use sophic_auth::model::Revision;
use sophic_auth::store::{Hint, IncarnationId, Origin};

use super::astray::with_origin;
use super::checker::{Checker, Violation};
use super::client::Clients;
pub(super) use super::message::{Address, Arrival, Event, Fault, Query, Reply, Thread};
use super::plan::{Broken, END, FAULTS_END, L, MS, Plan, US};
use super::process::Process;
use super::rng::Rng;
use super::store::{SLUGS, Store, Wanted};

struct Scheduled {
    at: u64,
    number: u64,
    event: Box<Event>,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    number: u64,
    pub(super) store: Store,
    /// What was the primary before, and lags behind as a standby.
    pub(super) demoted: Option<Store>,
    pub(super) store_down_until: u64,
    /// Counts the times at which every connection to the store broke.
    pub(super) connection: u32,
    pub(super) wall_offset: i64,
    /// Replies that say less than happened: the commit was lost in a promotion.
    pub(super) lost: Vec<u64>,
    pub(super) processes: Vec<Process>,
    pub(super) clients: Clients,
    pub(super) checker: Checker,
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<Broken>) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng, broken);
        // The first is the command line: it answers nothing, and revokes.
        let processes = (0..=plan.servers).map(|at| Process::new(&plan, &mut rng, 0, at > 0));
        let processes = processes.collect();
        Self {
            checker: Checker::new(plan.promotions),
            store: Store::new(&plan),
            demoted: None,
            plan,
            rng,
            now: L,
            queue: BinaryHeap::new(),
            number: 0,
            store_down_until: 0,
            connection: 0,
            wall_offset: 0,
            lost: Vec::new(),
            processes,
            clients: Clients::default(),
        }
    }

    /// Runs to the end, or to the first violation.
    pub(super) fn run(mut self) -> Result<Checker, Violation> {
        self.begin();
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > END {
                break;
            }
            self.now = next.at;
            self.happen(*next.event);
            if let Some(violation) = self.checker.violation.take() {
                return Err(violation);
            }
        }
        self.check_recovery();
        match self.checker.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(self.checker),
        }
    }

    fn begin(&mut self) {
        for process in 1..self.processes.len() {
            // Some join late.
            let late = if self.rng.in_thousand(250) { self.rng.below(3 * L) } else { 0 };
            self.after(late, Event::Nature(Fault::Start(process)));
            self.processes[process].running = false;
        }
        self.after(10 * MS, Event::Load { changes: true });
        self.after(20 * MS, Event::Load { changes: false });
        self.after(200 * MS, Event::Nature(Fault::WriteBehind));
        self.after(FAULTS_END + L, Event::Last);
        let start = self.processes[0].address(0, Thread::Work);
        self.after(0, Event::At(start, Arrival::Start));
        let plan = &self.plan;
        let faults = [
            (plan.forged_every.is_some(), Fault::Forge),
            (plan.lookout_dies, Fault::LookoutDies),
            (plan.deaths, Fault::Death),
            (plan.vanishing, Fault::RowVanishes),
            (plan.pauses, Fault::Pause),
            (plan.stalls, Fault::Stall),
            (plan.restarts, Fault::Restart),
            (plan.store_crashes, Fault::StoreCrash),
            (plan.promotions, Fault::Promotion),
            (plan.steps, Fault::ClockStep),
        ];
        for (wanted, fault) in faults {
            if wanted {
                let first = self.rng.below(2 * L);
                self.after(first, Event::Nature(fault));
            }
        }
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.number += 1;
        let (at, number) = (self.now + delay, self.number);
        self.queue.push(Reverse(Scheduled { at, number, event: Box::new(event) }));
    }

    pub(super) fn fresh_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::At(address, arrival) => self.arrive(address, arrival),
            Event::AtStore { from, call, query, connection } => {
                let refused = self.now < self.store_down_until || connection != self.connection;
                if refused {
                    self.reply(from, call, Reply::Failed);
                } else if self.is_astray(from, &query) {
                    self.serve_astray(from, call, query);
                } else {
                    self.serve(from, call, query);
                }
            }
            Event::Nature(fault) => self.strike(fault),
            Event::Notify(incarnation, revision) => self.notify(&incarnation, revision),
            Event::Load { changes } => self.load(changes),
            Event::Late { operation, attempt } => self.give_up_attempt(operation, attempt),
            Event::Retry { operation } => self.attempt(operation),
            Event::Last => {
                self.demoted = None;
                // With the faults over, every process that runs brings a call to its end by itself.
                for process in 0..self.processes.len() {
                    if self.processes[process].running {
                        self.want(
                            Wanted::PutWorkspace(0, process % SLUGS.len(), false),
                            Some(process),
                        );
                    }
                }
            }
        }
    }

    fn arrive(&mut self, address: Address, arrival: Arrival) {
        let process = &self.processes[address.process];
        if process.life != address.life || !process.running {
            if let Arrival::Operate(attempt, _) = arrival {
                self.failed(attempt);
            }
            return;
        }
        let held = match address.thread {
            Thread::Tail => process.paused_until.max(process.stalled_until),
            Thread::Work => process.paused_until,
        };
        if held > self.now {
            // What has arrived meanwhile is found in its socket.
            self.after(held - self.now, Event::At(address, arrival));
            return;
        }
        let arrival = match arrival {
            Arrival::Reply(call, reply) => Arrival::Reply(call, self.admit(address, call, reply)),
            other => other,
        };
        if let Arrival::Reply(call, reply) = &arrival {
            if self.lost.contains(call) {
                return self.handle(address, Arrival::Reply(*call, Reply::Failed));
            }
            if matches!(reply, Reply::Committed(..)) {
                self.store.told(*call);
            }
        }
        self.handle(address, arrival);
    }

    fn handle(&mut self, address: Address, arrival: Arrival) {
        match address.thread {
            Thread::Tail => self.tail(address, arrival),
            Thread::Work => self.work(address, arrival),
        }
    }

    /// Sends a query; the number by which its reply will be known.
    pub(super) fn call(&mut self, from: Address, query: Query) -> u64 {
        let call = self.fresh_number();
        self.call_as(call, from, query);
        call
    }

    /// As that, with a number that was taken before.
    pub(super) fn call_as(&mut self, call: u64, from: Address, query: Query) {
        let process = &mut self.processes[from.process];
        process.floors.insert(call, process.lineage.floor());
        if self.rng.in_thousand(self.loss()) {
            return;
        }
        let delay = self.delay();
        let connection = self.connection;
        self.after(delay, Event::AtStore { from, call, query, connection });
    }

    pub(super) fn reply(&mut self, to: Address, call: u64, reply: Reply) {
        if self.rng.in_thousand(self.loss()) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::At(to, Arrival::Reply(call, reply)));
    }

    pub(super) fn faulty(&self) -> bool {
        self.now < FAULTS_END
    }

    fn loss(&self) -> u64 {
        if self.faulty() { self.plan.loss } else { 0 }
    }

    fn delay(&mut self) -> u64 {
        if self.plan.slow && self.faulty() && self.rng.in_thousand(self.plan.slow_ones) {
            return self.rng.below(3 * L / 2);
        }
        self.rng.between(100 * US, 700 * US)
    }

    pub(super) fn wall(&self) -> i64 {
        i64::try_from(self.now).expect("a few seconds") + self.wall_offset
    }

    fn serve(&mut self, from: Address, call: u64, query: Query) {
        let wall = self.wall();
        if !matches!(query, Query::Commit(_) | Query::CommitAs(..)) {
            self.store.seen();
        }
        let reply = match query {
            Query::Connect => Reply::Done,
            Query::InsertRow(id) => {
                self.store.insert_row(id, self.now, wall);
                Reply::Done
            }
            Query::State => {
                let (incarnation, revision) = self.store.state();
                Reply::State(incarnation, revision)
            }
            Query::Sync(id, published) => Reply::Synced(self.store.sync(id, &published, wall)),
            Query::Beat(id) => {
                let seq = i64::try_from(call).expect("small") + (1 << 40);
                if self.store.beat(id, seq) { Reply::Done } else { Reply::Failed }
            }
            Query::EndRow(id) => {
                self.store.end_row(id);
                Reply::Ended
            }
            Query::Replicas => {
                let (rows, over) = self.store.replicas(wall);
                Reply::Replicas(rows, over)
            }
            Query::Fence(id, seq) => Reply::Fenced(self.store.fence(id, seq)),
            Query::LookUp(digest, workspace) => {
                Reply::LookedUp(self.store.look_up(&digest, workspace.as_deref()))
            }
            Query::Commit(wanted) if self.plan.is(Broken::Sequence) => {
                let drawn = self.store.draw();
                let delay = self.rng.below(10 * MS);
                let connection = self.connection;
                let query = Query::CommitAs(wanted, drawn);
                return self.after(delay, Event::AtStore { from, call, query, connection });
            }
            Query::Commit(wanted) => self.commit(wanted, call, None),
            Query::CommitAs(wanted, drawn) => self.commit(wanted, call, Some(drawn)),
        };
        let reply = with_origin(Origin::Primary(self.store.incarnation()), reply);
        self.reply(from, call, reply);
    }

    fn commit(&mut self, wanted: Wanted, call: u64, drawn: Option<u64>) -> Reply {
        let (revision, version, changed) = self.store.commit(wanted, call, drawn);
        if changed {
            let delay = self.rng.below(500 * US);
            self.after(delay, Event::Notify(self.store.incarnation_id(), revision));
        }
        Reply::Committed(revision, version, changed)
    }

    /// NOTIFY is only a hint: it may be lost, late, or come twice.
    fn notify(&mut self, incarnation: &IncarnationId, revision: Revision) {
        if *incarnation != self.store.incarnation_id() {
            return;
        }
        self.store.seen();
        for process in 0..self.processes.len() {
            let times = if self.rng.in_thousand(self.plan.notify_loss) {
                0
            } else if self.rng.in_thousand(50) {
                2
            } else {
                1
            };
            for _ in 0..times {
                self.tell(process, Hint::Revision(revision));
            }
        }
    }

    pub(super) fn tell(&mut self, process: usize, hint: Hint) {
        let address = self.processes[process].address(process, Thread::Tail);
        let delay = self.delay();
        self.after(delay, Event::At(address, Arrival::Heard(hint)));
    }

    /// With the faults over, everything has come to its end, and every server answers from memory.
    fn check_recovery(&mut self) {
        let late = self.clients.operations.len();
        if late > 0 {
            self.checker.fail(self.now, format!("{late} operations never came to an end"));
        }
        for (at, process) in self.processes.iter().enumerate() {
            if process.server && process.running && !process.is_current(self.now) {
                self.checker.fail(self.now, format!("process {at} has not come back"));
            }
        }
    }
}

/// By the number of a query.
pub(super) type Under<T> = BTreeMap<u64, T>;
