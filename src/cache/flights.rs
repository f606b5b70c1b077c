//! Reads of the store in tasks of their own, so that a caller who goes away does not take the read of the others along.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Question;
use super::reader::{Fill, Miss, Reader};
use crate::model::{BootClock, Facts};
use crate::store::{Result, Store, StoreError};

/// What a read is waited for by: nothing until it has landed.
pub(super) type Ticket = watch::Receiver<Option<Result<Facts>>>;

/// Runs the reads that a [`Reader`] asks for.
pub(super) struct Flights {
    pub(super) reader: Arc<Reader<Ticket>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) boot: Arc<dyn BootClock>,
    pub(super) tasks: TaskTracker,
}

impl Flights {
    /// What the store says, by a read of its own or one that is under way.
    pub(super) async fn look_up(&self, question: &Question<'_>) -> Result<Facts> {
        let (land, mut ticket) = watch::channel(None);
        let facts = match self.reader.look_up(question, self.boot.since_boot(), &mut ticket) {
            Miss::Read(fill) if question.fresh => return self.read(fill).await,
            Miss::Read(fill) => {
                let read = self.read(fill);
                self.tasks.spawn(async move {
                    let outcome = read.await;
                    land.send_replace(Some(outcome));
                });
                landed(ticket).await?
            }
            Miss::Join => landed(ticket).await?,
        };
        if self.reader.suffices(question, &facts) {
            return Ok(facts);
        }
        self.read(self.reader.read(question)).await
    }

    fn read(&self, fill: Fill) -> impl Future<Output = Result<Facts>> + Send + use<> {
        let store = Arc::clone(&self.store);
        // Also if the read fails, panics or is dropped, the next one may begin.
        let flight = Flight { reader: Arc::clone(&self.reader), fill };
        async move {
            let (digest, workspace) = flight.fill.key();
            let facts = store.look_up(digest, workspace.as_deref()).await?;
            flight.reader.land(&flight.fill, &facts);
            Ok(facts)
        }
    }
}

/// A read under way. Dropping it takes it off the board.
struct Flight {
    reader: Arc<Reader<Ticket>>,
    fill: Fill,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.reader.end(&self.fill);
    }
}

async fn landed(mut ticket: Ticket) -> Result<Facts> {
    let outcome = ticket.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
    // Without a value the task has panicked.
    outcome.unwrap_or_else(|| Err(StoreError::Unavailable("a read was broken off".to_owned())))
}
