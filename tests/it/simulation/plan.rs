//! The plan of a run, drawn from its seed: which faults happen, and which safeguard, if any, is left out.

use std::time::Duration;

use super::rng::Rng;

/// The lease of every replica.
pub(super) const LEASE: Duration = Duration::from_secs(1);
/// The lease in simulated time, which is in nanoseconds.
pub(super) const L: u64 = 1_000_000_000;
pub(super) const MS: u64 = 1_000_000;
pub(super) const US: u64 = 1_000;
/// End of the faults. Everything has until [`END`] to recover.
pub(super) const FAULTS_END: u64 = 6 * L;
pub(super) const END: u64 = 13 * L;

/// A safeguard that is left out, to show that the checker notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Omission {
    /// Revoke returns when it has committed.
    NoWait,
    /// A fill is kept without checking whether it is older than what is applied.
    FillUnchecked,
    /// Fills that began before a change are detached only after the acknowledgement.
    LateDetach,
    /// Fills are never detached.
    NoDetach,
    /// A fill in flight may be joined after the lease has ended.
    JoinedWithoutLease,
    /// A separate heartbeat extends the lease, apart from the syncs.
    Heartbeat,
    /// A replica is given up when the clock of the database is past the time in its row.
    DatabaseClock,
    /// State is read, and trusted, before the row is committed.
    StateReadBeforeRow,
    /// A call that finds nothing to change returns at once.
    RetryAtOnce,
    /// A deletion that finds nothing to delete returns at once.
    NotFoundAtOnce,
    /// The lease counts from the reply to a sync.
    LeaseFromReply,
    /// The lease uses a clock that stops while the machine is suspended.
    ClockStops,
    /// A replica that lags is given up at once.
    GivenUpAtOnce,
    /// A row counts as standing still from before it was read.
    ObservedBeforeRead,
    /// Revisions are drawn when a transaction begins.
    Sequence,
    /// Another incarnation of the store is not noticed.
    IncarnationIgnored,
    /// A revision applied in another incarnation counts as an acknowledgement.
    AcknowledgedInAnotherIncarnation,
    /// The store numbers the syncs, and may repeat a number after a crash.
    StoreCounts,
    /// A crash may lose any sync.
    NondurableSyncs,
    /// A wait is checked against rows that were read before it began.
    ReleasedByEarlierRows,
    /// The revision in a notification counts as applied.
    HintTakenForApplied,
    /// The observations of the rows are forgotten when no call waits.
    ObservationsForgotten,
    /// The monitoring task is not restarted after a panic.
    MonitorNotRestarted,
    /// The replies of a standby are trusted.
    StandbyTrusted,
    /// A row that vanished without a mark counts as that of a replica that has left.
    VanishedRowIgnored,
    /// An answer read under a lease that ran out is trusted because of the next lease.
    CheckedAgainstLaterLease,
    /// A replica marks its row as ended while its lease holds, and keeps answering.
    LeaseOutlivesRow,
}

/// The faults of a run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) omission: Option<Omission>,
    /// Number of servers. The command line is one process more.
    pub(super) servers: usize,
    /// Largest drift of a clock, fast or slow, in parts per million.
    pub(super) drift: u64,
    /// Machines are suspended, or processes stopped, for up to three leases.
    pub(super) pauses: bool,
    /// The follower's thread alone hangs.
    pub(super) stalls: bool,
    /// Some messages to and from the store take up to one and a half leases.
    pub(super) slow: bool,
    /// How many of them, per thousand.
    pub(super) slow_ones: u64,
    /// Requests and replies that are lost, per thousand.
    pub(super) loss: u64,
    /// Notifications that are lost, per thousand.
    pub(super) notify_loss: u64,
    /// Processes crash, stop and start.
    pub(super) restarts: bool,
    /// The store crashes and loses what is not durable.
    pub(super) store_crashes: bool,
    /// Mean interval between two crashes. Rows are written to disk five times as often.
    pub(super) store_pause: u64,
    /// A standby is promoted. Commits that no client has seen may be lost.
    pub(super) promotions: bool,
    /// After a promotion, the old primary lags at the same address as a standby, and connections lead there too.
    pub(super) demotions: bool,
    /// The wall clock of the database is set.
    pub(super) clock_steps: bool,
    /// How long a client waits for a Revoke before it tries again, at the same server or another.
    pub(super) deadline: u64,
    /// Whether the client waits longer each time.
    pub(super) more_patient: bool,
    /// Mean interval between forged notifications.
    pub(super) forged_every: Option<u64>,
    /// The monitoring task panics now and then.
    pub(super) monitor_panics: bool,
    /// A process is killed for good.
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
        // Only a process that has read the row before it vanished can know of it.
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

    /// Whether this safeguard is left out.
    pub(super) fn omits(&self, omission: Omission) -> bool {
        self.omission == Some(omission)
    }
}
