//! Turns at the connections of a pool. A turn is waited for as long as anybody may wait; with a turn, there is a connection to
//! be had at once, or none. There are as many as the database grants connections: each that it refuses while there are others
//! takes a turn away, and now and then one is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// How long a connection that was refused is not asked for again.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// At most as many as the pool may have connections, first come, first served.
#[derive(Debug)]
pub(super) struct Turns {
    most: usize,
    free: Arc<Semaphore>,
    /// Connections that are held, or on their way back.
    held: Arc<AtomicUsize>,
    refused: Mutex<Refused>,
    /// Counts those who had a turn and got no connection.
    failures: watch::Sender<u64>,
}

/// Connections that the pool may have and the database does not grant.
#[derive(Debug)]
struct Refused {
    count: usize,
    /// When one was last refused, or tried again.
    last: Instant,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    /// Whether nobody has it after this.
    is_last: bool,
    held: Option<Arc<AtomicUsize>>,
}

impl Turn {
    /// A connection is held with it.
    pub(super) fn hold(mut self, turns: &Turns) -> Self {
        turns.held.fetch_add(1, Ordering::AcqRel);
        self.held = Some(Arc::clone(&turns.held));
        self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.fetch_sub(1, Ordering::AcqRel);
        }
        if let Some(permit) = self.permit.take().filter(|_| self.is_last) {
            permit.forget();
        }
    }
}

/// How a try to get a connection went.
pub(super) enum Tried<T> {
    /// One more was granted, or was idle.
    Granted(T),
    /// One of the pool's own came free while one more was waited for.
    Own(T),
    /// The pool has none, and another lends one, with a turn there.
    Lent(Turn, T),
}

/// What to try with a turn, and what else there is.
pub(super) trait Source {
    type Connection;
    /// Gets a connection.
    async fn connect(&self) -> sqlx::Result<Tried<Self::Connection>>;
    /// Connections that nobody holds.
    fn idle(&self) -> usize;
}

impl Turns {
    pub(super) fn new(connections: u32) -> Self {
        let most = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            held: Arc::default(),
            refused: Mutex::new(Refused { count: 0, last: Instant::now() }),
            failures: watch::Sender::new(0),
        }
    }

    /// Connections that are held, or on their way back.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Waits for a turn, and takes a connection with it. Where the database grants no more than there are, one of those
    /// is waited for. Where there are none, and another who had a turn got none meanwhile, there is no use in waiting:
    /// each would find the same, one after the other.
    pub(super) async fn take<S: Source>(
        &self,
        source: &S,
        longest: Duration,
    ) -> sqlx::Result<(Turn, S::Connection)> {
        let deadline = Instant::now() + longest;
        let mut failures = self.failures.subscribe();
        loop {
            self.try_one_more();
            let turn = tokio::time::timeout_at(deadline, async {
                tokio::select! {
                    biased;
                    _ = failures.changed() => Err(Error::PoolTimedOut),
                    turn = self.wait() => turn,
                }
            });
            let turn = turn.await.map_err(|_| Error::PoolTimedOut)??;
            let tried = tokio::time::timeout_at(deadline, source.connect()).await;
            match tried.unwrap_or(Err(Error::PoolTimedOut)) {
                Ok(Tried::Lent(turn, connection)) => return Ok((turn, connection)),
                Ok(Tried::Granted(connection)) => return Ok((turn.hold(self), connection)),
                Ok(Tried::Own(connection)) => {
                    let turn = turn.hold(self);
                    return Ok((self.withdraw(turn, source.idle()), connection));
                }
                Err(error) if !is_passing(&error) => return Err(error),
                Err(_) if self.held() + source.idle() > 0 && Instant::now() < deadline => {
                    drop(self.withdraw(turn, source.idle()));
                }
                Err(error) => {
                    self.failures.send_modify(|count| *count += 1);
                    return Err(error);
                }
            }
        }
    }

    /// Waits for a turn.
    pub(super) async fn wait(&self) -> sqlx::Result<Turn> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Error::PoolClosed)?;
        Ok(Turn { permit: Some(permit), is_last: false, held: None })
    }

    /// The database grants no more than there are, of which so many are idle: this turn is the last of its kind for now.
    /// One is left in any case.
    pub(super) fn withdraw(&self, mut turn: Turn, idle: usize) -> Turn {
        let mut refused = self.refused.lock();
        refused.last = Instant::now();
        if !turn.is_last && self.most - refused.count > (self.held() + idle).max(1) {
            turn.is_last = true;
            refused.count += 1;
        }
        turn
    }

    /// Gives a turn back that was taken away, if it is time to ask for one more.
    fn try_one_more(&self) {
        let mut refused = self.refused.lock();
        if refused.count > 0 && refused.last.elapsed() >= PAUSE {
            *refused = Refused { count: refused.count - 1, last: Instant::now() };
            self.free.add_permits(1);
        }
    }
}

/// Whether a connection may be had another time: the server is away or full, or a pooler leaves who comes waiting.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::PoolTimedOut | Error::Io(_) => true,
        Error::Database(error) => error.code().is_some_and(|code| {
            // A lack of resources, a server that starts, and what a pooler says that is full.
            code.starts_with("53") || matches!(&*code, "57P03" | "08P01" | "08006" | "08004")
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Grants as many connections as there are permits, and has none that is idle.
    struct Grants(Semaphore);

    impl Source for Grants {
        type Connection = ();

        async fn connect(&self) -> sqlx::Result<Tried<()>> {
            let granted = self.0.try_acquire().map_err(|_| Error::PoolTimedOut)?;
            granted.forget();
            Ok(Tried::Granted(()))
        }

        fn idle(&self) -> usize {
            0
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_gets_it_and_hears_at_once_that_there_are_no_connections() {
        let (turns, grants) = (Turns::new(1), Grants(Semaphore::new(2)));
        let (first, ()) = turns.take(&grants, LONG).await.expect("a turn");
        let mut second = Box::pin(turns.take(&grants, LONG));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let (second, ()) = second.await.expect("its turn");
        let mut third = Box::pin(turns.take(&grants, LONG));
        let mut fourth = Box::pin(turns.take(&grants, LONG));
        assert!(futures::poll!(&mut third).is_pending());
        assert!(futures::poll!(&mut fourth).is_pending());
        drop(second);
        third.await.expect_err("no connection");
        fourth.await.expect_err("nor for the next one");
        grants.0.add_permits(1);
        let (_turn, ()) = turns.take(&grants, LONG).await.expect("a turn, and a connection");
    }

    #[tokio::test]
    async fn where_fewer_are_granted_one_waits_for_those_there_are_and_more_are_tried_later() {
        let (turns, grants) = (Turns::new(3), Grants(Semaphore::new(1)));
        let (first, ()) = turns.take(&grants, LONG).await.expect("a turn");
        let mut second = Box::pin(turns.take(&grants, LONG));
        assert!(futures::poll!(&mut second).is_pending());
        // It waits for the only one, and asks for no other meanwhile.
        assert_eq!(turns.refused.lock().count, 2);
        grants.0.add_permits(1);
        drop(first);
        let (second, ()) = second.await.expect("the first one's turn");
        grants.0.add_permits(2);
        turns.refused.lock().last -= PAUSE;
        let (_third, ()) = turns.take(&grants, LONG).await.expect("one more is granted now");
        turns.refused.lock().last -= PAUSE;
        let (_fourth, ()) = turns.take(&grants, LONG).await.expect("and one more");
        drop(second);
        assert_eq!(turns.refused.lock().count, 0);
    }
}
