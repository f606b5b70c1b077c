//! Permits for the connections of a pool. Waiting happens here: the holder of a permit gets a connection at once, or
//! none. There is one permit for each connection that the database grants. If the database refuses a connection while
//! the pool has others, one permit is withdrawn, and it is retried now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Time before a refused connection is requested again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The permits of a pool, as many as its maximum size, granted first come, first served.
#[derive(Debug)]
pub(super) struct Permits {
    size: usize,
    free: Arc<Semaphore>,
    /// Number of connections in use or being returned.
    in_use: Arc<AtomicUsize>,
    withheld: Mutex<Withheld>,
    /// Number of permits whose holder got no connection.
    failures: watch::Sender<u64>,
}

/// Permits withdrawn because the database granted no connection for them.
#[derive(Debug)]
struct Withheld {
    count: usize,
    /// Time of the last refusal or retry.
    last: Instant,
}

/// A permit, released on drop.
#[derive(Debug)]
pub(super) struct Permit {
    semaphore: Option<OwnedSemaphorePermit>,
    /// Whether the permit is withdrawn instead of released.
    is_withdrawn: bool,
    in_use: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Marks that a connection is in use with this permit.
    pub(super) fn with_connection(mut self, permits: &Permits) -> Self {
        permits.in_use.fetch_add(1, Ordering::AcqRel);
        self.in_use = Some(Arc::clone(&permits.in_use));
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(in_use) = &self.in_use {
            in_use.fetch_sub(1, Ordering::AcqRel);
        }
        if let Some(permit) = self.semaphore.take().filter(|_| self.is_withdrawn) {
            permit.forget();
        }
    }
}

/// Outcome of an attempt to get a connection.
pub(super) enum AcquireOutcome<T> {
    /// A new or an idle connection.
    Granted(T),
    /// A connection that was returned while a new one was awaited.
    Freed(T),
    /// A connection of another pool, with a permit of that pool, because this pool has none.
    Lent(Permit, T),
}

/// Source of connections for the holder of a permit.
pub(super) trait ConnectionSource {
    type Connection;
    /// Tries to get a connection.
    async fn connect(&self) -> sqlx::Result<AcquireOutcome<Self::Connection>>;
    /// Returns the number of idle connections.
    fn idle(&self) -> usize;
}

impl Permits {
    pub(super) fn new(connections: u32) -> Self {
        let size = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            size,
            free: Arc::new(Semaphore::new(size)),
            in_use: Arc::default(),
            withheld: Mutex::new(Withheld { count: 0, last: Instant::now() }),
            failures: watch::Sender::new(0),
        }
    }

    /// Number of connections in use or being returned.
    pub(super) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Acquire)
    }

    /// Waits for a permit and takes a connection with it. If the database grants no further connection, waits for one
    /// of those in use. Fails at once if the pool has no connection and another waiter got none in the meantime: each
    /// waiter would find the same, one after the other.
    pub(super) async fn acquire<S: ConnectionSource>(
        &self,
        source: &S,
        timeout: Duration,
    ) -> sqlx::Result<(Permit, S::Connection)> {
        let deadline = Instant::now() + timeout;
        let mut failures = self.failures.subscribe();
        loop {
            self.retry_withheld();
            let permit = tokio::time::timeout_at(deadline, async {
                tokio::select! {
                    biased;
                    _ = failures.changed() => Err(Error::PoolTimedOut),
                    permit = self.wait() => permit,
                }
            });
            let permit = permit.await.map_err(|_| Error::PoolTimedOut)??;
            let outcome = tokio::time::timeout_at(deadline, source.connect()).await;
            match outcome.unwrap_or(Err(Error::PoolTimedOut)) {
                Ok(AcquireOutcome::Lent(permit, connection)) => return Ok((permit, connection)),
                Ok(AcquireOutcome::Granted(connection)) => {
                    return Ok((permit.with_connection(self), connection));
                }
                Ok(AcquireOutcome::Freed(connection)) => {
                    let permit = permit.with_connection(self);
                    return Ok((self.withdraw(permit, source.idle()), connection));
                }
                Err(error) if !is_transient(&error) => return Err(error),
                Err(_) if self.in_use() + source.idle() > 0 && Instant::now() < deadline => {
                    drop(self.withdraw(permit, source.idle()));
                }
                Err(error) => {
                    self.failures.send_modify(|count| *count += 1);
                    return Err(error);
                }
            }
        }
    }

    /// Waits for a permit.
    pub(super) async fn wait(&self) -> sqlx::Result<Permit> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Error::PoolClosed)?;
        Ok(Permit { semaphore: Some(permit), is_withdrawn: false, in_use: None })
    }

    /// Withdraws a permit because the database grants no more connections than there are, of which `idle` are idle. One
    /// permit always remains.
    pub(super) fn withdraw(&self, mut permit: Permit, idle: usize) -> Permit {
        let mut withheld = self.withheld.lock();
        withheld.last = Instant::now();
        if !permit.is_withdrawn && self.size - withheld.count > (self.in_use() + idle).max(1) {
            permit.is_withdrawn = true;
            withheld.count += 1;
        }
        permit
    }

    /// Restores a withdrawn permit if it is time to retry a connection.
    fn retry_withheld(&self) {
        let mut withheld = self.withheld.lock();
        if withheld.count > 0 && withheld.last.elapsed() >= RETRY_PAUSE {
            *withheld = Withheld { count: withheld.count - 1, last: Instant::now() };
            self.free.add_permits(1);
        }
    }
}

