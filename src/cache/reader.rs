//! How an answer is found, as a state machine without I/O and without a clock: memory while the lease holds, then a read of
//! the store that is under way, then a read of its own. `cached.rs` drives it with tasks, the simulation in
//! `tests/it/simulation` with a seeded scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Boarded};
use super::{Lease, Mirror, Question, Term};
use crate::model::{Digest, Facts};

/// What one read of the store is for.
pub type ReadKey = (Digest, Option<String>);

/// What to do where memory does not answer.
#[derive(Debug)]
pub enum Miss {
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
    life: u64,
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
    board: Board<ReadKey, T>,
}

impl<T: Clone> Reader<T> {
    /// Over these parts.
    pub fn new(mirror: Arc<Mirror>, lease: Arc<Lease>) -> Self {
        Self { mirror, lease, board: Board::default() }
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
    pub const fn board(&self) -> &Board<ReadKey, T> {
        &self.board
    }

    /// What memory says: to be believed only if [`Self::may_believe`] says so afterwards, with a term from before this.
    pub fn recall(&self, question: &Question<'_>) -> Option<Facts> {
        if question.fresh {
            return None;
        }
        self.mirror.recall(question.digest, question.workspace, question.at_least)
    }

    /// Whether what was read of memory since `term` was taken may be believed; `now` was read after memory was.
    pub fn may_believe(&self, term: Term, now: Duration) -> bool {
        self.lease.has_held(term, now)
    }

    /// Where to find what memory does not answer. A new read goes on the board with this ticket; the ticket of a read to
    /// join takes its place.
    pub fn look_up(&self, question: &Question<'_>, now: Duration, ticket: &mut T) -> Miss {
        if question.fresh {
            return Miss::Read(self.read(question));
        }
        // What a read under way finds may be as old as the read: like an answer from memory, it is to be believed only
        // while the lease holds.
        let may_join = || self.lease.has_held(self.lease.term(), now);
        let fill = self.read(question);
        match self.board.join_or_begin(&fill.key, may_join, ticket) {
            Boarded::Joined => Miss::Join,
            Boarded::Began(number) => Miss::Read(Fill { number: Some(number), ..fill }),
        }
    }

    /// A read that nobody may join.
    pub fn read(&self, question: &Question<'_>) -> Fill {
        Fill { key: question.owned(), number: None, life: self.mirror.life() }
    }

    /// Takes a read off the board, whatever came of it.
    pub fn end(&self, fill: &Fill) {
        if let Some(number) = fill.number {
            self.board.land(&fill.key, number);
        }
    }

    /// Takes in what a read found: it is remembered, unless memory has moved on meanwhile.
    pub fn land(&self, fill: &Fill, facts: &Facts) {
        let (digest, workspace) = &fill.key;
        self.mirror.remember(digest, workspace.as_deref(), facts, fill.life);
        self.end(fill);
    }

    /// Whether what a joined read found answers this question too: the read may have begun before the caller had seen the
    /// revision that it asks for. If not, [`Self::read`] again.
    pub fn suffices(&self, question: &Question<'_>, facts: &Facts) -> bool {
        facts.revision >= question.at_least
    }

    /// Whether what was last known is wanted rather than nothing, where the store is out of reach: the lease ended less than
    /// `grace` ago (`--outage-grace`).
    pub fn may_bridge(&self, grace: Duration, now: Duration) -> bool {
        self.lease.ended_since(now).is_some_and(|ended| ended < grace)
    }
}
