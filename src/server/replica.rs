//! A server as a replica: the use cases over a mirror, and the thread that keeps it true.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{CacheConfig, known_digests, spawn};
use crate::cache::{self, Barrier, Cached, Hub, Lease, Local, Mirror, Replication, Tail};
use crate::model::SystemClock;
use crate::service::{Commits, Options, Parts, Service, StoreClock};
use crate::store::Store;
use crate::token::OsRandom;

/// The thread that follows the change log.
pub(super) struct Replica {
    /// Ends the thread when it is dropped, be it with the runtime that the server ran on.
    stop: DropGuard,
    thread: JoinHandle<()>,
    /// Fills what is known of digests.
    filling: tokio::task::JoinHandle<()>,
}

/// Makes the use cases over a mirror, and begins to follow the change log.
pub(super) fn start(
    store: Arc<dyn Store>,
    config: CacheConfig,
    options: Options,
) -> (Arc<Service>, Replica) {
    let tasks = TaskTracker::new();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
    let mirror = Arc::new(Mirror::new(config.capacity));
    let lease = Arc::new(Lease::new(config.lease));
    let hub = Arc::new(Hub::default());
    let local = Arc::new(Local::new(Arc::clone(&mirror)));
    let cached = Cached::new(
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
    let filling = spawn(known_digests::keep(Arc::clone(&store), known, stop.clone()));
    let replication = Replication {
        store: Arc::clone(&store),
        tail: Tail::new(mirror, lease, Arc::clone(&hub), cached.detach()),
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
        hub,
        clock: Arc::new(StoreClock::new(Arc::clone(&clock) as _)),
        boot: clock,
        random,
        tasks,
        unknown_rate_max: config.unknown_rate_max,
        options,
    });
    (Arc::new(service), Replica::follow(replication, stop, filling))
}

impl Replica {
    /// On a thread of its own, which no load of requests can starve.
    fn follow(
        replication: Replication,
        stop: CancellationToken,
        filling: tokio::task::JoinHandle<()>,
    ) -> Self {
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(cache::follow(replication, token)),
                // Without it the lease is never had, and every answer comes from the store.
                Err(error) => tracing::error!(%error, "the change log cannot be followed"),
            }
        });
        Self { stop: stop.drop_guard(), thread, filling }
    }

    /// Takes leave of the store, so that nobody waits for this process.
    pub(super) async fn stop(self) {
        drop(self.stop);
        // It ends at once; one that panicked has nothing left to do.
        let _ = self.filling.await;
        // It ends within its own time limits; a thread that panicked has nothing left to do.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}
