//! A process's own replica, as the rest of the process sees it: which row is its own, and how far it has applied the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Mirror;
use crate::model::{ReplicaId, Revision};
use crate::store::IncarnationId;

/// This process's replica.
pub struct Local {
    /// Its row, and the life of the store that it was registered in.
    row: Mutex<Option<(ReplicaId, IncarnationId)>>,
    mirror: Arc<Mirror>,
    /// The newest revision that this process has committed.
    wanted: AtomicU64,
    prompt: Notify,
    progress: Notify,
}

impl Local {
    /// Not registered yet.
    pub fn new(mirror: Arc<Mirror>) -> Self {
        let (prompt, progress) = (Notify::new(), Notify::new());
        Self { row: Mutex::new(None), mirror, wanted: AtomicU64::new(0), prompt, progress }
    }

    /// Makes it look: this revision was committed.
    pub fn prompt(&self, revision: Revision) {
        self.wanted.fetch_max(revision.0, Ordering::AcqRel);
        self.prompt.notify_one();
    }

    /// Waits for the next prompt. One that came while nobody waited counts.
    pub(super) async fn prompted(&self) {
        self.prompt.notified().await;
    }

    /// Wakes those who wait for what is applied.
    pub(super) fn announce(&self) {
        self.progress.notify_waiters();
    }

    /// Waits until this process answers from `revision` or newer, at the longest so long.
    pub async fn reach(&self, revision: Revision, longest: Duration) {
        let reached = async {
            loop {
                let progress = self.progress.notified();
                if !self.has_yet_to_apply(revision) {
                    return;
                }
                progress.await;
            }
        };
        // A caller that needs to know looks for itself afterwards.
        let _ = tokio::time::timeout(longest, reached).await;
    }

    /// Whether this process has committed what it has not applied.
    pub fn is_behind(&self) -> bool {
        self.has_yet_to_apply(Revision(self.wanted.load(Ordering::Acquire)))
    }

    /// Whether this process still answers from before `revision`.
    pub fn has_yet_to_apply(&self, revision: Revision) -> bool {
        self.applied() < revision
    }

    /// What this process has applied.
    pub(super) fn applied(&self) -> Revision {
        self.mirror.applied()
    }

    /// The row and the life of the store that it was registered in.
    pub fn row(&self) -> Option<(ReplicaId, IncarnationId)> {
        self.row.lock().clone()
    }

    pub(super) fn set_row(&self, row: Option<(ReplicaId, IncarnationId)>) {
        *self.row.lock() = row;
    }

    /// If this row is its own, and of this life of the store: everything that this process answers from is as of this,
    /// or newer.
    pub fn known(&self, id: ReplicaId, incarnation: &IncarnationId) -> Option<Revision> {
        let row = self.row.lock();
        let own = row.as_ref().is_some_and(|row| row.0 == id && row.1 == *incarnation);
        own.then(|| self.mirror.applied())
    }
}
