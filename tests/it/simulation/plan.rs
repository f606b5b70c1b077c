//! What happens in a run: drawn from its seed, so that each seed has faults of its own; and which safeguard, if any, is
//! left out in it.

use std::time::Duration;

use super::rng::Rng;

/// The lease of every replica.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// The same, in the time of the run: nanoseconds.
pub(super) const L: u64 = 1_000_000_000;
pub(super) const MS: u64 = 1_000_000;
pub(super) const US: u64 = 1_000;
/// Faults come until then; and then there is time for everything to recover.
pub(super) const FAULTS_END: u64 = 6 * L;
pub(super) const END: u64 = 13 * L;

/// A safeguard that is left out, to see that the checker bites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Omission {
    /// Revoke returns when it has committed.
    NoWait,
    /// A fill is kept without asking whether it is behind what was applied.
    FillUnchecked,
    /// Fills that were begun before a change are let go only after the acknowledgement.
    LateDetach,
    /// They are never let go.
    NoDetach,
    /// A fill under way may be joined after the lease.
    JoinedWithoutLease,
    /// The lease is extended by a heartbeat beside the tail.
    Heartbeat,
    /// A replica is given up when the database's clock is past the time in its row.
    DatabaseClock,
    /// State is read, and believed, before the row is there.
    StateReadBeforeRow,
    /// A call that finds the state as asked returns at once.
    RetryAtOnce,
    /// A deletion that finds nothing to delete returns at once.
    NotFoundAtOnce,
    /// The lease counts from the reply.
    LeaseFromReply,
    /// The lease counts on a clock that stops while the machine is suspended.
    ClockStops,
    /// A replica that lags is given up at first sight.
    GivenUpAtOnce,
    /// A row stands still since before it was read.
    ObservedBeforeRead,
    /// Numbers are drawn when a transaction begins.
    Sequence,
    /// Another life of the store goes unnoticed.
    IncarnationIgnored,
    /// What was applied in another life counts as an acknowledgement in this one.
    AcknowledgedInAnotherIncarnation,
    /// The store counts syncs, and may count the same again after a crash.
    StoreCounts,
    /// A crash may lose any sync.
    NondurableSyncs,
    /// A wait is judged by rows that were read before it began.
    ReleasedByEarlierRows,
    /// What a notification says is taken for applied.
    HintTakenForApplied,
    /// What was seen of the rows is forgotten when nobody waits any more.
    ObservationsForgotten,
    /// The task that looks at the rows is not started again.
    MonitorNotRestarted,
    /// What a standby says is believed.
    StandbyTrusted,
    /// The row of a replica that vanished without a mark is taken for one that left.
    VanishedRowIgnored,
    /// What was read under a lease that ran out is believed under the next.
    CheckedAgainstLaterLease,
    /// A replica takes leave while its lease holds, and goes on answering.
    LeaseOutlivesRow,
}

/// The faults of a run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) omission: Option<Omission>,
    /// Processes beside the command line's.
    pub(super) servers: usize,
    /// Clocks run fast or slow by up to so many parts in a million.
    pub(super) drift: u64,
    /// Machines are suspended or processes stopped, for up to three leases.
    pub(super) pauses: bool,
    /// Only the tail's thread hangs.
    pub(super) stalls: bool,
    /// Reads of the store take up to two leases now and then.
    pub(super) slow: bool,
    /// How many of them, in a thousand.
    pub(super) slow_ones: u64,
    /// Requests and replies that are lost, in a thousand.
    pub(super) loss: u64,
    /// Notifications that are lost, in a thousand.
    pub(super) notify_loss: u64,
    /// Processes crash, start and stop.
    pub(super) restarts: bool,
    /// The store crashes, and forgets what it need not keep.
    pub(super) store_crashes: bool,
    /// How long between two such, and between two writes of what is not yet on disk.
    pub(super) store_pause: u64,
    /// A standby is promoted: what nobody was told of may be lost.
    pub(super) promotions: bool,
    /// After that, the server that was the primary lags behind at the same address as a standby, and connections lead
    /// there too.
    pub(super) demotions: bool,
    /// The database's clock of the wall is set.
    pub(super) clock_steps: bool,
    /// How long a client waits for a Revoke before it tries again, here or elsewhere.
    pub(super) deadline: u64,
    /// Whether it waits longer each time.
    pub(super) more_patient: bool,
    /// Notifications are forged: one in so much time.
    pub(super) forged_every: Option<u64>,
    /// The task that looks at the replicas panics now and then.
    pub(super) monitor_panics: bool,
    /// A process dies for good.
    pub(super) deaths: bool,
    /// Rows of replicas are deleted by hand.
    pub(super) vanishing: bool,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng, omission: Option<Omission>) -> Self {
        let mut often = |times| rng.in_thousand(times);
        let (pauses, stalls, slow) = (often(600), often(500), often(500));
        let (restarts, store_crashes) = (often(500), often(350));
        let (promotions, clock_steps) = (often(300), often(500));
        let demotions = promotions && often(600);
        let (more_patient, monitor_panics, deaths) = (often(600), often(300), often(250));
        // Only a process that has looked before the row vanished can know of it.
        let vanishing = often(200) && !restarts && !store_crashes && !promotions;
        Self {
            omission,
            servers: 2 + rng.index(4),
            drift: [0, 500, 10_000, 15_000][rng.index(4)],
            pauses,
            stalls,
            slow,
            slow_ones: [10, 20, 60][rng.index(3)],
            store_pause: [L, 3 * L][rng.index(2)],
            loss: [0, 0, 2, 20][rng.index(4)],
            notify_loss: [0, 100, 1_000][rng.index(3)],
            restarts,
            store_crashes,
            promotions,
            demotions,
            clock_steps,
            deadline: [L / 10, L / 2, 2 * L, 4 * L][rng.index(4)],
            more_patient,
            forged_every: [None, None, Some(20 * MS), Some(MS)][rng.index(4)],
            monitor_panics,
            deaths: deaths && !vanishing,
            vanishing,
        }
    }

    /// Whether a safeguard is left out.
    pub(super) fn omits(&self, omission: Omission) -> bool {
        self.omission == Some(omission)
    }
}
