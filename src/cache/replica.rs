//! Follows the change log: drives a [`Follower`] with connections, for as long as the process runs. It belongs on a
//! separate thread, so that no load can starve it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    ChangeApplier, Follower, FollowerAction, FollowerEvent, LocalReplica, SYNC_CHANGES_MAX,
};
use crate::model::{BootClock, Clock, ReplicaId};
use crate::store::{ChangeFeed, Result, Store, StoreError};
use crate::token::{Random, random_array};

/// Timeout of connecting, which includes the search for the primary.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a panic.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Pause after the store denied something. It is reachable, and a person has to act first.
const DENIED_PAUSE: Duration = Duration::from_secs(1);

/// The parts that the follower works with.
pub struct FollowerParts {
    /// The store to follow.
    pub store: Arc<dyn Store>,
    /// Applies the outcome of a sync.
    pub applier: ChangeApplier,
    /// The replica, as the rest of the process sees it.
    pub local: Arc<LocalReplica>,
    /// How long memory is valid after a sync.
    pub lease: Duration,
    /// The clock of the lease.
    pub boot: Arc<dyn BootClock>,
    /// The clock for replica ids.
    pub clock: Arc<dyn Clock>,
    /// The random source for replica ids.
    pub random: Arc<dyn Random>,
}

/// Follows the change log until `stop`, then marks the replica's row as ended, so that no revocation waits for it.
/// After a panic it starts again, because a server without a lease would read the store for every answer.
pub async fn follow_change_log(parts: FollowerParts, stop: CancellationToken) {
    let FollowerParts { store, applier, local, lease, boot, clock, random } = parts;
    let mut follower = Follower::new(applier, Arc::clone(&local), lease);
    // A server that accepts connections and never answers must not block the follower.
    let patience = lease / 2;
    let mut driver = Driver {
        store,
        boot,
        clock,
        random,
        lease,
        patience,
        feed: None,
        failing: false,
        denied: false,
    };
    loop {
        let turns = AssertUnwindSafe(drive(&mut follower, &mut driver, &local, &stop));
        if turns.catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!("the change log follower panicked: restarting it");
        follower.abandon();
        driver.rest(RESTART_PAUSE, &stop).await;
    }
}

async fn drive(
    follower: &mut Follower,
    driver: &mut Driver,
    local: &LocalReplica,
    stop: &CancellationToken,
) {
    let mut event = FollowerEvent::Due;
    loop {
        if stop.is_cancelled() {
            follower.stop();
        }
        let action = follower.on(event, driver.boot.since_boot());
        let outcome = match action {
            FollowerAction::End => return,
            FollowerAction::Disconnect(pause) => {
                driver.rest(pause, stop).await;
                Ok(FollowerEvent::Due)
            }
            FollowerAction::Wait(longest) => tokio::select! {
                event = driver.wait(longest) => event,
                () = local.sync_requested() => Ok(FollowerEvent::SyncRequested),
                () = stop.cancelled() => Ok(FollowerEvent::Due),
            },
            other => driver.perform(other).await,
        };
        event = outcome.unwrap_or_else(|error| {
            if matches!(error, StoreError::Lost(_)) {
                // The store that memory rests on is lost.
                follower.abandon();
            }
            driver.failed(&error)
        });
        if let FollowerEvent::Synced(Some(_)) = event {
            driver.failing = false;
        }
    }
}

struct Driver {
    store: Arc<dyn Store>,
    boot: Arc<dyn BootClock>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    lease: Duration,
    patience: Duration,
    feed: Option<Box<dyn ChangeFeed>>,
    /// Whether something has failed since the last successful sync.
    failing: bool,
    /// Whether the last failure was a denial.
    denied: bool,
}

impl Driver {
    /// Logs a failure: a warning for the first one since the last sync, then at debug level.
    fn failed(&mut self, error: &StoreError) -> FollowerEvent {
        self.denied = matches!(error, StoreError::Denied(_));
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(%error, "cannot follow the change log: retrying");
        } else {
            tracing::warn!(%error, "cannot follow the change log: retrying until it works");
        }
        FollowerEvent::Failed
    }

    /// Drops the connections and waits.
    async fn rest(&mut self, pause: Duration, stop: &CancellationToken) {
        self.feed = None;
        let pause = if std::mem::take(&mut self.denied) { pause.max(DENIED_PAUSE) } else { pause };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn wait(&mut self, longest: Duration) -> Result<FollowerEvent> {
        let started = tokio::time::Instant::now();
        let hint = self.feed()?.wait(longest).await?;
        // A feed without news returns when the time is over. That is not a hint.
        let over = started.elapsed() >= longest;
        Ok(if over { FollowerEvent::Due } else { FollowerEvent::Notified(hint) })
    }

    async fn perform(&mut self, action: FollowerAction) -> Result<FollowerEvent> {
        let (patience, lease) = (self.patience, self.lease);
        match action {
            FollowerAction::Connect => {
                self.feed = Some(bounded(CONNECT_PATIENCE, self.store.open_feed()).await?);
                Ok(FollowerEvent::Connected)
            }
            FollowerAction::Register => {
                let random = random_array(&*self.random)
                    .map_err(|error| StoreError::Unavailable(error.to_string()))?;
                let id = ReplicaId::new(self.clock.now(), random);
                let registering = self.feed()?.register(id, lease);
                let (incarnation, revision) = bounded(patience, registering).await?;
                Ok(FollowerEvent::Registered(id, incarnation, revision))
            }
            FollowerAction::Sync(id, published) => {
                let sync = self.feed()?.sync(id, &published, SYNC_CHANGES_MAX);
                Ok(FollowerEvent::Synced(bounded(patience, sync).await?))
            }
            FollowerAction::Deregister(id) => {
                bounded(patience, self.feed()?.deregister(id)).await?;
                Ok(FollowerEvent::Deregistered)
            }
            FollowerAction::Wait(_) | FollowerAction::Disconnect(_) | FollowerAction::End => {
                Ok(FollowerEvent::Due)
            }
        }
    }

    fn feed(&mut self) -> Result<&mut dyn ChangeFeed> {
        let feed = self.feed.as_deref_mut();
        // The state machine connects before any other action.
        feed.map(|feed| feed as _)
            .ok_or_else(|| StoreError::Unavailable("not connected".to_owned()))
    }
}

async fn bounded<T>(longest: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| StoreError::Unavailable("it did not answer in time".to_owned());
    tokio::time::timeout(longest, work).await.map_err(late)?
}
