//! The replica in this process, as the rest of the process sees it: its row, and how far it has applied the change log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Mirror;
use crate::model::{ReplicaId, Revision};
use crate::store::IncarnationId;

/// The replica in this process.
pub struct LocalReplica {
    /// Its row, and the incarnation of the store in which it registered.
    row: Mutex<Option<(ReplicaId, IncarnationId)>>,
    mirror: Arc<Mirror>,
    /// The newest revision that this process has committed.
    committed: AtomicU64,
    sync_request: Notify,
    progress: Notify,
}

impl LocalReplica {
    /// Creates a replica that has not registered.
    pub fn new(mirror: Arc<Mirror>) -> Self {
        let (sync_request, progress) = (Notify::new(), Notify::new());
        Self { row: Mutex::new(None), mirror, committed: AtomicU64::new(0), sync_request, progress }
    }

    /// Requests a sync, because this revision was committed.
    pub fn request_sync(&self, revision: Revision) {
        self.committed.fetch_max(revision.0, Ordering::AcqRel);
        self.sync_request.notify_one();
    }

    /// Waits for the next request to sync. A request made before the wait counts too.
    pub(super) async fn sync_requested(&self) {
        self.sync_request.notified().await;
    }

    /// Wakes the waits for an applied revision.
    pub(super) fn notify_progress(&self) {
        self.progress.notify_waiters();
    }

    /// Waits until this process answers from `revision` or newer, or until the timeout.
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
        // The result does not matter: a caller that needs to know checks afterwards.
        let _ = tokio::time::timeout(timeout, applied).await;
    }

    /// Whether this process has committed a revision that it has not applied.
    pub fn has_unapplied_commit(&self) -> bool {
        self.lags_behind(Revision(self.committed.load(Ordering::Acquire)))
    }

    /// Whether this process still answers from a state older than `revision`.
    pub fn lags_behind(&self, revision: Revision) -> bool {
        self.applied() < revision
    }

    /// The revision that this process has applied.
    pub(super) fn applied(&self) -> Revision {
        self.mirror.applied()
    }

    /// The row, and the incarnation of the store in which it registered.
    pub fn row(&self) -> Option<(ReplicaId, IncarnationId)> {
        self.row.lock().clone()
    }

    pub(super) fn set_row(&self, row: Option<(ReplicaId, IncarnationId)>) {
        *self.row.lock() = row;
    }

    /// If this is the row of this process in this incarnation, the revision that it has applied: every answer of this
    /// process is that new or newer.
    pub fn applied_by(&self, id: ReplicaId, incarnation: &IncarnationId) -> Option<Revision> {
        let row = self.row.lock();
        let own = row.as_ref().is_some_and(|row| row.0 == id && row.1 == *incarnation);
        own.then(|| self.mirror.applied())
    }
}
