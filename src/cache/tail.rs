//! What the outcome of a sync means for the mirror, the lease and those who stream changes on. No I/O and no clock.
//!
//! What is applied rises here and nowhere else: from the rows that a sync fetched, never from a notification, which anybody
//! who may connect to the database can send.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::lease::forgettable;
use super::{Lease, Mirror};
use crate::model::Revision;
use crate::store::{Change, IncarnationId, Published, Synced};

/// Changes that one sync fetches at most. If there are more, they are fetched before the lease is extended.
pub const SYNC_CHANGES_MAX: u32 = 10_000;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Sync again at once: to publish what was applied, which is the acknowledgement, or to fetch more.
    SyncAgain,
    /// Nothing is new: wait for a hint, or for the time to look anyway.
    Wait,
    /// The row is gone, or the store began another life: register anew. The lease has ended.
    Register,
}

/// A replica that follows the log.
pub struct Tail {
    mirror: Arc<Mirror>,
    lease: Arc<Lease>,
    hub: Arc<Hub>,
    /// Ends fills under way.
    detach: Box<dyn Fn() + Send>,
    incarnation: Option<IncarnationId>,
    /// Counts syncs.
    seq: i64,
    /// When the last sync was sent that a crash of the store does not lose.
    durable: Option<Duration>,
}

impl Tail {
    /// Over these parts; `detach` lets nobody join a fill that is under way.
    pub fn new(
        mirror: Arc<Mirror>,
        lease: Arc<Lease>,
        hub: Arc<Hub>,
        detach: impl Fn() + Send + 'static,
    ) -> Self {
        let detach = Box::new(detach);
        Self { mirror, lease, hub, detach, incarnation: None, seq: 0, durable: None }
    }

    /// What to publish with the sync that is sent at `sent` (since boot).
    pub fn publish(&mut self, sent: Duration) -> Published {
        self.seq += 1;
        let kept = |durable| sent.saturating_sub(durable) < forgettable(self.lease.length());
        Published {
            incarnation: self.incarnation.clone(),
            applied: self.mirror.applied(),
            seq: self.seq,
            durable: !self.durable.is_some_and(kept),
        }
    }

    /// The replica takes leave: nobody waits for it from now on, so it answers from memory no more.
    pub fn leave(&mut self) {
        self.given_up();
    }

    /// The replica's row is there since before this was read. Whatever is in memory is of another time: it goes.
    pub fn registered(&mut self, incarnation: IncarnationId, revision: Revision) {
        self.lease.end();
        (self.detach)();
        self.mirror.start_over(revision);
        self.hub.start_over(&incarnation, revision);
        self.incarnation = Some(incarnation);
        self.durable = None;
    }

    fn apply(&self, changes: &[Change], reached: Revision) {
        self.mirror.evict(changes, reached);
        (self.detach)();
        self.mirror.publish(reached);
    }

    /// Takes in the outcome of a sync that was sent at `sent` (since boot) with what [`Self::publish`] gave for it.
    pub fn synced(
        &mut self,
        sent: Duration,
        published: &Published,
        outcome: Option<Synced>,
    ) -> Step {
        let Some(synced) = outcome else { return self.given_up() };
        if published.durable {
            self.durable = Some(sent);
        }
        let applied = self.mirror.applied();
        if Some(&synced.incarnation) != self.incarnation.as_ref() || synced.revision < applied {
            return self.given_up();
        }
        let reached = synced.changes.last().map_or(applied, |change| change.revision);
        // Rows that are missing were dropped before this replica came to read them.
        let missing = reached < synced.revision
            && (synced.changes.len() as u64) < u64::from(SYNC_CHANGES_MAX);
        if !follow(applied, &synced.changes) || missing {
            return self.given_up();
        }
        if !synced.changes.is_empty() {
            self.apply(&synced.changes, reached);
            self.hub.append(&synced.changes);
        }
        let whole = reached == synced.revision;
        if whole {
            self.lease.extend(sent);
        }
        self.hub.publish(reached, whole);
        if synced.changes.is_empty() { Step::Wait } else { Step::SyncAgain }
    }

    fn given_up(&mut self) -> Step {
        self.lease.end();
        self.incarnation = None;
        Step::Register
    }
}

/// Whether changes go on from `applied`, without a gap.
fn follow(applied: Revision, changes: &[Change]) -> bool {
    changes.iter().zip(applied.0 + 1..).all(|(change, next)| change.revision.0 == next)
}