/// Returns whether a later attempt may succeed: the server is unreachable or full, or a pooler keeps new clients
/// waiting.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::PoolTimedOut | Error::Io(_) => true,
        Error::Database(error) => error.code().is_some_and(|code| {
            // A lack of resources, a server that is starting, or a pooler that is full.
            code.starts_with("53") || matches!(&*code, "57P03" | "08P01" | "08006" | "08004")
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Grants as many connections as the semaphore has permits, and never has an idle one.
    struct Grants(Semaphore);

    impl ConnectionSource for Grants {
        type Connection = ();

        async fn connect(&self) -> sqlx::Result<AcquireOutcome<()>> {
            let granted = self.0.try_acquire().map_err(|_| Error::PoolTimedOut)?;
            granted.forget();
            Ok(AcquireOutcome::Granted(()))
        }

        fn idle(&self) -> usize {
            0
        }
    }

    #[tokio::test]
    async fn a_waiter_gets_the_next_permit_and_fails_at_once_if_there_is_no_connection() {
        let (permits, grants) = (Permits::new(1), Grants(Semaphore::new(2)));
        let (first, ()) = permits.acquire(&grants, LONG).await.expect("a permit");
        let mut second = Box::pin(permits.acquire(&grants, LONG));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let (second, ()) = second.await.expect("its permit");
        let mut third = Box::pin(permits.acquire(&grants, LONG));
        let mut fourth = Box::pin(permits.acquire(&grants, LONG));
        assert!(futures::poll!(&mut third).is_pending());
        assert!(futures::poll!(&mut fourth).is_pending());
        drop(second);
        third.await.expect_err("no connection");
        fourth.await.expect_err("nor for the next one");
        grants.0.add_permits(1);
        let (_turn, ()) = permits.acquire(&grants, LONG).await.expect("a permit, and a connection");
    }

    #[tokio::test]
    async fn if_fewer_connections_are_granted_waiters_share_them_and_more_are_tried_later() {
        let (permits, grants) = (Permits::new(3), Grants(Semaphore::new(1)));
        let (first, ()) = permits.acquire(&grants, LONG).await.expect("a permit");
        let mut second = Box::pin(permits.acquire(&grants, LONG));
        assert!(futures::poll!(&mut second).is_pending());
        // It waits for the only connection, and requests no other in the meantime.
        assert_eq!(permits.withheld.lock().count, 2);
        grants.0.add_permits(1);
        drop(first);
        let (second, ()) = second.await.expect("the permit of the first");
        grants.0.add_permits(2);
        permits.withheld.lock().last -= RETRY_PAUSE;
        let (_third, ()) = permits.acquire(&grants, LONG).await.expect("one more is granted now");
        permits.withheld.lock().last -= RETRY_PAUSE;
        let (_fourth, ()) = permits.acquire(&grants, LONG).await.expect("and one more");
        drop(second);
        assert_eq!(permits.withheld.lock().count, 0);
    }
}
