//! The use cases without a cache, for commands of the command line.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::cache::{Barrier, UncachedLookup};
use crate::model::{Clock, SystemClock};
use crate::service::{Commits, Options, Parts, Service, StoreClock};
use crate::store::{self, Location, Store, StoreError};
use crate::token::OsRandom;

/// Opens an existing store and builds the use cases without a cache, for the command line. The process is not a replica:
/// its writes wait for the servers on the same store, but no revocation waits for this process. Never creates or migrates
/// a store.
///
/// # Errors
/// The store does not exist, or its schema has another version.
pub async fn open_uncached_service(
    location: &Location,
    options: Options,
) -> Result<Arc<Service>, StoreError> {
    let store = store::open_existing(location).await?;
    let clock = Arc::new(StoreClock::new(Arc::new(SystemClock)));
    let service = uncached_service(store, clock, options);
    // If the store cannot be reached, the next statement of the command reports it.
    let _ = service.sync_clock().await;
    Ok(service)
}

/// Builds the use cases on this store and clock, without a cache.
pub fn uncached_service(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Arc<Service> {
    let boot = Arc::new(SystemClock);
    let barrier = Barrier::new(Arc::clone(&store), Arc::clone(&boot) as _, None);
    Arc::new(Service::new(Parts {
        lookup: Arc::new(UncachedLookup(Arc::clone(&store))),
        commits: Commits::new(store, barrier),
        change_buffer: Arc::default(),
        clock,
        boot,
        random: Arc::new(OsRandom),
        tasks: TaskTracker::new(),
        unknown_rate_max: 0,
        options,
    }))
}
