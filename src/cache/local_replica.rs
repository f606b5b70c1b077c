//! A process's own replica, as the rest of the process sees it: which row is its own, and how far it has applied the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Mirror;
use crate::model::{ReplicaId, Revision};
use crate::store::Incarnation;

/// This process's replica.
pub struct LocalReplica {
    /// Its row, and the life of the store that it was registered in.
    row: Mutex<Option<(ReplicaId, Incarnation)>>,
    mirror: Arc<Mirror>,
    /// The newest revision that this process has committed.
    committed: AtomicU64,
    sync_request: Notify,
    progress: Notify,
}

impl LocalReplica {
    /// Not registered yet.
    pub fn new(mirror: Arc<Mirror>) -> Self {
        let (sync_request, progress) = (Notify::new(), Notify::new());
        Self { row: Mutex::new(None), mirror, committed: AtomicU64::new(0), sync_request, progress }
    }

    /// Makes it look: this revision was committed.
    pub fn request_sync(&self, revision: Revision) {
        self.committed.fetch_max(revision.0, Ordering::AcqRel);
        self.sync_request.notify_one();
    }

    /// Waits for the next prompt. One that came while nobody waited counts.
    pub(super) async fn sync_requested(&self) {
        self.sync_request.notified().await;
    }

    /// Wakes those who wait for what is applied.
    pub(super) fn notify_progress(&self) {
        self.progress.notify_waiters();
    }

    /// Waits until this process answers from `revision` or newer, at the longest so long.
    pub async fn wait_until_applied(&self, revision: Revision, timeout: Duration) {
        let applied = async {
            loop {
                let progress = self.progress.notified();
                if !self.lags_behind(revision) {
                    return;
                }
                progress.await;
            }
        };
        // A caller that needs to know looks for itself afterwards.
        let _ = tokio::time::timeout(timeout, applied).await;
    }

    /// Whether this process has committed what it has not applied.
    pub fn has_unapplied_commit(&self) -> bool {
        self.lags_behind(Revision(self.committed.load(Ordering::Acquire)))
    }

    /// Whether this process still answers from before `revision`.
    pub fn lags_behind(&self, revision: Revision) -> bool {
        self.applied() < revision
    }

    /// What this process has applied.
    pub(super) fn applied(&self) -> Revision {
        self.mirror.applied()
    }

    /// The row and the life of the store that it was registered in.
    pub fn row(&self) -> Option<(ReplicaId, Incarnation)> {
        self.row.lock().clone()
    }

    pub(super) fn set_row(&self, row: Option<(ReplicaId, Incarnation)>) {
        *self.row.lock() = row;
    }

    /// If this row is its own, and of this life of the store: everything that this process answers from is as of this,
    /// or newer.
    pub fn applied_by(&self, id: ReplicaId, incarnation: &Incarnation) -> Option<Revision> {
        let row = self.row.lock();
        let own = row.as_ref().is_some_and(|row| row.0 == id && row.1 == *incarnation);
        own.then(|| self.mirror.applied())
    }
}
