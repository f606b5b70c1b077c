//! Write transactions. Each holds SQLite's only lock from the beginning, so [`Lock`](crate::store::Lock) has no effect.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::watched::Watched;
use super::{Result, audit, changes};
use crate::model::{AuditEvent, Revision};
use crate::store::{StoreError, WriteTx};

/// A write transaction. Dropping it rolls back.
pub(super) struct SqliteTx {
    pub(super) transaction: Transaction<'static, Sqlite>,
    pub(super) file: Arc<Watched>,
    /// The first error. SQLite may have rolled the transaction back, and a further statement would then run outside of
    /// it.
    pub(super) failed: Option<StoreError>,
    pub(super) name: &'static str,
}

impl SqliteTx {
    /// Fails if an earlier statement has failed.
    pub(super) fn refuse_if_failed(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Records the outcome of a statement. A violated constraint undoes only that statement, so the transaction can go
    /// on.
    pub(super) fn record<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let outcome = self.file.record(outcome);
        self.failed = match &outcome {
            Ok(_) | Err(StoreError::Conflict(_)) => None,
            Err(error) => Some(error.clone()),
        };
        outcome
    }
}

/// Runs a statement, unless an earlier one has failed.
macro_rules! run {
    ($this:expr, async |$db:ident| $statement:expr) => {{
        $this.refuse_if_failed()?;
        let outcome: $crate::store::Result<_> = {
            let $db = &mut *$this.transaction;
            async { $statement }.await
        };
        $this.record(outcome)
    }};
}

pub(super) use run;

#[async_trait]
impl WriteTx for SqliteTx {
    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        run!(self, async |db| audit::insert(db, audit).await)?;
        let revision = run!(self, async |db| changes::revision(db).await)?;
        let Self { transaction, file, name, .. } = *self;
        // If this fails, SQLite rolls back, or the pool does when the connection is returned; see `is_clean`.
        file.record(transaction.commit().await.map_err(StoreError::from))?;
        // The commit counts only if the file is still at its path.
        file.check()?;
        tracing::debug!(transaction = name, revision = revision.0, "committed");
        Ok(revision)
    }
}
