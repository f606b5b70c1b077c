//! Asks the store each time: always fresh, and never in the way of a barrier.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Lookup, Question, Term};
use crate::model::{Caller, CertificateSan, Digest, Facts, Revision};
use crate::store::{Result, Store};

/// No memory.
pub struct Direct(pub Arc<dyn Store>);

#[async_trait]
impl Lookup for Direct {
    fn term(&self) -> Term {
        Term::NONE
    }

    fn may_believe(&self, _: Term) -> bool {
        false
    }

    fn recall(&self, _: &Question<'_>, _: Term) -> Option<Facts> {
        None
    }

    async fn look_up(&self, question: &Question<'_>) -> Result<Facts> {
        self.0.look_up(question.digest, question.workspace).await
    }

    async fn look_up_many(&self, questions: &[Question<'_>]) -> Result<Vec<Facts>> {
        let asked: Vec<_> = questions.iter().map(Question::owned).collect();
        self.0.look_up_many(&asked).await
    }

    fn recall_caller(&self, _: &Digest) -> Option<Option<Arc<Caller>>> {
        None
    }

    fn may_know(&self, _: &Digest) -> bool {
        false
    }

    async fn catch_up(&self) {}

    fn expect(&self, _: &Digest) {}

    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>> {
        Ok(self.0.find_caller_by_digest(digest).await?.map(Arc::new))
    }

    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>> {
        Ok(self.0.find_caller_by_san(san.as_str()).await?.map(Arc::new))
    }

    fn revision(&self) -> Revision {
        Revision::default()
    }

    fn callers_generation(&self) -> u64 {
        0
    }
}
