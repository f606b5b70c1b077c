//! Answers from memory that are as current as the store. This room stands between `service` and `store`.
//!
//! `service` calls the [`Lookup`] trait. [`UncachedLookup`] reads the store each time; the command line uses it.
//! [`CachedLookup`] is a replica: a [`Mirror`] that a [`ChangeApplier`] keeps current, valid while a [`Lease`] holds.
//! [`Barrier`] is the opposite side: it makes a revocation wait for the replicas.
//!
//! Three state machines without I/O and without a clock make every choice: [`Follower`] (when to sync), [`Reader`]
//! (memory or store) and [`ReplicaMonitor`] (which replicas to wait for). `replica.rs`, `cached_lookup.rs` and
//! `barrier.rs` drive them with threads, tasks and connections; `tests/it/simulation` drives the same three with a
//! seeded scheduler. `docs/protocol.md` describes the protocol.

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
mod request_tasks;
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
pub use request_tasks::{RequestTasks, Share, with_share};
pub use stall_detector::StallDetector;
pub use uncached_lookup::UncachedLookup;

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::Result;

/// A look-up of the facts for one token.
#[derive(Debug, Clone, Copy)]
pub struct FactsQuery<'a> {
    /// Digest of the token.
    pub digest: &'a Digest,
    /// The slug or id of the workspace that the request names.
    pub workspace: Option<&'a str>,
    /// Minimum revision of every part of the answer.
    pub at_least: Revision,
    /// Read the store, even if memory could answer.
    pub fresh: bool,
}

/// A source of the facts that introspections are decided from.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The current lease. Take it before reading memory.
    fn lease_snapshot(&self) -> LeaseSnapshot;

    /// Whether the lease has held since `snapshot` was taken, so that memory read in between is valid.
    fn lease_held_since(&self, snapshot: LeaseSnapshot) -> bool;

    /// The facts, if memory has them and the lease has held since `snapshot`.
    fn cached_facts(&self, query: &FactsQuery<'_>, snapshot: LeaseSnapshot) -> Option<Facts>;

    /// Returns the facts, from memory or the store.
    async fn look_up(&self, query: &FactsQuery<'_>) -> Result<Facts>;

    /// Returns the facts for many tokens, in the order of the queries. One read of the store covers all that memory
    /// lacks.
    async fn look_up_many(&self, queries: &[FactsQuery<'_>]) -> Result<Vec<Facts>>;

    /// The caller of this service token, if memory knows it and is valid. `Some(None)` if there is no such caller.
    fn cached_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>>;

    /// Whether the digest may exist, for the rate limit on unknown tokens; `false` if that is not known. Says nothing
    /// about the answer.
    fn may_exist(&self, digest: &Digest) -> bool;

    /// Waits until [`Self::may_exist`] covers everything committed before this call, at any server. The time and the
    /// number of waits are limited; beyond that it returns early.
    async fn catch_up(&self);

    /// Announces a digest that this process is about to create, to [`Self::may_exist`], which would otherwise receive
    /// it with the change log.
    fn note_new_digest(&self, digest: &Digest);

    /// The caller of this service token, revoked or not.
    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>>;

    /// The caller of this subject alternative name of a client certificate, unless revoked.
    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>>;

    /// Memory reflects this revision or a newer one. 0 without memory.
    fn revision(&self) -> Revision;

    /// Whether memory is valid: the last sync with the primary is recent enough.
    fn is_current(&self) -> bool {
        self.lease_held_since(self.lease_snapshot())
    }

    /// Whether stale facts are served, marked as stale, while the store is unreachable.
    fn serves_stale(&self) -> bool {
        false
    }

    /// Number of times that all cached callers were dropped, because one of them may have changed. A caller that was
    /// found stays valid while this number is the same and memory is valid.
    fn caller_drops(&self) -> u64;
}

impl FactsQuery<'_> {
    /// The key in the form that the store takes.
    fn owned(&self) -> (Digest, Option<String>) {
        (*self.digest, self.workspace.map(str::to_owned))
    }
}
