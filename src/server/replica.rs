//! A server as a replica: the use cases on a mirror of the store, and the thread that keeps the mirror current.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{CacheConfig, known_digests, spawn};
use crate::cache::{
    self, Barrier, CachedLookup, ChangeApplier, ChangeBuffer, FollowerParts, Lease, LocalReplica,
    Mirror,
};
use crate::model::SystemClock;
use crate::service::{Commits, Options, Parts, Service, StoreClock};
use crate::store::Store;
use crate::token::OsRandom;

/// The thread that follows the change log.
pub(super) struct Replica {
    /// Ends the thread when it is dropped, also if the server's runtime is dropped.
    stop: DropGuard,
    thread: JoinHandle<()>,
    /// Task that fills the known digests.
    filling: tokio::task::JoinHandle<()>,
}

/// Builds the use cases on a mirror, and starts to follow the change log.
pub(super) fn start(
    store: Arc<dyn Store>,
    config: CacheConfig,
    options: Options,
) -> (Arc<Service>, Replica) {
    let tasks = TaskTracker::new();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
    let mirror = Arc::new(Mirror::new(config.capacity));
    let lease = Arc::new(Lease::new(config.lease));
    let change_buffer = Arc::new(ChangeBuffer::default());
    let local = Arc::new(LocalReplica::new(Arc::clone(&mirror)));
    let cached = CachedLookup::new(
        Arc::clone(&store),
        Arc::clone(&mirror),
        Arc::clone(&local),
        Arc::clone(&lease),
        Arc::clone(&clock) as _,
        config.outage_grace,
        tasks.clone(),
    );
    let stop = CancellationToken::new();
    let known = Arc::clone(mirror.known_digests());
    let filling = spawn(known_digests::keep_filled(Arc::clone(&store), known, stop.clone()));
    let parts = FollowerParts {
        store: Arc::clone(&store),
        applier: ChangeApplier::new(
            mirror,
            lease,
            Arc::clone(&change_buffer),
            cached.detach_hook(),
        ),
        local: Arc::clone(&local),
        lease: config.lease,
        boot: Arc::clone(&clock) as _,
        clock: Arc::clone(&clock) as _,
        random: Arc::clone(&random) as _,
    };
    let barrier = Barrier::new(Arc::clone(&store), Arc::clone(&clock) as _, Some(local));
    barrier.start();
    let lookup = Arc::new(cached);
    let service = Service::new(Parts {
        commits: Commits::new(store, barrier),
        lookup,
        change_buffer,
        clock: Arc::new(StoreClock::new(Arc::clone(&clock) as _)),
        boot: clock,
        random,
        tasks,
        unknown_rate_max: config.unknown_rate_max,
        options,
    });
    (Arc::new(service), Replica::follow(parts, stop, filling))
}

impl Replica {
    /// Follows the change log on a separate thread, so that a load of requests cannot starve it.
    fn follow(
        parts: FollowerParts,
        stop: CancellationToken,
        filling: tokio::task::JoinHandle<()>,
    ) -> Self {
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(cache::follow_change_log(parts, token)),
                // Without this thread there is never a lease, so every answer comes from the store.
                Err(error) => tracing::error!(%error, "cannot follow the change log"),
            }
        });
        Self { stop: stop.drop_guard(), thread, filling }
    }

    /// Deregisters from the store, so that no revocation waits for this process.
    pub(super) async fn stop(self) {
        drop(self.stop);
        // The task ends at once. If it panicked, there is nothing left to wait for.
        let _ = self.filling.await;
        // The thread ends within its time limits. If it panicked, there is nothing left to wait for.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}
