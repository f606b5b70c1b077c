//! Answers of a replica: drives a [`Reader`] with the store and with tasks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::catch_up::CatchUp;
use super::reader::Reader;
use super::request_tasks::RequestTasks;
use super::store_reads::{StoreReads, Ticket};
use super::{FactsQuery, Lease, LeaseSnapshot, LocalReplica, Lookup, Mirror};
use crate::model::{BootClock, Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::{Result, Store, StoreError};

/// A cache in front of the store.
pub struct CachedLookup {
    reader: Arc<Reader<Ticket>>,
    store_reads: StoreReads,
    catch_up: CatchUp,
    store: Arc<dyn Store>,
    boot: Arc<dyn BootClock>,
    /// How long after the end of the lease stale facts are served, while the store is unreachable.
    outage_grace: Duration,
}

impl CachedLookup {
    /// Creates the cache. Reads of the store run as tasks of `tasks`.
    pub fn new(
        store: Arc<dyn Store>,
        mirror: Arc<Mirror>,
        local: Arc<LocalReplica>,
        lease: Arc<Lease>,
        boot: Arc<dyn BootClock>,
        outage_grace: Duration,
        tasks: TaskTracker,
    ) -> Self {
        let reader = Arc::new(Reader::new(mirror, lease));
        let store_reads = StoreReads {
            reader: Arc::clone(&reader),
            store: Arc::clone(&store),
            boot: Arc::clone(&boot),
            tasks: RequestTasks { tracker: tasks },
        };
        let catch_up = CatchUp::new(Arc::clone(&store), local);
        Self { reader, store_reads, catch_up, store, boot, outage_grace }
    }

    /// Returns a function that keeps later requests from joining the reads in flight.
    pub fn detach_hook(&self) -> impl Fn() + Send + use<> {
        let reads = self.reader.reads_in_flight().clone();
        move || reads.detach_all()
    }

    fn mirror(&self) -> &Mirror {
        self.reader.mirror()
    }

    /// Returns stale facts in place of this error, if that is allowed and the facts are cached.
    fn stale_facts(&self, query: &FactsQuery<'_>, error: StoreError) -> Result<Facts> {
        let known =
            if self.may_serve_stale(&error) { self.reader.unchecked_facts(query) } else { None };
        known.map(|facts| Facts { stale: true, ..facts }).ok_or(error)
    }

    /// Whether stale facts may be served in place of this error.
    fn may_serve_stale(&self, error: &StoreError) -> bool {
        error.is_outage() && self.serves_stale()
    }
}

#[async_trait]
impl Lookup for CachedLookup {
    fn lease_snapshot(&self) -> LeaseSnapshot {
        self.reader.lease().snapshot()
    }

    fn lease_held_since(&self, snapshot: LeaseSnapshot) -> bool {
        self.reader.lease_held_since(snapshot, self.boot.since_boot())
    }

    fn cached_facts(&self, query: &FactsQuery<'_>, snapshot: LeaseSnapshot) -> Option<Facts> {
        let facts = self.reader.unchecked_facts(query)?;
        // Checked after reading, because the lease must still hold when the last entry is read.
        self.lease_held_since(snapshot).then_some(facts)
    }

    async fn look_up(&self, query: &FactsQuery<'_>) -> Result<Facts> {
        self.store_reads.look_up(query).await.or_else(|error| self.stale_facts(query, error))
    }

    async fn look_up_many(&self, queries: &[FactsQuery<'_>]) -> Result<Vec<Facts>> {
        let snapshot = self.lease_snapshot();
        let mut answers: Vec<Option<Facts>> =
            queries.iter().map(|query| self.cached_facts(query, snapshot)).collect();
        let missed: Vec<_> = answers
            .iter()
            .zip(queries)
            .filter(|(answer, _)| answer.is_none())
            .map(|(_, query)| query.owned())
            .collect();
        if missed.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let resets = self.mirror().resets();
        let read = self.store.look_up_many(&missed).await;
        let mut read = match read {
            Ok(read) => Ok(read.into_iter()),
            Err(error) => Err(error),
        };
        let gaps = answers.iter_mut().zip(queries).filter(|(answer, _)| answer.is_none());
        for (gap, query) in gaps {
            let facts = match &mut read {
                Ok(read) => {
                    let facts = read.next().ok_or(StoreError::RowsAffected {
                        expected: missed.len() as u64,
                        actual: 0,
                    })?;
                    self.mirror().insert(query.digest, query.workspace, &facts, resets);
                    facts
                }
                Err(error) => self.stale_facts(query, error.clone())?,
            };
            *gap = Some(facts);
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn cached_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>> {
        let snapshot = self.lease_snapshot();
        let known = self.mirror().cached_caller(digest)?;
        self.lease_held_since(snapshot).then_some(known)
    }

    fn may_exist(&self, digest: &Digest) -> bool {
        self.mirror().known_digests().may_contain(digest)
    }

    async fn catch_up(&self) {
        self.catch_up.wait().await;
    }

    fn note_new_digest(&self, digest: &Digest) {
        self.mirror().known_digests().insert(digest);
    }

    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>> {
        if let Some(caller) = self.cached_caller(digest) {
            return Ok(caller);
        }
        let drops = self.mirror().caller_drops();
        match self.store.find_caller_by_digest(digest).await {
            Ok(caller) => {
                let caller = caller.map(Arc::new);
                self.mirror().insert_caller(digest, caller.clone(), drops);
                Ok(caller)
            }
            Err(error) if self.may_serve_stale(&error) => {
                self.mirror().cached_caller(digest).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>> {
        let snapshot = self.lease_snapshot();
        let known = self.mirror().cached_caller_by_san(san);
        if let Some(caller) = known.filter(|_| self.lease_held_since(snapshot)) {
            return Ok(caller);
        }
        let drops = self.mirror().caller_drops();
        match self.store.find_caller_by_san(san.as_str()).await {
            Ok(caller) => {
                let caller = caller.map(Arc::new);
                self.mirror().insert_caller_by_san(san, caller.clone(), drops);
                Ok(caller)
            }
            Err(error) if self.may_serve_stale(&error) => {
                self.mirror().cached_caller_by_san(san).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn serves_stale(&self) -> bool {
        self.reader.may_serve_stale(self.outage_grace, self.boot.since_boot())
    }

    fn revision(&self) -> Revision {
        self.mirror().applied()
    }

    fn caller_drops(&self) -> u64 {
        self.mirror().caller_drops()
    }
}
