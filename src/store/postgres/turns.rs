//! Turns at the connections of a pool. The pool itself cannot tell a connection that will come free from one that cannot be
//! made, and gives both the same time. A turn is waited for as long as anybody may wait; with a turn, there is a connection
//! to be had at once, or none.

use std::sync::Arc;

use sqlx::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::store::TURN_TIMEOUT;

/// As many as the pool has connections, first come, first served.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    /// Counts those who had a turn and got no connection.
    failures: watch::Sender<u64>,
}

/// Somebody's turn, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

impl Turns {
    pub(super) fn new(connections: u32) -> Self {
        let connections = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(connections)), failures: watch::Sender::new(0) }
    }

    /// Waits for a turn, and takes a connection with it. Where another who had one got none meanwhile, there is no use in
    /// waiting: each would find the same, one after the other.
    pub(super) async fn take<T>(
        &self,
        connecting: impl Future<Output = sqlx::Result<T>>,
    ) -> sqlx::Result<(Turn, T)> {
        let mut failures = self.failures.subscribe();
        let turn = Arc::clone(&self.free).acquire_owned();
        let turn = tokio::time::timeout(TURN_TIMEOUT, async {
            tokio::select! {
                biased;
                _ = failures.changed() => Err(Error::PoolTimedOut),
                turn = turn => turn.map_err(|_| Error::PoolClosed),
            }
        });
        let turn = turn.await.map_err(|_| Error::PoolTimedOut)??;
        match connecting.await {
            Ok(connection) => Ok((turn, connection)),
            Err(error) => {
                if matches!(error, Error::PoolTimedOut | Error::Io(_)) {
                    self.failures.send_modify(|count| *count += 1);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_turn_gets_it_and_hears_at_once_that_there_are_no_connections() {
        let turns = Turns::new(1);
        let (first, ()) = turns.take(async { Ok(()) }).await.expect("a turn");
        let mut second = Box::pin(turns.take(async { Ok(()) }));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let (second, ()) = second.await.expect("its turn");
        let mut third = Box::pin(turns.take(async { Err::<(), _>(Error::PoolTimedOut) }));
        let mut fourth = Box::pin(turns.take(async { Ok(()) }));
        assert!(futures::poll!(&mut third).is_pending());
        assert!(futures::poll!(&mut fourth).is_pending());
        drop(second);
        third.await.expect_err("no connection");
        fourth.await.expect_err("nor for the next one");
        let (_turn, ()) = turns.take(async { Ok(()) }).await.expect("a turn, and a connection");
    }
}
