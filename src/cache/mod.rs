//! Answers from memory, as fresh as the store: between `service` and `store`.
//!
//! [`Lookup`] is what `service` asks. [`UncachedLookup`] asks the store each time: the command line. [`CachedLookup`] is a replica: a
//! [`Mirror`] that a [`ChangeApplier`] of the change log keeps true, believed while a [`Lease`] holds. [`Barrier`] is the other side:
//! what a revocation waits for.
//!
//! Three state machines, without I/O and without a clock, make every choice: [`Follower`] (when to sync), [`Reader`]
//! (memory or store) and [`ReplicaMonitor`] (whom to wait for). `replica.rs`, `cached.rs` and `barrier.rs` drive them with threads,
//! tasks and connections; `tests/it/simulation` drives the same three with a seeded scheduler. The protocol is
//! `docs/protocol.md`.

mod barrier;
mod barrier_wait;
mod cached_lookup;
mod catch_up;
mod change_applier;
mod change_buffer;
mod clock_map;
mod follower;
mod known_digests;
mod lease;
mod local_replica;
mod mirror;
mod reader;
mod reads_in_flight;
mod replica;
mod replica_monitor;
mod stall_detector;
mod store_reads;
mod uncached_lookup;

pub use barrier::{Barrier, BarrierStatus};
pub use barrier_wait::{BarrierError, BarrierWait, is_behind};
pub use cached_lookup::CachedLookup;
pub use change_applier::{ChangeApplier, NextStep, SYNC_CHANGES_MAX};
pub use change_buffer::{ChangeBuffer, LogPosition, NotBuffered};
pub use clock_map::{ClockMap, Keyed};
pub use follower::{Follower, FollowerAction, FollowerEvent};
pub use known_digests::{FilterRebuild, KnownDigests};
pub use lease::{Lease, LeaseSnapshot, nondurable_window, stall_timeout};
pub use local_replica::LocalReplica;
pub use mirror::Mirror;
pub use reader::{Fill, MissAction, ReadKey, Reader};
pub use reads_in_flight::{JoinOutcome, ReadsInFlight};
pub use replica::{FollowerParts, follow_change_log};
pub use replica_monitor::{MonitorAction, MonitorEvent, ReplicaMonitor};
pub use stall_detector::StallDetector;
pub use uncached_lookup::UncachedLookup;

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::Result;

/// What is asked about one token.
#[derive(Debug, Clone, Copy)]
pub struct FactsQuery<'a> {
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
    fn lease_snapshot(&self) -> LeaseSnapshot;

    /// Whether what was read of memory since `term` was taken may be believed.
    fn lease_held_since(&self, snapshot: LeaseSnapshot) -> bool;

    /// The facts, if memory has them, and may be believed since `term`.
    fn cached_facts(&self, query: &FactsQuery<'_>, snapshot: LeaseSnapshot) -> Option<Facts>;

    /// The facts, from wherever they have to be read.
    async fn look_up(&self, query: &FactsQuery<'_>) -> Result<Facts>;

    /// The facts of many, in the order of the questions, with one read of the store for all that memory does not have.
    async fn look_up_many(&self, queries: &[FactsQuery<'_>]) -> Result<Vec<Facts>>;

    /// The caller of this service token, if memory knows, and may be believed; `Some(None)`: that there is none.
    fn cached_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>>;

    /// Whether the digest may be somebody's, for whoever limits those that are not: `false` where that cannot be told. It
    /// says nothing of the answer.
    fn may_exist(&self, digest: &Digest) -> bool;

    /// Waits until [`Self::may_exist`] knows of all that was committed before this, wherever it was: within a time and for a
    /// number of those who wait that are bounded, and beyond them not at all.
    async fn catch_up(&self);

    /// The digest is about to be somebody's, by this process: for [`Self::may_exist`], which else hears of it with the log.
    fn note_new_digest(&self, digest: &Digest);

    /// The caller of this service token, revoked or not.
    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>>;

    /// The caller of this subject alternative name of a client certificate, unless revoked.
    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>>;

    /// The revision that memory is of, or newer; 0 without memory.
    fn revision(&self) -> Revision;

    /// Whether memory may be believed: a sync with the primary is not too long ago.
    fn is_current(&self) -> bool {
        self.lease_held_since(self.lease_snapshot())
    }

    /// Whether what was last known is answered, marked as stale, where the store is out of reach.
    fn serves_stale(&self) -> bool {
        false
    }

    /// A number that changes whenever what is known of callers may have changed. It is a part of memory: whoever has found
    /// a caller may go on believing it while this stays the same, and memory may be believed.
    fn callers_generation(&self) -> u64;
}

impl FactsQuery<'_> {
    /// As the store takes it.
    fn owned(&self) -> (Digest, Option<String>) {
        (*self.digest, self.workspace.map(str::to_owned))
    }
}
