//! Opening and migrating, and the settings that the promises rest on.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::hosts::{self, FoundPrimary};
use super::inspect::schema;
use super::pools::{Connections, PoolSizes};
use super::primary::Primary;
use super::session::Purpose;
use super::{PostgresStore, rights, url};
use crate::store::migrations::{self, MigrationSummary, POSTGRES};
use crate::store::{Result, StoreError};

/// How long starting up waits for another process that is migrating.
const MIGRATE_LOCK: &str =
    "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(1936682088, 2)";
/// What to say where a pooler is noticed of which the URL says nothing.
pub(super) const POOLER_DETECTED: &str = "a transaction-mode pooler stands before Postgres, and the URL does not say so: \
     from now on statements are not prepared by name, and the change log is polled; add ?pgbouncer=true to the URL";
/// The database, where errors speak of it: they name it beside.
const DATABASE: &str = "the database";
/// `server_version_num` of the oldest that is supported.
const VERSION_MIN: i64 = 140_000;

impl PostgresStore {
    /// Opens the database and migrates it.
    pub async fn open(url: &str, sizes: PoolSizes) -> Result<Self> {
        migrate(url).await?;
        Self::open_existing(url, sizes).await
    }

    /// Opens the database, whose schema must be this program's.
    pub async fn open_existing(url: &str, sizes: PoolSizes) -> Result<Self> {
        let (hosts, pooled, FoundPrimary { host, mut connection }) = connect(url).await?;
        check_server(&mut connection).await?;
        schema(&mut connection).await?.require_current(DATABASE, POSTGRES)?;
        connection.close().await?;
        let primary = Arc::new(Primary::new(hosts, host, pooled));
        let connections = Connections::new(Arc::clone(&primary), sizes);
        let store = Self { connections, primary, sizes };
        // What cannot be connected to is told now.
        store.session(Purpose::Read).await?;
        store.begin_write().await?.commit().await?;
        Ok(store)
    }
}

/// Brings the database's schema to this program's version.
pub async fn migrate(url: &str) -> Result<MigrationSummary> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    check_server(&mut connection).await?;
    let schema = schema(&mut connection).await?;
    if let Some(version) = schema.current_version() {
        connection.close().await?;
        return Ok(MigrationSummary::between(version, version, POSTGRES));
    }
    let found = schema.version_to_migrate(DATABASE, POSTGRES)?;
    let migrated = run_migrations(&mut connection).await;
    let migrated = migrated.map_err(|error| migrations::denied_error(found, POSTGRES, error))?;
    connection.close().await?;
    Ok(migrated)
}

/// Does what is missing, as the owner of the schema.
async fn run_migrations(connection: &mut PgConnection) -> Result<MigrationSummary> {
    // One transaction for all of it, so that its lock works through a pooler too.
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(MIGRATE_LOCK).execute(&mut *transaction).await?;
    // Behind a pooler another client may have left its names.
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
    let from = version(&mut transaction).await?;
    migrations::refuse_newer(from, POSTGRES)?;
    migrations::run(&mut *transaction, POSTGRES).await?;
    let to = version(&mut transaction).await?;
    let migrated = MigrationSummary::between(from, to, POSTGRES);
    // sqlx prepares the migrator's statements by name, and a pooler would keep the names for its next client.
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(migrated)
}

/// Which rights the role lacks, if it lacks any.
pub async fn missing_rights(url: &str) -> Result<Option<String>> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    let missing = rights::missing_rights(&mut connection).await?;
    connection.close().await?;
    Ok(missing)
}

/// What [`migrate`] would do.
pub async fn pending_migrations(url: &str) -> Result<MigrationSummary> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    check_server(&mut connection).await?;
    let from = schema(&mut connection).await?.version_to_migrate(DATABASE, POSTGRES)?;
    connection.close().await?;
    MigrationSummary::pending(from, POSTGRES)
}

/// What other programs have in the database, where no schema of its own is named for this one; else what they have in that.
/// What extensions have made is nobody's.
pub async fn foreign_tables(url: &str) -> Result<Option<String>> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    let row = sqlx::raw_sql(
        "SELECT (SELECT string_agg(name, ', ' ORDER BY name) FROM ( \
             SELECT nspname || '.' || relname AS name \
             FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
             WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
                 AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' \
                 AND (current_schema() = 'public' OR nspname = ANY (current_schemas(false))) \
                 AND NOT EXISTS (SELECT 1 FROM pg_depend \
                     WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e') \
             ORDER BY name LIMIT 5) AS found) \
         FROM pg_class LIMIT 1",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(row.try_get(0)?)
}

/// Connects to the primary: the hosts as the URL has them, and whether a pooler stands before them.
async fn connect(url: &str) -> Result<(Vec<PgConnectOptions>, bool, FoundPrimary)> {
    let url::Parsed { hosts, mut pooled } = url::parse(url)?;
    let prepared = |pooled| hosts.iter().map(|host| prepare(host, pooled)).collect::<Vec<_>>();
    let mut found = hosts::find(&prepared(pooled)).await;
    if !pooled && found.as_ref().is_err_and(StoreError::is_pooler) {
        tracing::warn!("{POOLER_DETECTED}");
        pooled = true;
        found = hosts::find(&prepared(pooled)).await;
    }
    let found = found?;
    Ok((hosts, pooled, found))
}

/// How to connect to a host of the URL, with or without a pooler before it.
pub(super) fn prepare(host: &PgConnectOptions, pooled: bool) -> PgConnectOptions {
    let options = host.clone().disable_statement_logging();
    let options = if options.get_application_name().is_none() {
        options.application_name("sophic-auth")
    } else {
        options
    };
    if pooled {
        // A pooler refuses parameters at the start that it does not track.
        options.statement_cache_capacity(0).extra_float_digits(None)
    } else {
        options
    }
}

/// Refuses a server that the promises could not rest on.
async fn check_server(connection: &mut PgConnection) -> Result<()> {
    let row = sqlx::raw_sql(
        "SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'), \
             current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
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
    Ok(())
}

/// The schema's version; 0 without any.
async fn version(connection: &mut PgConnection) -> Result<i64> {
    // This session may remember that there was no such table: only who opens a table, any, hears of what was made meanwhile.
    let row =
        sqlx::raw_sql("SELECT to_regclass('_sqlx_migrations') IS NOT NULL FROM pg_class LIMIT 1")
            .fetch_one(&mut *connection)
            .await?;
    if !row.try_get::<bool, _>(0)? {
        return Ok(0);
    }
    let row = sqlx::raw_sql("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get(0)?)
}
