//! A transaction that writes, at isolation level READ COMMITTED. Rows are locked as [`Lock`](crate::store::Lock) says.

use std::sync::Arc;

use async_trait::async_trait;

use super::primary::Primary;
use super::{Result, Session, audit, changes};
use crate::model::{AuditEvent, Revision};
use crate::store::WriteTx;

/// A transaction that writes. Dropping it rolls back.
pub(super) struct PostgresTx {
    pub(super) session: Session,
    pub(super) primary: Arc<Primary>,
    pub(super) name: &'static str,
}

/// Runs a statement of the transaction and records its outcome. On an unresponsive connection the wait is bounded.
macro_rules! run {
    ($this:expr, async |$db:ident| $statement:expr) => {{
        let pool_generation = $this.session.pool_generation;
        let outcome = {
            let $db = &mut $this.session;
            // Boxed, so that the wait is compiled once for each type of result and not for each statement.
            let statement: futures::future::BoxFuture<'_, _> = Box::pin(async { $statement });
            $this.primary.bounded_write(pool_generation, statement).await
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
        // Run the deferred triggers last: they lock the counter, for which every other writer waits.
        let floor = self.primary.floor();
        let (origin, revision) = run!(self, async |db| changes::append(db).await)?;
        // If the server is not the primary, or is behind, then so was everything that the transaction has read, and it
        // must not commit.
        self.primary.admit(self.session.pool_generation, &floor, &origin, revision)?;
        let pool_generation = self.session.pool_generation;
        let committed = self.primary.bounded_write(pool_generation, self.session.commit()).await;
        self.primary.write_health.note(&committed);
        committed?;
        self.primary.confirm(&origin, revision);
        tracing::debug!(transaction = self.name, revision = revision.0, "committed");
        Ok(revision)
    }
}
