//! Applies the outcome of a sync to the mirror, the lease and the change buffer. No I/O and no clock.
//!
//! `applied` rises only here, from the rows that a sync fetched. It never rises because of a notification, since every
//! role that may connect to the database can send one.

use std::sync::Arc;
use std::time::Duration;

use super::change_buffer::ChangeBuffer;
use super::lease::nondurable_window;
use super::{Lease, Mirror};
use crate::model::Revision;
use crate::store::{Change, IncarnationId, Published, Synced};

/// Maximum number of changes that one sync fetches. If there are more, they are fetched before the lease is extended.
pub const SYNC_CHANGES_MAX: u32 = 10_000;

/// What the follower does after a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Sync again at once, to publish what was applied (the acknowledgement), or to fetch more.
    SyncAgain,
    /// Nothing is new. Wait for a hint, or for the next regular sync.
    Wait,
    /// The row is gone, or the store is another incarnation. Register again. The lease has ended.
    Register,
}

/// Applies the change log to the memory of a replica.
pub struct ChangeApplier {
    mirror: Arc<Mirror>,
    lease: Arc<Lease>,
    change_buffer: Arc<ChangeBuffer>,
    /// Keeps later requests from joining the fills in flight.
    detach: Box<dyn Fn() + Send>,
    incarnation: Option<IncarnationId>,
    /// Number of syncs so far.
    seq: i64,
    /// When the last durable sync was sent, as time since boot. A crash of the store does not lose a durable sync.
    last_durable: Option<Duration>,
}

impl ChangeApplier {
    /// Creates an applier. `detach` keeps later requests from joining a fill that is in flight.
    pub fn new(
        mirror: Arc<Mirror>,
        lease: Arc<Lease>,
        change_buffer: Arc<ChangeBuffer>,
        detach: impl Fn() + Send + 'static,
    ) -> Self {
        let detach = Box::new(detach);
        Self { mirror, lease, change_buffer, detach, incarnation: None, seq: 0, last_durable: None }
    }

    /// Returns what to publish with the sync that is sent at `sent`, the time since boot.
    pub fn begin_sync(&mut self, sent: Duration) -> Published {
        self.seq += 1;
        let is_recent =
            |durable| sent.saturating_sub(durable) < nondurable_window(self.lease.length());
        Published {
            incarnation: self.incarnation.clone(),
            applied: self.mirror.applied(),
            seq: self.seq,
            durable: !self.last_durable.is_some_and(is_recent),
        }
    }

    /// Ends the lease, because the replica is about to deregister. After that, no revocation waits for it.
    pub fn deregister(&mut self) {
        self.end_registration();
    }

    /// Empties the memory after registering. `incarnation` and `revision` were read after the replica's row was
    /// committed, so the contents of memory may be older.
    pub fn on_registered(&mut self, incarnation: IncarnationId, revision: Revision) {
        self.lease.end();
        (self.detach)();
        self.mirror.reset(revision);
        self.change_buffer.reset(&incarnation, revision);
        self.incarnation = Some(incarnation);
        self.last_durable = None;
    }

    fn apply(&self, changes: &[Change], reached: Revision) {
        self.mirror.evict(changes, reached);
        (self.detach)();
        self.mirror.set_applied(reached);
    }

    /// Applies the outcome of a sync that was sent at `sent`, the time since boot. `published` is what
    /// [`Self::begin_sync`] returned for it.
    pub fn on_synced(
        &mut self,
        sent: Duration,
        published: &Published,
        outcome: Option<Synced>,
    ) -> NextStep {
        let Some(synced) = outcome else { return self.end_registration() };
        if published.durable {
            self.last_durable = Some(sent);
        }
        let applied = self.mirror.applied();
        if Some(&synced.incarnation) != self.incarnation.as_ref() || synced.revision < applied {
            return self.end_registration();
        }
        let reached = synced.changes.last().map_or(applied, |change| change.revision);
        // Missing rows were purged before this replica fetched them.
        let missing = reached < synced.revision
            && (synced.changes.len() as u64) < u64::from(SYNC_CHANGES_MAX);
        if !are_contiguous(applied, &synced.changes) || missing {
            return self.end_registration();
        }
        if !synced.changes.is_empty() {
            self.apply(&synced.changes, reached);
            self.change_buffer.append(&synced.changes);
        }
        let complete = reached == synced.revision;
        if complete {
            self.lease.extend(sent);
        }
        self.change_buffer.publish(reached, complete);
        if synced.changes.is_empty() { NextStep::Wait } else { NextStep::SyncAgain }
    }

    fn end_registration(&mut self) -> NextStep {
        self.lease.end();
        self.incarnation = None;
        NextStep::Register
    }
}

/// Whether the changes continue from `applied` without a gap.
fn are_contiguous(applied: Revision, changes: &[Change]) -> bool {
    changes.iter().zip(applied.0 + 1..).all(|(change, next)| change.revision.0 == next)
}
