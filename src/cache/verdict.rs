//! What one look at the replicas' rows means for whoever waits. No I/O, so that the simulation in `tests/it/simulation`
//! judges by these very rules.

use crate::model::Revision;
use crate::store::{IncarnationId, Replica, Replicas};

/// Why nobody can say that every replica has applied a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierError {
    /// The store began another life meanwhile: ask again.
    AnotherLife,
    /// The store does not show what was committed.
    NotSeen,
}

/// A wait for a revision.
#[derive(Debug, Clone)]
pub struct Wait {
    revision: Revision,
    /// The store's life when it was first looked at for this one.
    incarnation: Option<IncarnationId>,
}

impl Wait {
    /// For this revision, which is committed.
    pub const fn new(revision: Revision) -> Self {
        Self { revision, incarnation: None }
    }

    /// What is waited for.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Nothing if there is still something to wait for. The rows were asked for after the commit; `known` is what is
    /// known of a replica beside its row.
    pub fn judge(
        &mut self,
        rows: &Replicas,
        known: impl Fn(&Replica) -> Option<Revision>,
    ) -> Option<Result<(), BarrierError>> {
        let life = self.incarnation.get_or_insert_with(|| rows.incarnation.clone());
        if *life != rows.incarnation {
            Some(Err(BarrierError::AnotherLife))
        } else if rows.revision < self.revision {
            Some(Err(BarrierError::NotSeen))
        } else if rows.replicas.iter().any(|row| is_behind(row, self.revision, known(row))) {
            None
        } else {
            Some(Ok(()))
        }
    }
}

/// Whether a replica may still answer from before a revision, for all that its row says, and what is known beside it.
pub fn is_behind(row: &Replica, revision: Revision, known: Option<Revision>) -> bool {
    row.applied < revision && known.is_none_or(|applied| applied < revision)
}
