//! A replica's answers: drives a [`Reader`] with the store and with tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::catch_up::CatchUp;
use super::flights::{Flights, Ticket};
use super::reader::Reader;
use super::{Lease, Local, Lookup, Mirror, Question, Term};
use crate::model::{BootClock, Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::{Result, Store, StoreError};

/// Memory before the store.
pub struct Cached {
    reader: Arc<Reader<Ticket>>,
    flights: Flights,
    catch_up: CatchUp,
    store: Arc<dyn Store>,
    boot: Arc<dyn BootClock>,
    /// How long after the lease to answer what was known, where the store is out of reach.
    outage_grace: Duration,
}

impl Cached {
    /// Over these parts. Reads of the store are tasks of `tasks`.
    pub fn new(
        store: Arc<dyn Store>,
        mirror: Arc<Mirror>,
        local: Arc<Local>,
        lease: Arc<Lease>,
        boot: Arc<dyn BootClock>,
        outage_grace: Duration,
        tasks: TaskTracker,
    ) -> Self {
        let reader = Arc::new(Reader::new(mirror, lease));
        let flights = Flights {
            reader: Arc::clone(&reader),
            store: Arc::clone(&store),
            boot: Arc::clone(&boot),
            tasks,
        };
        let catch_up = CatchUp::new(Arc::clone(&store), local);
        Self { reader, flights, catch_up, store, boot, outage_grace }
    }

    /// Lets nobody join a read that is under way; for the tail.
    pub fn detach(&self) -> impl Fn() + Send + use<> {
        let board = self.reader.board().clone();
        move || board.detach()
    }

    fn mirror(&self) -> &Mirror {
        self.reader.mirror()
    }

    /// What was last known rather than nothing, after this failure.
    fn bridge(&self, question: &Question<'_>, error: StoreError) -> Result<Facts> {
        let known = if self.may_bridge(&error) { self.reader.recall(question) } else { None };
        known.map(|facts| Facts { stale: true, ..facts }).ok_or(error)
    }

    /// Whether what was last known is wanted rather than nothing, after this failure.
    fn may_bridge(&self, error: &StoreError) -> bool {
        error.is_outage() && self.bridges()
    }
}

#[async_trait]
impl Lookup for Cached {
    fn term(&self) -> Term {
        self.reader.lease().term()
    }

    fn may_believe(&self, term: Term) -> bool {
        self.reader.may_believe(term, self.boot.since_boot())
    }

    fn recall(&self, question: &Question<'_>, term: Term) -> Option<Facts> {
        let facts = self.reader.recall(question)?;
        // After the reading: the lease has to hold when the last of it was read.
        self.may_believe(term).then_some(facts)
    }

    async fn look_up(&self, question: &Question<'_>) -> Result<Facts> {
        self.flights.look_up(question).await.or_else(|error| self.bridge(question, error))
    }

    async fn look_up_many(&self, questions: &[Question<'_>]) -> Result<Vec<Facts>> {
        let term = self.term();
        let mut answers: Vec<Option<Facts>> =
            questions.iter().map(|question| self.recall(question, term)).collect();
        let missed: Vec<_> = answers
            .iter()
            .zip(questions)
            .filter(|(answer, _)| answer.is_none())
            .map(|(_, question)| question.owned())
            .collect();
        if missed.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let life = self.mirror().life();
        let read = self.store.look_up_many(&missed).await;
        let mut read = match read {
            Ok(read) => Ok(read.into_iter()),
            Err(error) => Err(error),
        };
        let holes = answers.iter_mut().zip(questions).filter(|(answer, _)| answer.is_none());
        for (hole, question) in holes {
            let facts = match &mut read {
                Ok(read) => {
                    let facts = read.next().ok_or(StoreError::RowsAffected {
                        expected: missed.len() as u64,
                        actual: 0,
                    })?;
                    self.mirror().remember(question.digest, question.workspace, &facts, life);
                    facts
                }
                Err(error) => self.bridge(question, error.clone())?,
            };
            *hole = Some(facts);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn recall_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>> {
        let term = self.term();
        let known = self.mirror().recall_caller(digest)?;
        self.may_believe(term).then_some(known)
    }

    fn may_know(&self, digest: &Digest) -> bool {
        self.mirror().known_digests().may_have(digest)
    }

    async fn catch_up(&self) {
        self.catch_up.wait().await;
    }

    fn expect(&self, digest: &Digest) {
        self.mirror().known_digests().note(digest);
    }

    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>> {
        if let Some(caller) = self.recall_caller(digest) {
            return Ok(caller);
        }
        let generation = self.mirror().callers_generation();
        match self.store.find_caller_by_digest(digest).await {
            Ok(caller) => {
                let caller = caller.map(Arc::new);
                self.mirror().remember_caller(digest, caller.clone(), generation);
                Ok(caller)
            }
            Err(error) if self.may_bridge(&error) => {
                self.mirror().recall_caller(digest).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>> {
        let term = self.term();
        let known = self.mirror().recall_caller_by_san(san);
        if let Some(caller) = known.filter(|_| self.may_believe(term)) {
            return Ok(caller);
        }
        let generation = self.mirror().callers_generation();
        match self.store.find_caller_by_san(san.as_str()).await {
            Ok(caller) => {
                let caller = caller.map(Arc::new);
                self.mirror().remember_caller_by_san(san, caller.clone(), generation);
                Ok(caller)
            }
            Err(error) if self.may_bridge(&error) => {
                self.mirror().recall_caller_by_san(san).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn bridges(&self) -> bool {
        self.reader.may_bridge(self.outage_grace, self.boot.since_boot())
    }

    fn revision(&self) -> Revision {
        self.mirror().applied()
    }

    fn callers_generation(&self) -> u64 {
        self.mirror().callers_generation()
    }
}
