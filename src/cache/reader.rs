//! How an answer is found, as a state machine without I/O and without a clock: memory while the lease holds, then a read of
//! the store that is under way, then a read of its own. `cached.rs` drives it with tasks, the simulation in
//! `tests/it/simulation` with a seeded scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::reads_in_flight::{JoinOutcome, ReadsInFlight};
use super::{FactsQuery, Lease, LeaseSnapshot, Mirror};
use crate::model::{Digest, Facts};

/// What one read of the store is for.
pub type ReadKey = (Digest, Option<String>);

/// What to do where memory does not answer.
#[derive(Debug)]
pub enum MissAction {
    /// Wait for the read whose ticket is on the board, and ask [`Reader::suffices`] of what it finds.
    Join,
    /// Read the store, and take what that finds to [`Reader::land`].
    Read(Fill),
}

/// A read of the store that is under way.
#[derive(Debug)]
pub struct Fill {
    key: ReadKey,
    /// The number on the board; nothing for a read that nobody may join.
    number: Option<u64>,
    /// The life of the mirror from before the read.
    generation: u64,
}

impl Fill {
    /// What is read.
    pub const fn key(&self) -> &ReadKey {
        &self.key
    }
}

/// Memory before the store; `T` is what a read is waited for by.
pub struct Reader<T> {
    mirror: Arc<Mirror>,
    lease: Arc<Lease>,
    reads: ReadsInFlight<ReadKey, T>,
}

impl<T: Clone> Reader<T> {
    /// Over these parts.
    pub fn new(mirror: Arc<Mirror>, lease: Arc<Lease>) -> Self {
        Self { mirror, lease, reads: ReadsInFlight::default() }
    }

    /// What is in memory.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What memory may be believed by.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The reads that are under way.
    pub const fn reads_in_flight(&self) -> &ReadsInFlight<ReadKey, T> {
        &self.reads
    }

    /// What memory says: to be believed only if [`Self::lease_held_since`] says so afterwards, with a term from before this.
    pub fn cached_facts(&self, query: &FactsQuery<'_>) -> Option<Facts> {
        if query.fresh {
            return None;
        }
        self.mirror.cached_facts(query.digest, query.workspace, query.at_least)
    }

    /// Whether what was read of memory since `term` was taken may be believed; `now` was read after memory was.
    pub fn lease_held_since(&self, snapshot: LeaseSnapshot, now: Duration) -> bool {
        self.lease.held_since(snapshot, now)
    }

    /// Where to find what memory does not answer. A new read goes on the board with this ticket; the ticket of a read to
    /// join takes its place.
    pub fn on_miss(&self, query: &FactsQuery<'_>, now: Duration, ticket: &mut T) -> MissAction {
        if query.fresh {
            return MissAction::Read(self.unshared_read(query));
        }
        // What a read under way finds may be as old as the read: like an answer from memory, it is to be believed only
        // while the lease holds.
        let may_join = || self.lease.held_since(self.lease.snapshot(), now);
        let fill = self.unshared_read(query);
        match self.reads.join_or_start(&fill.key, may_join, ticket) {
            JoinOutcome::Joined => MissAction::Join,
            JoinOutcome::Started(number) => MissAction::Read(Fill { number: Some(number), ..fill }),
        }
    }

    /// A read that nobody may join.
    pub fn unshared_read(&self, query: &FactsQuery<'_>) -> Fill {
        Fill { key: query.owned(), number: None, generation: self.mirror.generation() }
    }

    /// Takes a read off the board, whatever came of it.
    pub fn discard(&self, fill: &Fill) {
        if let Some(number) = fill.number {
            self.reads.remove(&fill.key, number);
        }
    }

    /// Takes in what a read found: it is remembered, unless memory has moved on meanwhile.
    pub fn complete(&self, fill: &Fill, facts: &Facts) {
        let (digest, workspace) = &fill.key;
        self.mirror.insert(digest, workspace.as_deref(), facts, fill.generation);
        self.discard(fill);
    }

    /// Whether what a joined read found answers this question too: the read may have begun before the caller had seen the
    /// revision that it asks for. If not, [`Self::read`] again.
    pub fn suffices(&self, query: &FactsQuery<'_>, facts: &Facts) -> bool {
        facts.revision >= query.at_least
    }

    /// Whether what was last known is wanted rather than nothing, where the store is out of reach: the lease ended less than
    /// `grace` ago (`--outage-grace`).
    pub fn may_serve_stale(&self, grace: Duration, now: Duration) -> bool {
        self.lease.ended_since(now).is_some_and(|ended| ended < grace)
    }
}
