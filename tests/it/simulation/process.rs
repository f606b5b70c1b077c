//! A process: its clock, and the parts that `server::replica` puts together.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::cache::{Follower, Hub, Lease, Local, Lookout, Mirror, ReadKey, Reader, Tail};
use sophic_auth::model::Revision;
use sophic_auth::store::{Floor, Hint, IncarnationId, Lineage, Replicas};

use super::follow::Doing;
use super::plan::{Broken, L, LEASE, Plan};
use super::read::Flight;
use super::rng::Rng;
use super::store::Wanted;
use super::wait::{Looking, Waiter};
use super::world::{Address, Thread, Under};

/// What one fill is for.
pub(super) type Key = ReadKey;

pub(super) struct Process {
    /// Counts its starts.
    pub(super) life: u32,
    pub(super) running: bool,
    pub(super) stopping: bool,
    /// The command line is none.
    pub(super) server: bool,
    pub(super) paused_until: u64,
    pub(super) stalled_until: u64,
    clock: Clock,
    // What `server::replica` makes.
    pub(super) mirror: Arc<Mirror>,
    pub(super) lease: Arc<Lease>,
    pub(super) hub: Arc<Hub>,
    pub(super) local: Arc<Local>,
    // The three state machines, and what their drivers wait for.
    pub(super) follower: Follower,
    pub(super) doing: Doing,
    pub(super) reader: Reader<u64>,
    pub(super) flights: Under<Flight>,
    pub(super) lookout: Lookout<Waiter>,
    pub(super) looking: Looking,
    /// Prompted, and notified, while it did not listen.
    pub(super) prompted: bool,
    pub(super) inbox: Vec<Hint>,
    /// What was applied when it was last looked at, and in which life.
    pub(super) applied: Option<(IncarnationId, Revision)>,
    pub(super) commits: Under<(u64, Wanted)>,
    /// What it has seen of the store, and what that was when each query was sent.
    pub(super) lineage: Lineage,
    pub(super) floors: Under<Floor>,
    /// Whether the connections of each pool lead to a server that is the primary no more.
    pub(super) astray: [bool; 3],
    /// When the rows were last read.
    pub(super) looked_at: u64,
    /// For safeguards that are left out: the rows that were read last, and a time that is too early.
    pub(super) rows: Option<(u64, Replicas)>,
    pub(super) misjudges_at: Option<Duration>,
    /// The heartbeat beside the tail: its call, and when it was sent.
    pub(super) beat: Option<(u64, Duration)>,
}

struct Clock {
    offset: u64,
    parts_in_million: i64,
    /// For one that stops while the machine is suspended.
    missed: u64,
}

impl Process {
    pub(super) fn new(plan: &Plan, rng: &mut Rng, life: u32, server: bool) -> Self {
        let drift = plan.drift;
        let fast = i64::try_from(rng.below(2 * drift + 1)).expect("small");
        let clock = Clock {
            offset: rng.below(1_000 * L),
            parts_in_million: fast - i64::try_from(drift).expect("small"),
            missed: 0,
        };
        let (mirror, lease) = (Arc::new(Mirror::new(1 << 20)), Arc::new(Lease::new(LEASE)));
        let hub = Arc::new(Hub::default());
        let local = Arc::new(Local::new(Arc::clone(&mirror)));
        let reader = Reader::new(Arc::clone(&mirror), Arc::clone(&lease));
        let never = plan.is(Broken::NoDetach) || plan.is(Broken::DetachedTooLate);
        let board = reader.board().clone();
        let detach = move || {
            if !never {
                board.detach();
            }
        };
        let tail = Tail::new(Arc::clone(&mirror), Arc::clone(&lease), Arc::clone(&hub), detach);
        Self {
            life,
            running: true,
            stopping: false,
            server,
            paused_until: 0,
            stalled_until: 0,
            clock,
            follower: Follower::new(tail, Arc::clone(&local), LEASE),
            doing: Doing::Nothing,
            reader,
            flights: Under::new(),
            lookout: Lookout::default(),
            looking: Looking::Dead(0),
            mirror,
            lease,
            hub,
            local,
            prompted: false,
            inbox: Vec::new(),
            applied: None,
            commits: Under::new(),
            lineage: Lineage::default(),
            floors: Under::new(),
            astray: [false; 3],
            looked_at: 0,
            rows: None,
            misjudges_at: None,
            beat: None,
        }
    }

    pub(super) const fn address(&self, process: usize, thread: Thread) -> Address {
        Address { process, life: self.life, thread }
    }

    /// What its clock says of the time since boot.
    pub(super) fn boot(&self, now: u64) -> Duration {
        let passed = i128::from(now - self.clock.missed);
        let drifted = passed * i128::from(1_000_000 + self.clock.parts_in_million) / 1_000_000;
        Duration::from_nanos(self.clock.offset + u64::try_from(drifted).expect("a few seconds"))
    }

    /// Whether it answers from memory.
    pub(super) fn is_current(&self, now: u64) -> bool {
        self.lease.has_held(self.lease.term(), self.boot(now))
    }

    /// Suspended, or stopped: nothing runs, and time goes on.
    pub(super) fn pause(&mut self, now: u64, long: u64, clock_stops: bool) {
        let until = self.paused_until.max(now + long);
        if clock_stops {
            self.clock.missed += until - self.paused_until.max(now);
        }
        self.paused_until = until;
    }
}
