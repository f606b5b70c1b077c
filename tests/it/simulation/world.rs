//! The world of a run: true time, the event queue, the processes, the network and the store. It handles one event at a
//! time, in an order that depends only on the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use sophic_auth::model::Revision;
use sophic_auth::store::{Hint, IncarnationId, Origin};

use super::checker::{Checker, Violation};
use super::client::Clients;
pub(super) use super::message::{Address, Event, Fault, Message, Reply, Statement, Thread};
use super::misrouted::located;
use super::plan::{END, FAULTS_END, L, MS, Omission, Plan, US};
use super::process::Process;
use super::rng::Rng;
use super::store::{Mutation, SLUGS, Store};

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
    /// The old primary, which lags behind as a standby.
    pub(super) demoted: Option<Store>,
    pub(super) store_down_until: u64,
    /// Number of times that every connection to the store broke.
    pub(super) connection: u32,
    pub(super) wall_offset: i64,
    /// Calls whose commit was lost in a promotion, so that their replies become failures.
    pub(super) lost: Vec<u64>,
    pub(super) processes: Vec<Process>,
    pub(super) clients: Clients,
    pub(super) checker: Checker,
}

impl World {
    pub(super) fn new(seed: u64, omission: Option<Omission>) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng, omission);
        // The first process is the command line, which answers nothing and makes changes.
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
            self.handle_event(*next.event);
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
            // Some servers join late.
            let late = if self.rng.in_thousand(250) { self.rng.below(3 * L) } else { 0 };
            self.after(late, Event::Fault(Fault::Start(process)));
            self.processes[process].running = false;
        }
        self.after(10 * MS, Event::Load { changes: true });
        self.after(20 * MS, Event::Load { changes: false });
        self.after(200 * MS, Event::Fault(Fault::WriteBehind));
        self.after(FAULTS_END + L, Event::Last);
        let start = self.processes[0].address(0, Thread::Work);
        self.after(0, Event::At(start, Message::Start));
        let plan = &self.plan;
        let faults = [
            (plan.forged_every.is_some(), Fault::Forge),
            (plan.monitor_panics, Fault::MonitorPanics),
            (plan.deaths, Fault::Death),
            (plan.vanishing, Fault::RowVanishes),
            (plan.pauses, Fault::Pause),
            (plan.stalls, Fault::Stall),
            (plan.restarts, Fault::Restart),
            (plan.store_crashes, Fault::StoreCrash),
            (plan.promotions, Fault::Promotion),
            (plan.clock_steps, Fault::ClockStep),
        ];
        for (enabled, fault) in faults {
            if enabled {
                let first = self.rng.below(2 * L);
                self.after(first, Event::Fault(fault));
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

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::At(address, message) => self.deliver(address, message),
            Event::AtStore { from, call, statement, connection } => {
                let refused = self.now < self.store_down_until || connection != self.connection;
                if refused {
                    self.reply(from, call, Reply::Failed);
                } else if self.is_misrouted(from, &statement) {
                    self.serve_from_standby(from, call, statement);
                } else {
                    self.serve(from, call, statement);
                }
            }
            Event::Fault(fault) => self.inject(fault),
            Event::Notify(incarnation, revision) => self.notify(&incarnation, revision),
            Event::Load { changes } => self.load(changes),
            Event::Late { operation, attempt } => self.give_up_attempt(operation, attempt),
            Event::Retry { operation } => self.attempt(operation),
            Event::Last => {
                self.demoted = None;
                // With the faults over, every running process must complete a call by itself.
                for process in 0..self.processes.len() {
                    if self.processes[process].running {
                        self.start_operation(
                            Mutation::PutWorkspace(0, process % SLUGS.len(), false),
                            Some(process),
                        );
                    }
                }
            }
        }
    }

    fn deliver(&mut self, address: Address, message: Message) {
        let process = &self.processes[address.process];
        if process.earlier_starts != address.earlier_starts || !process.running {
            if let Message::Mutate(attempt, _) = message {
                self.failed(attempt);
            }
            return;
        }
        let held = match address.thread {
            Thread::Follower => process.paused_until.max(process.stalled_until),
            Thread::Work => process.paused_until,
        };
        if held > self.now {
            // A message that arrives during a pause waits in the socket.
            self.after(held - self.now, Event::At(address, message));
            return;
        }
        let message = match message {
            Message::Reply(call, reply) => Message::Reply(call, self.admit(address, call, reply)),
            other => other,
        };
        if let Message::Reply(call, reply) = &message {
            if self.lost.contains(call) {
                return self.handle(address, Message::Reply(*call, Reply::Failed));
            }
            if matches!(reply, Reply::Committed(..)) {
                self.store.mark_confirmed(*call);
            }
        }
        self.handle(address, message);
    }

    fn handle(&mut self, address: Address, message: Message) {
        match address.thread {
            Thread::Follower => self.follower_message(address, message),
            Thread::Work => self.work(address, message),
        }
    }

    /// Sends a query and returns the number of the call.
    pub(super) fn call(&mut self, from: Address, statement: Statement) -> u64 {
        let call = self.fresh_number();
        self.call_as(call, from, statement);
        call
    }

    /// Sends a query under a call number that was reserved before.
    pub(super) fn call_as(&mut self, call: u64, from: Address, statement: Statement) {
        let process = &mut self.processes[from.process];
        process.floors.insert(call, process.lineage.floor());
        if self.rng.in_thousand(self.loss()) {
            return;
        }
        let delay = self.delay();
        let connection = self.connection;
        self.after(delay, Event::AtStore { from, call, statement, connection });
    }

    pub(super) fn reply(&mut self, to: Address, call: u64, reply: Reply) {
        if self.rng.in_thousand(self.loss()) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::At(to, Message::Reply(call, reply)));
    }

    pub(super) fn faults_are_on(&self) -> bool {
        self.now < FAULTS_END
    }

    fn loss(&self) -> u64 {
        if self.faults_are_on() { self.plan.loss } else { 0 }
    }

    fn delay(&mut self) -> u64 {
        if self.plan.slow && self.faults_are_on() && self.rng.in_thousand(self.plan.slow_ones) {
            return self.rng.below(3 * L / 2);
        }
        self.rng.between(100 * US, 700 * US)
    }

    pub(super) fn wall(&self) -> i64 {
        i64::try_from(self.now).expect("a few seconds") + self.wall_offset
    }

    fn serve(&mut self, from: Address, call: u64, statement: Statement) {
        let wall = self.wall();
        if !matches!(statement, Statement::Commit(_) | Statement::CommitAs(..)) {
            self.store.mark_all_confirmed();
        }
        let reply = match statement {
            Statement::Connect => Reply::Done,
            Statement::InsertRow(id) => {
                self.store.insert_row(id, self.now, wall);
                Reply::Done
            }
            Statement::State => {
                let (incarnation, revision) = self.store.state();
                Reply::State(incarnation, revision)
            }
            Statement::Sync(id, published) => Reply::Synced(self.store.sync(id, &published, wall)),
            Statement::Heartbeat(id) => {
                let seq = i64::try_from(call).expect("small") + (1 << 40);
                if self.store.heartbeat(id, seq) { Reply::Done } else { Reply::Failed }
            }
            Statement::EndRow(id) => {
                self.store.end_row(id);
                Reply::Ended
            }
            Statement::Replicas => {
                let (rows, over) = self.store.replicas(wall);
                Reply::Replicas(rows, over)
            }
            Statement::MarkEnded(id, seq) => Reply::MarkedEnded(self.store.mark_ended(id, seq)),
            Statement::LookUp(digest, workspace) => {
                Reply::LookedUp(self.store.look_up(&digest, workspace.as_deref()))
            }
            Statement::Commit(mutation) if self.plan.omits(Omission::Sequence) => {
                let drawn = self.store.draw();
                let delay = self.rng.below(10 * MS);
                let connection = self.connection;
                let statement = Statement::CommitAs(mutation, drawn);
                return self.after(delay, Event::AtStore { from, call, statement, connection });
            }
            Statement::Commit(mutation) => self.commit(mutation, call, None),
            Statement::CommitAs(mutation, drawn) => self.commit(mutation, call, Some(drawn)),
        };
        let reply = located(Origin::Primary(self.store.incarnation()), reply);
        self.reply(from, call, reply);
    }

    fn commit(&mut self, mutation: Mutation, call: u64, drawn: Option<u64>) -> Reply {
        let (revision, version, changed) = self.store.commit(mutation, call, drawn);
        if changed {
            let delay = self.rng.below(500 * US);
            self.after(delay, Event::Notify(self.store.incarnation_id(), revision));
        }
        Reply::Committed(revision, version, changed)
    }

    /// Delivers a NOTIFY, which is only a hint: it may be lost, late, or arrive twice.
    fn notify(&mut self, incarnation: &IncarnationId, revision: Revision) {
        if *incarnation != self.store.incarnation_id() {
            return;
        }
        self.store.mark_all_confirmed();
        for process in 0..self.processes.len() {
            let times = if self.rng.in_thousand(self.plan.notify_loss) {
                0
            } else if self.rng.in_thousand(50) {
                2
            } else {
                1
            };
            for _ in 0..times {
                self.send_hint(process, Hint::Revision(revision));
            }
        }
    }

    pub(super) fn send_hint(&mut self, process: usize, hint: Hint) {
        let address = self.processes[process].address(process, Thread::Follower);
        let delay = self.delay();
        self.after(delay, Event::At(address, Message::Notified(hint)));
    }

    /// With the faults over, checks that every operation has ended and that every server answers from memory.
    fn check_recovery(&mut self) {
        let late = self.clients.operations.len();
        if late > 0 {
            self.checker.fail(self.now, format!("{late} operations never ended"));
        }
        for (at, process) in self.processes.iter().enumerate() {
            if process.server && process.running && !process.is_current(self.now) {
                self.checker.fail(self.now, format!("process {at} has not recovered"));
            }
        }
    }
}

/// A map by the number of a query.
pub(super) type ByCall<T> = BTreeMap<u64, T>;
