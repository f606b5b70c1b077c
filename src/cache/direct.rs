//! Asks the store each time: always fresh, and never in the way of a barrier.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Facts, Lookup, Question};
use crate::model::{Caller, CertificateSan, Digest};
use crate::store::{Result, Store};

/// No memory.
pub struct Direct(pub Arc<dyn Store>);

#[async_trait]
impl Lookup for Direct {
    fn recall(&self, _: &Question<'_>) -> Option<Facts> {
        None
    }

    async fn look_up(&self, question: &Question<'_>) -> Result<Facts> {
        Ok(self.0.look_up(question.digest, question.workspace).await?.into())
    }

    async fn look_up_many(&self, questions: &[Question<'_>]) -> Result<Vec<Facts>> {
        let asked: Vec<_> = questions.iter().map(Question::owned).collect();
        Ok(self.0.look_up_many(&asked).await?.into_iter().map(Facts::from).collect())
    }

    fn recall_caller(&self, _: &Digest) -> Option<Option<Arc<Caller>>> {
        None
    }

    async fn find_caller(&self, digest: &Digest) -> Result<Option<Arc<Caller>>> {
        Ok(self.0.find_caller_by_digest(digest).await?.map(Arc::new))
    }

    async fn find_caller_by_san(&self, san: &CertificateSan) -> Result<Option<Arc<Caller>>> {
        Ok(self.0.find_caller_by_san(san.as_str()).await?.map(Arc::new))
    }

    fn callers_generation(&self) -> Option<u64> {
        None
    }
}
