//! The Postgres store, for version 14 or later. It uses native column types and two connection pools: one for reads,
//! one for writes.
//!
//! This module contains all SQL for Postgres, and nothing else. `diff -r` against `sqlite` shows the differences
//! between the dialects.

mod audit;
mod bulk;
mod callers;
mod changes;
mod connection_guard;
mod credentials;
mod directory;
mod error;
mod feed;
mod hosts;
mod inspect;
mod last_uses;
mod listing;
mod open;
mod pending_ends;
mod permits;
mod policies;
mod pools;
mod primary;
mod primary_timeouts;
mod reachability;
mod request_ids;
mod rights;
mod rules;
mod session;
mod shared_pool;
mod status;
mod transaction;
mod transfer;
mod url;
mod workspace_uses;

pub(in crate::store) use error::failure;
pub(super) use open::migrate;
pub use open::{foreign_tables, missing_rights, pending_migrations, require_release};
pub use pools::PoolSizes;
pub use url::display_url;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;

use self::pools::Connections;
use self::primary::{Primary, StatementResult};
use self::session::{Session, decide};
use self::transaction::PostgresTx;
use super::{ReadStore, Result, Store, StoreError, WriteTx};
use crate::model::Timestamp;

/// A store in a Postgres database.
#[derive(Debug)]
pub struct PostgresStore {
    connections: Connections,
    primary: Arc<Primary>,
    sizes: PoolSizes,
}

/// Converts a time to the type that Postgres stores.
fn sql_time(time: Timestamp) -> OffsetDateTime {
    time.date_time()
}

#[async_trait]
impl ReadStore for PostgresStore {
    async fn ping(&self) -> Result<()> {
        let doubts = self.primary.write_health.doubts();
        decide!(self, async |db| rights::ping(db).await)?;
        if let Some(doubts) = doubts {
            // The transaction is rolled back. A full disk already shows when the rows are written.
            rights::try_to_write(&mut self.begin_write().await?).await?;
            self.primary.write_health.prove(doubts);
        }
        Ok(())
    }

    async fn until_unreachable(&self) -> StoreError {
        self.primary.reachability.until_unreachable().await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>> {
        let (session, primary) = (self.begin_write().await?, Arc::clone(&self.primary));
        Ok(Box::new(PostgresTx { session, primary, name }))
    }
}
