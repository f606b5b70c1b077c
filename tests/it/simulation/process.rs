//! A process: its clock, and the parts that `server::replica` assembles.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::cache::{
    ChangeApplier, ChangeBuffer, Follower, Lease, LocalReplica, Mirror, ReadKey, Reader,
    ReplicaMonitor,
};
use sophic_auth::model::Revision;
use sophic_auth::store::{Floor, Hint, IncarnationId, Lineage, Replicas};

use super::follow::FollowerState;
use super::plan::{L, LEASE, Omission, Plan};
use super::read::StoreRead;
use super::rng::Rng;
use super::store::Mutation;
use super::wait::{MonitorState, Waiter};
use super::world::{Address, ByCall, Thread};

/// The key of a fill.
pub(super) type Key = ReadKey;

pub(super) struct Process {
    /// Number of times that the process was started before.
    pub(super) earlier_starts: u32,
    pub(super) running: bool,
    pub(super) stopping: bool,
    /// Whether it is a server. The command line is not.
    pub(super) server: bool,
    pub(super) paused_until: u64,
    pub(super) stalled_until: u64,
    clock: Clock,
    // The parts that `server::replica` creates.
    pub(super) mirror: Arc<Mirror>,
    pub(super) lease: Arc<Lease>,
    pub(super) change_buffer: Arc<ChangeBuffer>,
    pub(super) local: Arc<LocalReplica>,
    // The three state machines, and what their drivers wait for.
    pub(super) follower: Follower,
    pub(super) follower_state: FollowerState,
    pub(super) reader: Reader<u64>,
    pub(super) reads: ByCall<StoreRead>,
    pub(super) monitor: ReplicaMonitor<Waiter>,
    pub(super) monitor_state: MonitorState,
    /// A request to sync, and the notifications, that arrived while the follower was not waiting.
    pub(super) sync_requested: bool,
    pub(super) inbox: Vec<Hint>,
    /// The applied revision at the last check, and its incarnation.
    pub(super) applied: Option<(IncarnationId, Revision)>,
    pub(super) commits: ByCall<(u64, Mutation)>,
    /// What the process has seen of the store, and what that was when each query was sent.
    pub(super) lineage: Lineage,
    pub(super) floors: ByCall<Floor>,
    /// For each pool, whether its connections lead to the old primary.
    pub(super) misrouted: [bool; 3],
    /// When the rows were last read.
    pub(super) rows_read_at: u64,
    /// For omissions: the last rows, and a time that is too early.
    pub(super) rows: Option<(u64, Replicas)>,
    pub(super) distorted_now: Option<Duration>,
    /// The heartbeat of an omission: its call, and when it was sent.
    pub(super) heartbeat: Option<(u64, Duration)>,
}

struct Clock {
    offset: u64,
    parts_in_million: i64,
    /// Time that a clock has missed because it stops while the machine is suspended.
    missed: u64,
}

impl Process {
    pub(super) fn new(plan: &Plan, rng: &mut Rng, earlier_starts: u32, server: bool) -> Self {
        let drift = plan.drift;
        let fast = i64::try_from(rng.below(2 * drift + 1)).expect("small");
        let clock = Clock {
            offset: rng.below(1_000 * L),
            parts_in_million: fast - i64::try_from(drift).expect("small"),
            missed: 0,
        };
        let (mirror, lease) = (Arc::new(Mirror::new(1 << 20)), Arc::new(Lease::new(LEASE)));
        let change_buffer = Arc::new(ChangeBuffer::default());
        let local = Arc::new(LocalReplica::new(Arc::clone(&mirror)));
        let reader = Reader::new(Arc::clone(&mirror), Arc::clone(&lease));
        let never = plan.omits(Omission::NoDetach) || plan.omits(Omission::LateDetach);
        let reads = reader.reads_in_flight().clone();
        let detach = move || {
            if !never {
                reads.detach_all();
            }
        };
        let applier = ChangeApplier::new(
            Arc::clone(&mirror),
            Arc::clone(&lease),
            Arc::clone(&change_buffer),
            detach,
        );
        Self {
            earlier_starts,
            running: true,
            stopping: false,
            server,
            paused_until: 0,
            stalled_until: 0,
            clock,
            follower: Follower::new(applier, Arc::clone(&local), LEASE),
            follower_state: FollowerState::Nothing,
            reader,
            reads: ByCall::new(),
            monitor: ReplicaMonitor::default(),
            monitor_state: MonitorState::Dead(0),
            mirror,
            lease,
            change_buffer,
            local,
            sync_requested: false,
            inbox: Vec::new(),
            applied: None,
            commits: ByCall::new(),
            lineage: Lineage::default(),
            floors: ByCall::new(),
            misrouted: [false; 3],
            rows_read_at: 0,
            rows: None,
            distorted_now: None,
            heartbeat: None,
        }
    }

    pub(super) const fn address(&self, process: usize, thread: Thread) -> Address {
        Address { process, earlier_starts: self.earlier_starts, thread }
    }

    /// The time since boot on the clock of this process.
    pub(super) fn boot(&self, now: u64) -> Duration {
        let passed = i128::from(now - self.clock.missed);
        let drifted = passed * i128::from(1_000_000 + self.clock.parts_in_million) / 1_000_000;
        Duration::from_nanos(self.clock.offset + u64::try_from(drifted).expect("a few seconds"))
    }

    /// Whether it answers from memory.
    pub(super) fn is_current(&self, now: u64) -> bool {
        self.lease.held_since(self.lease.snapshot(), self.boot(now))
    }

    /// Suspends the machine or stops the process: nothing runs, and time passes.
    pub(super) fn pause(&mut self, now: u64, long: u64, clock_stops: bool) {
        let until = self.paused_until.max(now + long);
        if clock_stops {
            self.clock.missed += until - self.paused_until.max(now);
        }
        self.paused_until = until;
    }
}
