//! What the outcome of a sync means for the mirror, the lease and those who stream changes on. No I/O and no clock.
//!
//! What is applied rises here and nowhere else: from the rows that a sync fetched, never from a notification, which anybody
//! who may connect to the database can send.

use std::sync::Arc;
use std::time::Duration;

use super::change_buffer::ChangeBuffer;
use super::lease::nondurable_window;
use super::{Lease, Mirror};
use crate::model::Revision;
use crate::store::{Change, Incarnation, Published, Synced};

/// Changes that one sync fetches at most. If there are more, they are fetched before the lease is extended.
pub const SYNC_CHANGES_MAX: u32 = 10_000;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Sync again at once: to publish what was applied, which is the acknowledgement, or to fetch more.
    SyncAgain,
    /// Nothing is new: wait for a hint, or for the time to look anyway.
    Wait,
    /// The row is gone, or the store began another life: register anew. The lease has ended.
    Register,
}

/// A replica that follows the log.
pub struct ChangeApplier {
    mirror: Arc<Mirror>,
    lease: Arc<Lease>,
    change_buffer: Arc<ChangeBuffer>,
    /// Ends fills under way.
    detach: Box<dyn Fn() + Send>,
    incarnation: Option<Incarnation>,
    /// Counts syncs.
    seq: i64,
    /// When the last sync was sent that a crash of the store does not lose.
    last_durable: Option<Duration>,
}

impl ChangeApplier {
    /// Over these parts; `detach` lets nobody join a fill that is under way.
    pub fn new(
        mirror: Arc<Mirror>,
        lease: Arc<Lease>,
        change_buffer: Arc<ChangeBuffer>,
        detach: impl Fn() + Send + 'static,
    ) -> Self {
        let detach = Box::new(detach);
        Self { mirror, lease, change_buffer, detach, incarnation: None, seq: 0, last_durable: None }
    }

    /// What to publish with the sync that is sent at `sent` (since boot).
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

    /// The replica takes leave: nobody waits for it from now on, so it answers from memory no more.
    pub fn deregister(&mut self) {
        self.end_registration();
    }

    /// The replica's row is there since before this was read. Whatever is in memory is of another time: it goes.
    pub fn on_registered(&mut self, incarnation: Incarnation, revision: Revision) {
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

    /// Takes in the outcome of a sync that was sent at `sent` (since boot) with what [`Self::publish`] gave for it.
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
        // Rows that are missing were dropped before this replica came to read them.
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

/// Whether changes go on from `applied`, without a gap.
fn are_contiguous(applied: Revision, changes: &[Change]) -> bool {
    changes.iter().zip(applied.0 + 1..).all(|(change, next)| change.revision.0 == next)
}
