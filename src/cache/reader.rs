//! Decides how an answer is found: a state machine without I/O and without a clock. Memory answers while the lease
//! holds. Otherwise the request joins a read in flight, or starts a new read. `cached_lookup.rs` drives it with tasks,
//! the simulation in `tests/it/simulation` with a seeded scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::reads_in_flight::{JoinOutcome, ReadsInFlight};
use super::{FactsQuery, Lease, LeaseSnapshot, Mirror};
use crate::model::{Digest, Facts};

/// What one read of the store looks up: a digest, and the workspace that the request names.
pub type ReadKey = (Digest, Option<String>);

/// What to do if memory does not answer.
#[derive(Debug)]
pub enum MissAction {
    /// Wait for the read of the returned ticket, and check its result with [`Reader::suffices`].
    Join,
    /// Read the store, and pass the result to [`Reader::complete`].
    Read(Fill),
}

/// A read of the store that is in flight.
#[derive(Debug)]
pub struct Fill {
    key: ReadKey,
    /// Number among the reads in flight. `None` for a read that other requests may not join.
    number: Option<u64>,
    /// [`Mirror::resets`], taken before the read.
    resets: u64,
}

impl Fill {
    /// What is read.
    pub const fn key(&self) -> &ReadKey {
        &self.key
    }
}

/// Memory in front of the store. `T` is the ticket by which a request waits for a read.
pub struct Reader<T> {
    mirror: Arc<Mirror>,
    lease: Arc<Lease>,
    reads: ReadsInFlight<ReadKey, T>,
}

impl<T: Clone> Reader<T> {
    /// Creates a reader of this mirror.
    pub fn new(mirror: Arc<Mirror>, lease: Arc<Lease>) -> Self {
        Self { mirror, lease, reads: ReadsInFlight::default() }
    }

    /// The facts in memory.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The lease, which says whether memory is valid.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The reads in flight.
    pub const fn reads_in_flight(&self) -> &ReadsInFlight<ReadKey, T> {
        &self.reads
    }

    /// Returns the facts in memory, without a check of the lease. They are valid only if [`Self::lease_held_since`]
    /// holds afterwards, for a snapshot taken before.
    pub fn unchecked_facts(&self, query: &FactsQuery<'_>) -> Option<Facts> {
        if query.fresh {
            return None;
        }
        self.mirror.cached_facts(query.digest, query.workspace, query.at_least)
    }

    /// Whether facts that were read from memory since `snapshot` are valid. `now` was read after memory was.
    pub fn lease_held_since(&self, snapshot: LeaseSnapshot, now: Duration) -> bool {
        self.lease.held_since(snapshot, now)
    }

    /// Decides what to do if memory does not answer. A new read is recorded under `ticket`. To join a read, `ticket` is
    /// replaced by that of the read.
    pub fn on_miss(&self, query: &FactsQuery<'_>, now: Duration, ticket: &mut T) -> MissAction {
        if query.fresh {
            return MissAction::Read(self.unshared_read(query));
        }
        // The result of a read in flight may be as old as the start of the read. Like an answer from memory, it is
        // valid only while the lease holds.
        let may_join = || self.lease.held_since(self.lease.snapshot(), now);
        let fill = self.unshared_read(query);
        match self.reads.join_or_start(&fill.key, may_join, ticket) {
            JoinOutcome::Joined => MissAction::Join,
            JoinOutcome::Started(number) => MissAction::Read(Fill { number: Some(number), ..fill }),
        }
    }

    /// Creates a read that other requests may not join.
    pub fn unshared_read(&self, query: &FactsQuery<'_>) -> Fill {
        Fill { key: query.owned(), number: None, resets: self.mirror.resets() }
    }

    /// Removes a read that failed or ended from the reads in flight.
    pub fn discard(&self, fill: &Fill) {
        if let Some(number) = fill.number {
            self.reads.remove(&fill.key, number);
        }
    }

    /// Keeps the result of a read in memory, unless memory is newer by now.
    pub fn complete(&self, fill: &Fill, facts: &Facts) {
        let (digest, workspace) = &fill.key;
        self.mirror.insert(digest, workspace.as_deref(), facts, fill.resets);
        self.discard(fill);
    }

    /// Whether the result of a joined read answers this query too. The read may have begun before the caller saw the
    /// revision that it requires. If it does not, use [`Self::unshared_read`].
    pub fn suffices(&self, query: &FactsQuery<'_>, facts: &Facts) -> bool {
        facts.revision >= query.at_least
    }

    /// Whether stale facts may be served while the store is unreachable: the lease ended less than `grace` ago
    /// (`--outage-grace`).
    pub fn may_serve_stale(&self, grace: Duration, now: Duration) -> bool {
        self.lease.ended_since(now).is_some_and(|ended| ended < grace)
    }
}
