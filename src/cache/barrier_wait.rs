//! Decides from one read of the replicas' rows whether a wait is over. No I/O, so that the simulation in
//! `tests/it/simulation` runs this code.

use crate::model::Revision;
use crate::store::{IncarnationId, Replica, Replicas};

/// Why it cannot be determined that every replica has applied a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierError {
    /// The store has changed to another incarnation. The client has to repeat the call.
    IncarnationChanged,
    /// The store does not show the committed revision.
    CommitNotVisible,
}

/// A wait for every replica to apply a revision.
#[derive(Debug, Clone)]
pub struct BarrierWait {
    revision: Revision,
    /// The incarnation of the store at the first check.
    incarnation: Option<IncarnationId>,
}

impl BarrierWait {
    /// Creates a wait for this revision, which is committed.
    pub const fn new(revision: Revision) -> Self {
        Self { revision, incarnation: None }
    }

    /// The revision to wait for.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the outcome, or `None` while a replica is still behind. The rows were requested after the commit.
    /// `locally_applied` is the revision that a replica in this process has applied, which its row may not show yet.
    pub fn check(
        &mut self,
        rows: &Replicas,
        locally_applied: impl Fn(&Replica) -> Option<Revision>,
    ) -> Option<Result<(), BarrierError>> {
        let incarnation = self.incarnation.get_or_insert_with(|| rows.incarnation.clone());
        if *incarnation != rows.incarnation {
            Some(Err(BarrierError::IncarnationChanged))
        } else if rows.revision < self.revision {
            Some(Err(BarrierError::CommitNotVisible))
        } else if rows
            .replicas
            .iter()
            .any(|row| is_behind(row, self.revision, locally_applied(row)))
        {
            None
        } else {
            Some(Ok(()))
        }
    }
}

/// Whether a replica may still answer from a state older than `revision`, according to its row and to what is known
/// locally.
pub fn is_behind(row: &Replica, revision: Revision, locally_applied: Option<Revision>) -> bool {
    row.applied < revision && locally_applied.is_none_or(|applied| applied < revision)
}
