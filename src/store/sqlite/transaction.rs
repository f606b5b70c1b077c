//! A transaction that writes. It holds the one lock there is from its beginning, so [`Lock`](crate::store::Lock) asks for nothing more.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::watched::Watched;
use super::{Result, audit, changes};
use crate::model::{AuditEvent, Revision};
use crate::store::{StoreError, WriteTx};

/// Dropping it rolls back.
pub(super) struct SqliteTx {
    pub(super) transaction: Transaction<'static, Sqlite>,
    pub(super) file: Arc<Watched>,
    /// What went wrong in it: SQLite may have rolled it back by itself then, and another statement would be on its own.
    pub(super) failed: Option<StoreError>,
    pub(super) name: &'static str,
}

impl SqliteTx {
    /// Refuses whatever comes after a failure.
    pub(super) fn go_on(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Takes in the outcome of a statement. A constraint that was violated undoes that statement alone.
    pub(super) fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let outcome = self.file.note(outcome);
        self.failed = match &outcome {
            Ok(_) | Err(StoreError::Conflict(_)) => None,
            Err(error) => Some(error.clone()),
        };
        outcome
    }
}

/// Runs a statement, unless one has failed.
macro_rules! run {
    ($this:expr, async |$db:ident| $statement:expr) => {{
        $this.go_on()?;
        let outcome: $crate::store::Result<_> = {
            let $db = &mut *$this.transaction;
            async { $statement }.await
        };
        $this.note(outcome)
    }};
}

pub(super) use run;

#[async_trait]
impl WriteTx for SqliteTx {
    async fn commit(mut self: Box<Self>, audit: &AuditEvent) -> Result<Revision> {
        run!(self, async |db| audit::insert(db, audit).await)?;
        let revision = run!(self, async |db| changes::revision(db).await)?;
        let Self { transaction, file, name, .. } = *self;
        // What fails here is rolled back, by SQLite or when the connection is given back; see `is_clean`.
        file.note(transaction.commit().await.map_err(StoreError::from))?;
        // It counts only if it is in the file that others find.
        file.check()?;
        tracing::debug!(transaction = name, revision = revision.0, "committed");
        Ok(revision)
    }
}
