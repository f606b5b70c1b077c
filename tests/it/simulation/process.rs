//! A process: its clock, and the parts that `server::replica` puts together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sophic_auth::cache::{Hub, Lease, Mirror, Standstill, Tail};
use sophic_auth::model::{Digest, ReplicaId, Revision};
use sophic_auth::store::{Change, Incarnation};

use super::barrier::{Polling, Waiter};
use super::cached::Fill;
use super::plan::{Broken, L, LEASE, MS, Plan};
use super::replica::TailAt;
use super::rng::Rng;
use super::world::{Address, Thread, Under};

/// What one fill is for.
pub(super) type Key = (Digest, Option<String>);
/// The fills that may be joined, by number.
pub(super) type Board = Arc<Mutex<HashMap<Key, u64>>>;

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
    // What server::replica makes.
    pub(super) mirror: Arc<Mirror>,
    pub(super) lease: Arc<Lease>,
    pub(super) hub: Arc<Hub>,
    pub(super) tail: Tail,
    // cache::replica.
    pub(super) tail_at: TailAt,
    pub(super) row: Option<(ReplicaId, Incarnation)>,
    pub(super) prompted: bool,
    /// Notified while it did not listen.
    pub(super) heard: Vec<(Incarnation, Change)>,
    /// What was applied when it was last looked at, and in which life.
    pub(super) applied: Option<(Incarnation, Revision)>,
    // cache::cached.
    pub(super) board: Board,
    pub(super) fills: Under<Fill>,
    // cache::barrier, and the service above it.
    pub(super) commits: Under<(u64, bool)>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) polling: Polling,
    pub(super) standstill: Standstill,
    pub(super) poll_pause: u64,
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
        let board = Board::default();
        let shared = Arc::clone(&board);
        let never = plan.is(Broken::NoDetach) || plan.is(Broken::DetachedTooLate);
        let detach = move || {
            if !never {
                shared.lock().expect("one thread").clear();
            }
        };
        Self {
            life,
            running: true,
            stopping: false,
            server,
            paused_until: 0,
            stalled_until: 0,
            clock,
            tail: Tail::new(Arc::clone(&mirror), Arc::clone(&lease), Arc::clone(&hub), detach),
            mirror,
            lease,
            hub,
            tail_at: TailAt::Stopped,
            row: None,
            prompted: false,
            heard: Vec::new(),
            applied: None,
            board,
            fills: Under::new(),
            commits: Under::new(),
            waiters: Vec::new(),
            polling: Polling::Idle,
            standstill: Standstill::default(),
            poll_pause: MS / 2,
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
