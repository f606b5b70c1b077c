//! The store in a Postgres database, 14 or later: native column types, one pool that reads and one that writes.
//!
//! All SQL for Postgres is here and nothing else. `diff -r` against `sqlite` shows the dialect.

mod audit;
mod bulk;
mod callers;
mod changes;
mod credentials;
mod directory;
mod error;
mod feed;
mod held;
mod hosts;
mod lane;
mod listing;
mod look;
mod open;
mod policies;
mod pools;
mod primary;
mod reach;
mod requests;
mod rights;
mod session;
mod transaction;
mod transfer;
mod turns;
mod untold;
mod url;

pub(in crate::store) use error::failure;
pub use open::{lacking, migrate, others, pending};
pub use pools::PoolSizes;
pub use url::place_of_url;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::types::time::OffsetDateTime;

use self::pools::Connections;
use self::primary::{Primary, Seen};
use self::session::{Session, decide};
use self::transaction::PostgresTx;
use super::{ReadStore, Result, Store, StoreError, WriteTx};
use crate::model::Timestamp;

/// The store in a Postgres database.
#[derive(Debug)]
pub struct PostgresStore {
    connections: Connections,
    primary: Arc<Primary>,
    sizes: PoolSizes,
}

/// A time as Postgres keeps it.
fn at(time: Timestamp) -> OffsetDateTime {
    time.date_time()
}

#[async_trait]
impl ReadStore for PostgresStore {
    async fn ping(&self) -> Result<()> {
        let doubts = self.primary.writes.doubts();
        decide!(self, async |db| rights::ping(db).await)?;
        if let Some(doubts) = doubts {
            // Rolled back: a disk that is full is found when the rows are to be placed.
            rights::try_to_write(&mut self.begin_write().await?).await?;
            self.primary.writes.prove(doubts);
        }
        Ok(())
    }

    async fn gone(&self) -> StoreError {
        self.primary.reach.gone().await
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
