//! Looks everything up in the store: always current, so that no revocation has to wait for it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{FactsQuery, LeaseSnapshot, Lookup};
use crate::model::{Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::{Result, Store};

/// A look-up without a cache.
pub struct UncachedLookup(pub Arc<dyn Store>);

#[async_trait]
impl Lookup for UncachedLookup {
    fn lease_snapshot(&self) -> LeaseSnapshot {
        LeaseSnapshot::NONE
    }

    fn lease_held_since(&self, _: LeaseSnapshot) -> bool {
        false
    }

    fn cached_facts(&self, _: &FactsQuery<'_>, _: LeaseSnapshot) -> Option<Facts> {
        None
    }

    async fn look_up(&self, query: &FactsQuery<'_>) -> Result<Facts> {
        self.0.look_up(query.digest, query.workspace).await
    }

    async fn look_up_many(&self, queries: &[FactsQuery<'_>]) -> Result<Vec<Facts>> {
        let asked: Vec<_> = queries.iter().map(FactsQuery::owned).collect();
        self.0.look_up_many(&asked).await
    }

    fn cached_caller(&self, _: &Digest) -> Option<Option<Arc<Caller>>> {
        None
    }

    fn may_exist(&self, _: &Digest) -> bool {
        false
    }

    async fn catch_up(&self) {}

    fn note_new_digest(&self, _: &Digest) {}

    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>> {
        Ok(self.0.find_caller_by_digest(digest).await?.map(Arc::new))
    }

    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>> {
        Ok(self.0.find_caller_by_san(san.as_str()).await?.map(Arc::new))
    }

    fn revision(&self) -> Revision {
        Revision::default()
    }

    fn caller_drops(&self) -> u64 {
        0
    }
}
