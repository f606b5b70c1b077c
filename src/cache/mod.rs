//! Answers from memory, as fresh as the store: between `service` and `store`.
//!
//! [`Lookup`] is what `service` asks. [`Direct`] asks the store each time: the command line. [`Cached`] is a replica: a
//! [`Mirror`] that a [`Tail`] of the change log keeps true, believed while a [`Lease`] holds. [`Barrier`] is the other side:
//! what a revocation waits for.
//!
//! Three state machines, without I/O and without a clock, make every choice: [`Follower`] (when to sync), [`Reader`]
//! (memory or store) and [`Lookout`] (whom to wait for). `replica.rs`, `cached.rs` and `barrier.rs` drive them with threads,
//! tasks and connections; `tests/it/simulation` drives the same three with a seeded scheduler. The protocol is
//! `docs/protocol.md`.

mod barrier;
mod board;
mod cached;
mod catch_up;
mod clock_map;
mod direct;
mod flights;
mod follower;
mod hub;
mod known_digests;
mod lease;
mod local;
mod lookout;
mod mirror;
mod reader;
mod replica;
mod standstill;
mod tail;
mod verdict;

pub use barrier::{Barrier, Waiting};
pub use board::{Board, Boarded};
pub use cached::Cached;
pub use clock_map::{ClockMap, Keyed};
pub use direct::Direct;
pub use follower::{Follower, FollowerAction, FollowerEvent};
pub use hub::{Hub, Position, TooOld};
pub use known_digests::{Filling, KnownDigests};
pub use lease::{Lease, Term, forgettable, patience};
pub use local::Local;
pub use lookout::{Lookout, LookoutAction, LookoutEvent};
pub use mirror::Mirror;
pub use reader::{Fill, Miss, ReadKey, Reader};
pub use replica::{Replication, follow};
pub use standstill::Standstill;
pub use tail::{SYNC_CHANGES_MAX, Step, Tail};
pub use verdict::{BarrierError, Wait, is_behind};

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::Result;

/// What is asked about one token.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The token's digest.
    pub digest: &'a Digest,
    /// The slug or id of the workspace that the request names.
    pub workspace: Option<&'a str>,
    /// No part of the answer may be older.
    pub at_least: Revision,
    /// Read the store, even where memory could answer.
    pub fresh: bool,
}

/// What knows the facts that an introspection is decided by.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// What memory may be believed by: to be taken before it is read.
    fn term(&self) -> Term;

    /// Whether what was read of memory since `term` was taken may be believed.
    fn may_believe(&self, term: Term) -> bool;

    /// The facts, if memory has them, and may be believed since `term`.
    fn recall(&self, question: &Question<'_>, term: Term) -> Option<Facts>;

    /// The facts, from wherever they have to be read.
    async fn look_up(&self, question: &Question<'_>) -> Result<Facts>;

    /// The facts of many, in the order of the questions, with one read of the store for all that memory does not have.
    async fn look_up_many(&self, questions: &[Question<'_>]) -> Result<Vec<Facts>>;

    /// The caller of this service token, if memory knows, and may be believed; `Some(None)`: that there is none.
    fn recall_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>>;

    /// Whether the digest may be somebody's, for whoever limits those that are not: `false` where that cannot be told. It
    /// says nothing of the answer.
    fn may_know(&self, digest: &Digest) -> bool;

    /// Waits until [`Self::may_know`] knows of all that was committed before this, wherever it was: within a time and for a
    /// number of those who wait that are bounded, and beyond them not at all.
    async fn catch_up(&self);

    /// The digest is about to be somebody's, by this process: for [`Self::may_know`], which else hears of it with the log.
    fn expect(&self, digest: &Digest);

    /// The caller of this service token, revoked or not.
    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>>;

    /// The caller of this subject alternative name of a client certificate, unless revoked.
    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>>;

    /// The revision that memory is of, or newer; 0 without memory.
    fn revision(&self) -> Revision;

    /// Whether memory may be believed: a sync with the primary is not too long ago.
    fn is_current(&self) -> bool {
        self.may_believe(self.term())
    }

    /// Whether what was last known is answered, marked as stale, where the store is out of reach.
    fn bridges(&self) -> bool {
        false
    }

    /// A number that changes whenever what is known of callers may have changed. It is a part of memory: whoever has found
    /// a caller may go on believing it while this stays the same, and memory may be believed.
    fn callers_generation(&self) -> u64;
}

impl Question<'_> {
    /// As the store takes it.
    fn owned(&self) -> (Digest, Option<String>) {
        (*self.digest, self.workspace.map(str::to_owned))
    }
}
