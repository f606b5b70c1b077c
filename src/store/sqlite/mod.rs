//! The store in an SQLite file: WAL, every commit synced, one connection that writes and a few that read.
//!
//! All SQL for SQLite is here and nothing else. `diff -r` against `postgres` shows the dialect.

mod audit;
mod backup;
mod bulk;
mod callers;
mod changes;
mod credentials;
mod directory;
mod error;
mod feed;
mod file;
mod inspect;
mod listing;
mod open;
mod pending_ends;
mod policies;
mod pools;
mod requests;
mod restore;
mod rights;
mod transaction;
mod transfer;
mod watched;

pub use backup::backup;
pub(in crate::store) use error::failure;
pub use open::{migrate, pending_migrations};
pub use restore::Restoring;
pub use rights::missing_rights;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Sqlite, SqlitePool, Transaction};

use self::pools::Pools;
use self::transaction::SqliteTx;
use self::watched::Watched;
use super::{ReadStore, Result, Store, StoreError, WriteTx};
use crate::model::Timestamp;

/// The store in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Made anew after the file read as damaged.
    pools: RwLock<Pools>,
    options: SqliteConnectOptions,
    /// The file itself.
    file: Arc<Watched>,
    /// Whether a file that read as damaged is whole, while that is looked at.
    check: Mutex<Option<pools::Check>>,
}

impl SqliteStore {
    fn read_pool(&self) -> SqlitePool {
        self.pools.read().read.clone()
    }

    fn write_pool(&self) -> SqlitePool {
        self.pools.read().write.clone()
    }

    /// A connection that reads.
    async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        self.file.check()?;
        let connection = self.read_pool().acquire().await?;
        // It may have waited for its turn at a file that is given up meanwhile.
        self.file.check()?;
        Ok(connection)
    }

    /// A transaction that writes. One that reads before it writes would fail at once, without waiting, if another wrote
    /// between: so it takes the lock at its beginning.
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.file.check()?;
        let begun = self.write_pool().begin_with("BEGIN IMMEDIATE").await;
        self.file.note(begun.map_err(StoreError::from))
    }

    /// Runs what writes, to its commit. It counts only if the file is still there to be found.
    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<()> {
        self.file.check()?;
        self.file.note(transaction.commit().await.map_err(StoreError::from))?;
        self.file.check()
    }
}

/// Runs a read.
macro_rules! read {
    ($store:expr, async |$db:ident| $read:expr) => {{
        let mut held = $store.reader().await?;
        let $db = &mut *held;
        let outcome: $crate::store::Result<_> = async { $read }.await;
        $store.file.note(outcome)
    }};
}

/// Runs what writes, in a transaction of its own, to its commit.
macro_rules! transact {
    ($store:expr, async |$db:ident| $write:expr) => {{
        let mut transaction = $store.begin_write().await?;
        let $db = &mut *transaction;
        let outcome: $crate::store::Result<_> = async { $write }.await;
        let outcome = $store.file.note(outcome)?;
        $store.commit(transaction).await?;
        Ok(outcome)
    }};
}

use {read, transact};

/// A time as SQLite keeps it.
fn sql_time(time: Timestamp) -> i64 {
    time.unix_micros()
}

#[async_trait]
impl ReadStore for SqliteStore {
    async fn ping(&self) -> Result<()> {
        let doubts = self.file.write_health.doubts();
        // Taking the lock finds a file that may only be read.
        let mut transaction = self.begin_write().await?;
        let Some(doubts) = doubts else { return Ok(transaction.rollback().await?) };
        self.file.note(rights::try_to_write(&mut transaction).await)?;
        self.commit(transaction).await?;
        self.file.write_health.prove(doubts);
        Ok(())
    }

    async fn close(&self) {
        self.file.close();
        self.read_pool().close().await;
        // Last: the last connection to close folds the write-ahead log into the file.
        self.write_pool().close().await;
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>> {
        let (transaction, file) = (self.begin_write().await?, Arc::clone(&self.file));
        Ok(Box::new(SqliteTx { transaction, file, failed: None, name }))
    }
}
