//! A transaction that writes: READ COMMITTED, with the row locks that [`Lock`](crate::store::Lock) asks for.

use std::sync::Arc;

use async_trait::async_trait;

use super::primary::Primary;
use super::{Result, Session, audit, changes};
use crate::model::{AuditEvent, Revision};
use crate::store::WriteTx;

/// Dropping it rolls back.
pub(super) struct PostgresTx {
    pub(super) session: Session,
    pub(super) primary: Arc<Primary>,
    pub(super) name: &'static str,
}

/// Runs a statement, and takes in how writing goes. On a connection that fell silent it is not waited for for ever.
macro_rules! verb {
    ($this:expr, async |$db:ident| $verb:expr) => {{
        let generation = $this.session.generation;
        let outcome = {
            let $db = &mut $this.session;
            $this.primary.unless_lost(generation, async { $verb }).await
        };
        $this.primary.writes.note(&outcome);
        outcome
    }};
}

pub(super) use verb;

#[async_trait]
impl WriteTx for PostgresTx {
    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        verb!(self, async |db| audit::insert(db, audit).await)?;
        // The deferred triggers run now, at the very end: they lock the counter, which every other writer waits for.
        let floor = self.primary.floor();
        let (place, revision) = verb!(self, async |db| changes::append(db).await)?;
        // What was read in it was of no primary, then, or of one that was behind: nothing of it happens.
        self.primary.admit(self.session.generation, &floor, &place, revision)?;
        let generation = self.session.generation;
        let committed = self.primary.unless_lost(generation, self.session.commit()).await;
        self.primary.writes.note(&committed);
        committed?;
        self.primary.confirm(&place, revision);
        tracing::debug!(transaction = self.name, revision = revision.0, "committed");
        Ok(revision)
    }
}
