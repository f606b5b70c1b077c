//! The sync loop: registers this process, and keeps its mirror, lease and hub true for as long as it runs. It belongs on a
//! thread and connections of its own, so that no load can starve it (CATALOGUE E22).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Mirror, SYNC_CHANGES_MAX, Step, Tail};
use crate::model::{BootClock, Clock, ReplicaId, Revision};
use crate::store::{ChangeFeed, Hint, Incarnation, Result, Store, StoreError};
use crate::token::{Random, random_array};

/// A sync is sent at least this often, hint or not.
const SYNC_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// What this process commits it is notified of too, mostly before the commit returns: a sync that waits for that is the
/// acknowledgement, and not the first of two.
const NOTIFIED_WITHIN: Duration = Duration::from_millis(3);
/// Between two tries to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// This process's replica, as the rest of the process sees it.
pub struct Local {
    /// Its row, and the life of the store that it was registered in.
    row: Mutex<Option<(ReplicaId, Incarnation)>>,
    mirror: Arc<Mirror>,
    /// The newest revision that somebody waits for.
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
        // Whoever waits looks for themselves afterwards.
        let _ = tokio::time::timeout(longest, reached).await;
    }

    fn is_behind(&self) -> bool {
        self.has_yet_to_apply(Revision(self.wanted.load(Ordering::Acquire)))
    }

    /// Whether this process answers from before `revision` still.
    pub fn has_yet_to_apply(&self, revision: Revision) -> bool {
        self.mirror.applied() < revision
    }

    /// If this row is its own, and of this life of the store: everything that this process answers from is as of this,
    /// or newer.
    pub fn applied(&self, id: ReplicaId, incarnation: &Incarnation) -> Option<Revision> {
        let row = self.row.lock();
        let own = row.as_ref().is_some_and(|row| row.0 == id && row.1 == *incarnation);
        own.then(|| self.mirror.applied())
    }
}

/// What the sync loop works with.
pub struct Replication {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The steps.
    pub tail: Tail,
    /// How the process sees it.
    pub local: Arc<Local>,
    /// How long to answer after a sync.
    pub lease: Duration,
    /// What leases are counted on.
    pub boot: Arc<dyn BootClock>,
    /// For ids.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub random: Arc<dyn Random>,
}

/// Follows the log until `stop`, then deletes the replica's row, so that nobody waits for it.
pub async fn follow(mut replication: Replication, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match connected(&mut replication, &stop).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "the change log cannot be followed: trying again");
                tokio::select! {
                    () = tokio::time::sleep(RECONNECT_PAUSE) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }
}

/// As long as the connections hold.
async fn connected(replication: &mut Replication, stop: &CancellationToken) -> Result<()> {
    // A server that takes connections and says nothing must not hold this up for ever.
    let patience = replication.lease / 2;
    let mut feed = bounded(patience, replication.store.open_feed()).await?;
    let interval = (replication.lease / 6).min(SYNC_INTERVAL_MAX);
    loop {
        let id = registered(replication, &mut *feed, patience).await?;
        let sent = replication.boot.since_boot();
        let published = replication.tail.publish(sent);
        let sync = feed.sync(id, &published, SYNC_CHANGES_MAX);
        let next = replication.tail.synced(sent, &published, bounded(patience, sync).await?);
        replication.local.progress.notify_waiters();
        if stop.is_cancelled() {
            replication.tail.leave();
            *replication.local.row.lock() = None;
            return bounded(patience, feed.deregister(id)).await;
        }
        match next {
            Step::SyncAgain => {}
            Step::Register => {
                tracing::warn!(replica = %id, "given up by another, or the store began another life: starting afresh");
                *replication.local.row.lock() = None;
                // If the row is still there, nobody should wait for it.
                bounded(patience, feed.deregister(id)).await?;
            }
            Step::Wait => tokio::select! {
                due = until_due(&mut replication.tail, &replication.local, &mut *feed, interval) => due?,
                () = stop.cancelled() => {}
            },
        }
    }
}

/// Until there is reason to sync: that there are changes, or that it was so long ago.
async fn until_due(
    tail: &mut Tail,
    local: &Local,
    feed: &mut dyn ChangeFeed,
    interval: Duration,
) -> Result<()> {
    let mut due = Instant::now() + interval;
    loop {
        tokio::select! {
            hint = feed.wait(due.saturating_duration_since(Instant::now())) => match hint? {
                Hint::Changes(life, changes) => {
                    let news = tail.hear(&life, &changes);
                    local.progress.notify_waiters();
                    if news {
                        return Ok(());
                    }
                }
                Hint::Look => return Ok(()),
            },
            () = local.prompt.notified() => if local.is_behind() {
                if !feed.hears() {
                    return Ok(());
                }
                due = due.min(Instant::now() + NOTIFIED_WITHIN);
            },
        }
    }
}

/// The id of this process's row, made if there is none.
async fn registered(
    replication: &mut Replication,
    feed: &mut dyn ChangeFeed,
    patience: Duration,
) -> Result<ReplicaId> {
    if let Some((id, _)) = *replication.local.row.lock() {
        return Ok(id);
    }
    let random = random_array(&*replication.random)
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let id = ReplicaId::new(replication.clock.now(), random);
    let (incarnation, revision) = bounded(patience, feed.register(id, replication.lease)).await?;
    replication.tail.registered(incarnation.clone(), revision);
    *replication.local.row.lock() = Some((id, incarnation));
    tracing::debug!(replica = %id, revision = revision.0, "registered");
    Ok(id)
}

async fn bounded<T>(longest: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(longest, work).await.map_err(late)?
}
