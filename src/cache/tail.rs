//! The replica's side of the protocol, step by step: what a sync's outcome means for the mirror, the lease and those who
//! stream changes on. No I/O, so that the simulation in `tests/it/simulation` runs these very steps.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::{Lease, Mirror};
use crate::model::Revision;
use crate::store::{Incarnation, Synced};

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
    incarnation: Option<Incarnation>,
}

impl Tail {
    /// Over these parts; `detach` lets nobody join a fill that is under way.
    pub fn new(
        mirror: Arc<Mirror>,
        lease: Arc<Lease>,
        hub: Arc<Hub>,
        detach: impl Fn() + Send + 'static,
    ) -> Self {
        Self { mirror, lease, hub, detach: Box::new(detach), incarnation: None }
    }

    /// The revision to publish with the next sync.
    pub fn applied(&self) -> Revision {
        self.mirror.applied()
    }

    /// The replica's row is there since before this was read. Whatever is in memory is of another time: it goes.
    pub fn registered(&mut self, incarnation: Incarnation, revision: Revision) {
        self.lease.end();
        (self.detach)();
        self.mirror.start_over(revision);
        self.hub.start_over(&incarnation, revision);
        self.incarnation = Some(incarnation);
    }

    /// Takes in the outcome of a sync that was sent at `sent` (since boot) and published [`Self::applied`].
    pub fn synced(&mut self, sent: Duration, outcome: Option<Synced>) -> Step {
        let Some(synced) = outcome else { return self.given_up() };
        let applied = self.mirror.applied();
        if Some(&synced.incarnation) != self.incarnation.as_ref() || synced.revision < applied {
            return self.given_up();
        }
        let gapless = synced
            .changes
            .iter()
            .zip(applied.0 + 1..)
            .all(|(change, next)| change.revision.0 == next);
        let reached = synced.changes.last().map_or(applied, |change| change.revision);
        // Rows that are missing were dropped before this replica came to read them.
        let missing = reached < synced.revision
            && (synced.changes.len() as u64) < u64::from(SYNC_CHANGES_MAX);
        if !gapless || missing {
            return self.given_up();
        }
        if !synced.changes.is_empty() {
            self.mirror.evict(&synced.changes, reached);
            (self.detach)();
            self.mirror.publish(reached);
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
