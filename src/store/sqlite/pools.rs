//! The connection pools. They are replaced after the file was found damaged, because their page caches cannot be
//! trusted.

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection as _, Row as _, SqliteConnection, SqlitePool};

use super::SqliteStore;
use super::open::version;
use crate::store::{PERMIT_TIMEOUT, Result, StoreError};

/// Number of connections for reading.
const READERS: u32 = 4;

/// A running check of the file, which returns new pools. A waiter may give up and resume later without starting the
/// check again.
pub(super) type Check = Shared<BoxFuture<'static, Result<Pools>>>;

/// The connection pools.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    /// One connection, since SQLite allows one writer at a time. Waiting in this pool is fair; waiting in SQLite is
    /// not.
    pub(super) write: SqlitePool,
    /// Read-only connections.
    pub(super) read: SqlitePool,
}

impl Pools {
    /// Opens the file and its log. The log stays while any connection is open.
    pub(super) async fn open(options: &SqliteConnectOptions) -> Result<Self> {
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PERMIT_TIMEOUT)
            // A file does not go away as a server does, so connections are never recycled.
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_release(|connection, _| Box::pin(is_clean(connection)))
            .connect_with(options.clone())
            .await?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PERMIT_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options.clone().pragma("query_only", "ON"))
            .await?;
        // The first read opens the log.
        version(&mut *read.acquire().await?).await?;
        Ok(Self { write, read })
    }

    /// Opens new pools for a file that was found damaged, after a check of the whole file succeeds. The old pools stay
    /// open meanwhile, since SQLite would delete the log with the last connection.
    async fn check(options: SqliteConnectOptions) -> Result<Self> {
        let pools = Self::open(&options).await?;
        let row = sqlx::query("PRAGMA integrity_check(1)")
            .fetch_one(&mut *pools.read.acquire().await?)
            .await?;
        match row.try_get::<String, _>(0)? {
            verdict if verdict == "ok" => Ok(pools),
            verdict => Err(StoreError::Lost(format!("the database file is damaged: {verdict}"))),
        }
    }
}

impl SqliteStore {
    /// Checks a file that was found damaged, if the next check is due. Fails while the file is damaged.
    pub(super) async fn recheck_damaged_file(&self) -> Result<()> {
        if !self.file.is_check_due()? {
            return Ok(());
        }
        let begin = || Pools::check(self.options.clone()).boxed().shared();
        let check = self.check.lock().get_or_insert_with(begin).clone();
        let outcome = check.await;
        *self.check.lock() = None;
        let checked = outcome.map(|pools| *self.pools.write() = pools);
        self.file.record_check(checked)
    }
}

/// Returns whether a connection returned to its pool has no open transaction. The pool closes it otherwise.
///
/// On a full or failing disk SQLite can roll back by itself (<https://sqlite.org/lang_transaction.html>). sqlx 0.9.0
/// does not notice: its ROLLBACK fails, and from then on it treats the connection as being in a transaction.
async fn is_clean(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // Waits for all earlier commands, including the ROLLBACK of a dropped transaction.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}
