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
macro_rules! run {
    ($this:expr, async |$db:ident| $statement:expr) => {{
        let generation = $this.session.generation;
        let outcome = {
            let $db = &mut $this.session;
            $this.primary.bounded_write(generation, async { $statement }).await
        };
        $this.primary.write_health.note(&outcome);
        outcome
    }};
}

pub(super) use run;

#[async_trait]
impl WriteTx for PostgresTx {
    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        run!(self, async |db| audit::insert(db, audit).await)?;
        // The deferred triggers run now, at the very end: they lock the counter, which every other writer waits for.
        let floor = self.primary.floor();
        let (origin, revision) = run!(self, async |db| changes::append(db).await)?;
        // What was read in it was of no primary, then, or of one that was behind: nothing of it happens.
        self.primary.admit(self.session.generation, &floor, &origin, revision)?;
        let generation = self.session.generation;
        let committed = self.primary.bounded_write(generation, self.session.commit()).await;
        self.primary.write_health.note(&committed);
        committed?;
        self.primary.confirm(&origin, revision);
        tracing::debug!(transaction = self.name, revision = revision.0, "committed");
        Ok(revision)
    }
}
