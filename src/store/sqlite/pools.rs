//! The pools, which are made anew after the file read as damaged: what their connections have read then is not believed.

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection as _, Row as _, SqliteConnection, SqlitePool};

use super::SqliteStore;
use super::open::version;
use crate::store::{PERMIT_TIMEOUT, Result, StoreError};

/// Connections that read.
const READERS: u32 = 4;

/// Pools of a file that was checked. Whoever waits for it may stop and wait again later: it is not begun anew.
pub(super) type Check = Shared<BoxFuture<'static, Result<Pools>>>;

/// The connections.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    /// One connection, since SQLite has one writer at a time: waiting for it here is fair, waiting in SQLite is not.
    pub(super) write: SqlitePool,
    /// Connections that are refused every write.
    pub(super) read: SqlitePool,
}

impl Pools {
    /// Opens the file, and its log, which stays as long as one of them does.
    pub(super) async fn open(options: &SqliteConnectOptions) -> Result<Self> {
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PERMIT_TIMEOUT)
            // A file does not go away as a server does: connections live as long as the store.
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
        // Whoever reads first opens the log.
        version(&mut *read.acquire().await?).await?;
        Ok(Self { write, read })
    }

    /// The same of a file that read as damaged, once all of it was read and is whole. The old ones are open meanwhile: were
    /// the last connection closed, SQLite would take its log away.
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
    /// Where the file read as damaged, looks whether it still does, as often as it is time to; fails while it does.
    pub(super) async fn look_again(&self) -> Result<()> {
        if !self.file.wants_check()? {
            return Ok(());
        }
        let begin = || Pools::check(self.options.clone()).boxed().shared();
        let check = self.check.lock().get_or_insert_with(begin).clone();
        let outcome = check.await;
        *self.check.lock() = None;
        let checked = outcome.map(|pools| *self.pools.write() = pools);
        self.file.checked(checked)
    }
}

/// Whether a connection that comes back to its pool is out of any transaction; it is closed otherwise.
///
/// A full disk and a failure of it can make SQLite roll back by itself (<https://sqlite.org/lang_transaction.html>). sqlx
/// 0.9.0 does not see that: its own ROLLBACK fails, and it takes the connection for one in a transaction for ever.
async fn is_clean(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    // It answers when what was sent before has been done, the ROLLBACK of what was dropped included.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}
