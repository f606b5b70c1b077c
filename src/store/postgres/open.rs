//! Opening and migrating, and the settings that the promises rest on.

use std::time::Duration;

use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::{PostgresStore, Session, url};
use crate::store::migrations::{self, Migrated, POSTGRES};
use crate::store::{Result, StoreError};

/// How long a connection is waited for, made anew if need be.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long starting up waits for another process that is migrating.
const MIGRATE_LOCK: &str =
    "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(1936682088, 2)";
/// `server_version_num` of the oldest that is supported.
const VERSION_MIN: i64 = 140_000;

/// How many connections each pool has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// For reading.
    pub read: u32,
    /// For writing.
    pub write: u32,
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self { read: 10, write: 5 }
    }
}

impl PostgresStore {
    /// Opens the database and migrates it.
    pub async fn open(url: &str, sizes: PoolSizes) -> Result<Self> {
        migrate(url).await?;
        Self::open_as_is(url, sizes).await
    }

    /// Opens the database, whose schema must be this program's.
    pub async fn open_as_is(url: &str, sizes: PoolSizes) -> Result<Self> {
        let url::Parsed { options, pooled } = url::parse(url)?;
        let options = prepare(options, pooled);
        let mut connection = connect(&options).await?;
        migrations::refuse_other(version(&mut connection).await?, POSTGRES)?;
        connection.close().await?;
        // Reads are single statements and can be run again, so connections are not tested before each: see `read!`.
        let read = PgPoolOptions::new()
            .max_connections(sizes.read)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(pooled);
        let write = PgPoolOptions::new()
            .max_connections(sizes.write)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, metadata| Box::pin(is_clean(connection, metadata)));
        // Behind a pooler reads are transactions too; without one, the timeout is the connection's own.
        let (read, read_options) = if pooled {
            let read =
                read.after_release(|connection, metadata| Box::pin(is_clean(connection, metadata)));
            (read, options.clone())
        } else {
            (read, options.clone().options([("statement_timeout", "5s")]))
        };
        let read = read.connect_with(read_options).await?;
        let write = write.connect_with(options).await?;
        Ok(Self { write, read, pooled })
    }
}

/// Brings the database's schema to this program's version.
pub async fn migrate(url: &str) -> Result<Migrated> {
    let url::Parsed { options, pooled } = url::parse(url)?;
    let mut connection = connect(&prepare(options, pooled)).await?;
    // One transaction for all of it, so that its lock works through a pooler too.
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(MIGRATE_LOCK).execute(&mut *transaction).await?;
    let from = version(&mut transaction).await?;
    migrations::refuse_newer(from, POSTGRES)?;
    migrations::run(&mut *transaction, POSTGRES).await?;
    let to = version(&mut transaction).await?;
    // sqlx prepares the migrator's statements by name, and a pooler would keep the names for its next client.
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(Migrated { from, to })
}

fn prepare(options: PgConnectOptions, pooled: bool) -> PgConnectOptions {
    let options = if options.get_application_name().is_none() {
        options.application_name("sophic-auth")
    } else {
        options
    };
    let options = options.disable_statement_logging();
    if pooled {
        // A pooler refuses parameters at the start that it does not track.
        options.statement_cache_capacity(0).extra_float_digits(None)
    } else {
        options
    }
}

/// Connects, and refuses a server that the promises could not rest on.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let connecting = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect());
    let timed_out = |_| StoreError::Unavailable("it did not take a connection in time".to_owned());
    let mut connection = connecting.await.map_err(timed_out)??;
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'), \
             current_setting('synchronous_commit'), pg_is_in_recovery()",
    )
    .persistent(false)
    .fetch_one(&mut connection)
    .await?;
    let unusable = |text: String| Err(StoreError::Unusable(text));
    let number: i64 = row.try_get(0)?;
    if number < VERSION_MIN {
        return unusable(format!("Postgres {} is too old: 14 or later is needed", number / 10_000));
    }
    let encoding: String = row.try_get(1)?;
    if encoding != "UTF8" {
        return unusable(format!("the database's encoding is {encoding}: it must be UTF8"));
    }
    let synchronous: String = row.try_get(2)?;
    if synchronous == "off" {
        let text = "synchronous_commit is off: a crash could bring a revoked token back to life";
        return unusable(text.to_owned());
    }
    if row.try_get(3)? {
        let text = "it is a standby, which takes no writes: the URL must lead to the primary";
        return Err(StoreError::Unavailable(text.to_owned()));
    }
    Ok(connection)
}

/// Fails where the database takes no writes: a standby, or one that is read-only for now.
pub(super) async fn refuse_read_only(db: &mut Session) -> Result<()> {
    let row = db
        .query(
            "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'",
        )
        .fetch_one(db.connection())
        .await?;
    if row.try_get(0)? {
        return Err(StoreError::Unavailable("it takes no writes".to_owned()));
    }
    Ok(())
}

/// Whether a connection that comes back to its pool is out of any transaction; it is closed otherwise.
///
/// sqlx 0.9.0 leaves it in one where the future of `begin` is dropped at a bad moment (transact-rs/sqlx#4385), and what
/// the next borrower writes would never be committed. A ROLLBACK would do as well, but for the warning in the server's
/// log each time. At the first statement of a transaction the two clocks show the same.
async fn is_clean(connection: &mut PgConnection, _: PoolConnectionMetadata) -> sqlx::Result<bool> {
    let row = sqlx::raw_sql("SELECT transaction_timestamp() = statement_timestamp()")
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

/// The schema's version; 0 without any.
async fn version(connection: &mut PgConnection) -> Result<i64> {
    let row = sqlx::query("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?;
    if !row.try_get::<bool, _>(0)? {
        return Ok(0);
    }
    let row = sqlx::query("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations")
        .persistent(false)
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}
