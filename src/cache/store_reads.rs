//! Runs each read of the store in a task, so that a caller that goes away does not cancel a read that others have
//! joined. The task holds the share of the request that began the read.

use std::sync::Arc;

use tokio::sync::watch;

use super::FactsQuery;
use super::reader::{Fill, MissAction, Reader};
use super::request_tasks::RequestTasks;
use crate::model::{BootClock, Facts};
use crate::store::{Result, Store, StoreError};

/// Ticket by which a request waits for a read. `None` until the read has ended.
pub(super) type Ticket = watch::Receiver<Option<Result<Facts>>>;

/// Runs the reads that a [`Reader`] asks for.
pub(super) struct StoreReads {
    pub(super) reader: Arc<Reader<Ticket>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) boot: Arc<dyn BootClock>,
    pub(super) tasks: RequestTasks,
}

impl StoreReads {
    /// Reads the store, or joins a read that is in flight.
    pub(super) async fn look_up(&self, query: &FactsQuery<'_>) -> Result<Facts> {
        let (done, mut ticket) = watch::channel(None);
        let facts = match self.reader.on_miss(query, self.boot.since_boot(), &mut ticket) {
            MissAction::Read(fill) if query.fresh => return self.read(fill).await,
            MissAction::Read(fill) => {
                self.tasks.spawn(self.read(fill), move |outcome| {
                    done.send_replace(Some(outcome));
                });
                result_of(ticket).await?
            }
            MissAction::Join => result_of(ticket).await?,
        };
        if self.reader.suffices(query, &facts) {
            return Ok(facts);
        }
        self.read(self.reader.unshared_read(query)).await
    }

    fn read(&self, fill: Fill) -> impl Future<Output = Result<Facts>> + Send + use<> {
        let store = Arc::clone(&self.store);
        // The guard lets the next read begin even if this one fails, panics or is dropped.
        let guard = ReadGuard { reader: Arc::clone(&self.reader), fill };
        async move {
            let (digest, workspace) = guard.fill.key();
            let facts = store.look_up(digest, workspace.as_deref()).await?;
            guard.reader.complete(&guard.fill, &facts);
            Ok(facts)
        }
    }
}

/// A read in flight. Dropping the guard removes it from the reads in flight.
struct ReadGuard {
    reader: Arc<Reader<Ticket>>,
    fill: Fill,
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        self.reader.discard(&self.fill);
    }
}

async fn result_of(mut ticket: Ticket) -> Result<Facts> {
    let outcome = ticket.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
    // Without a value the task has panicked.
    outcome.unwrap_or_else(|| Err(StoreError::Unavailable("a read was aborted".to_owned())))
}
