//! The store in an SQLite file: WAL mode, every commit synced, one connection for writes and a few for reads.
//!
//! This directory holds all SQL for SQLite, and nothing else. `diff -r` against `postgres` shows how the dialects
//! differ.

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
mod last_uses;
mod listing;
mod open;
mod pending_ends;
mod policies;
mod pools;
mod request_ids;
mod restore;
mod rights;
mod rules;
mod status;
mod transaction;
mod transfer;
mod watched;
mod workspace_uses;

pub use backup::backup;
pub(in crate::store) use error::failure;
pub(super) use open::migrate;
pub use open::{pending_migrations, require_release};
pub use restore::PreparedRestore;
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
    /// Replaced after the file was found damaged.
    pools: RwLock<Pools>,
    options: SqliteConnectOptions,
    /// Watches whether the file is still at its path and undamaged.
    file: Arc<Watched>,
    /// The running check of a file that was found damaged.
    check: Mutex<Option<pools::Check>>,
}

impl SqliteStore {
    fn read_pool(&self) -> SqlitePool {
        self.pools.read().read.clone()
    }

    fn write_pool(&self) -> SqlitePool {
        self.pools.read().write.clone()
    }

    /// Returns a connection for reading.
    async fn read_connection(&self) -> Result<PoolConnection<Sqlite>> {
        self.file.check()?;
        // Connects if it is the first, or one more than before: the index of the log may then have to grow.
        let connection = self.read_pool().acquire().await.map_err(StoreError::from);
        let connection = self.file.record(connection)?;
        // The file may have been replaced while this call waited for a connection.
        self.file.check()?;
        Ok(connection)
    }

    /// Begins a write transaction and takes the lock at once. If it read first and another connection then wrote, its
    /// own first write would fail without waiting.
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.file.check()?;
        let transaction = self.write_pool().begin_with("BEGIN IMMEDIATE").await;
        self.file.record(transaction.map_err(StoreError::from))
    }

    /// Commits. The commit counts only if the file is still at its path.
    async fn commit(&self, transaction: Transaction<'static, Sqlite>) -> Result<()> {
        self.file.check()?;
        self.file.record(transaction.commit().await.map_err(StoreError::from))?;
        self.file.check()
    }
}

/// Runs a read.
macro_rules! read {
    ($store:expr, async |$db:ident| $read:expr) => {{
        let mut held = $store.read_connection().await?;
        let $db = &mut *held;
        let outcome: $crate::store::Result<_> = async { $read }.await;
        $store.file.record(outcome)
    }};
}

/// Runs a write in a transaction and commits it.
macro_rules! transact {
    ($store:expr, async |$db:ident| $write:expr) => {{
        let mut transaction = $store.begin_write().await?;
        let $db = &mut *transaction;
        let outcome: $crate::store::Result<_> = async { $write }.await;
        let outcome = $store.file.record(outcome)?;
        $store.commit(transaction).await?;
        Ok(outcome)
    }};
}

use {read, transact};

/// Returns the time as SQLite stores it.
fn sql_time(time: Timestamp) -> i64 {
    time.unix_micros()
}

#[async_trait]
impl ReadStore for SqliteStore {
    async fn ping(&self) -> Result<()> {
        let doubts = self.file.write_health.doubts();
        // Only taking the lock shows whether the file is read-only.
        let mut transaction = self.begin_write().await?;
        let Some(doubts) = doubts else { return Ok(transaction.rollback().await?) };
        self.file.record(rights::try_to_write(&mut transaction).await)?;
        self.commit(transaction).await?;
        self.file.write_health.prove(doubts);
        Ok(())
    }

    async fn close(&self) {
        self.file.close();
        self.read_pool().close().await;
        // The write pool closes last, because the last connection to close merges the write-ahead log into the file.
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
