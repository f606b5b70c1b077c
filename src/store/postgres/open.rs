//! Opening and migrating the database, and checks of the server's settings.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use super::hosts::{self, FoundPrimary};
use super::inspect::schema;
use super::pools::{Connections, PoolSizes};
use super::primary::Primary;
use super::session::Purpose;
use super::{PostgresStore, rights, url};
use crate::store::contraction::{self, LiveReplica, Release, ReleaseWait};
use crate::store::migrations::{self, MigrationList, MigrationSummary, POSTGRES};
use crate::store::{Result, StoreError};

/// Takes the migration lock. Waits up to 60 s for another process that is migrating.
const MIGRATE_LOCK: &str =
    "SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock(1936682088, 2)";
/// How often a migration tries again to lock the tables that it changes, and the pause before each try. While it waits
/// for a lock, everyone else waits behind it. So it gives up after a second, and lets the others go on for a while: a
/// long read, such as that of `pg_dump`, delays the migration and nobody else.
const LOCK_TRIES: usize = 30;
const LOCK_PAUSE: Duration = Duration::from_secs(2);
/// The tables, with the statement that locks each, in the order in which transactions lock their rows. Otherwise a
/// migration and a call could wait for each other.
const TABLES: [(&str, &str); 10] = [
    ("requests", "LOCK TABLE requests"),
    ("workspaces", "LOCK TABLE workspaces"),
    ("reserved_slugs", "LOCK TABLE reserved_slugs"),
    ("workspace_policies", "LOCK TABLE workspace_policies"),
    ("users", "LOCK TABLE users"),
    ("memberships", "LOCK TABLE memberships"),
    ("credentials", "LOCK TABLE credentials"),
    ("callers", "LOCK TABLE callers"),
    ("audit_events", "LOCK TABLE audit_events"),
    ("replicas", "LOCK TABLE replicas"),
];
/// Warning for a pooler that the URL does not mention.
pub(super) const POOLER_DETECTED: &str = "there is a transaction-mode pooler in front of Postgres, but the URL does not say so: \
     from now on statements are not prepared by name, and the change log is polled; add ?pgbouncer=true to the URL";
/// Name of the database in error texts. They name the URL elsewhere.
const DATABASE: &str = "the database";
/// Oldest supported `server_version_num`.
const VERSION_MIN: i64 = 140_000;

impl PostgresStore {
    /// Opens the database and migrates it.
    pub async fn open(url: &str, sizes: PoolSizes) -> Result<Self> {
        migrate(url, POSTGRES).await?;
        Self::open_existing(url, sizes).await
    }

    /// Opens the database, whose schema must have this program's version.
    pub async fn open_existing(url: &str, sizes: PoolSizes) -> Result<Self> {
        let (hosts, pooled, FoundPrimary { host, mut connection }) = connect(url).await?;
        check_server(&mut connection).await?;
        schema(&mut connection, POSTGRES).await?.require_current(DATABASE, POSTGRES)?;
        connection.close().await?;
        let primary = Arc::new(Primary::new(hosts, host, pooled));
        let connections = Connections::new(Arc::clone(&primary), sizes);
        let store = Self { connections, primary, sizes };
        // Connect now, so that an error shows at the start.
        store.session(Purpose::Read).await?;
        store.begin_write().await?.commit().await?;
        Ok(store)
    }
}

/// Migrates the database's schema to the newest version of these migrations.
pub(in crate::store) async fn migrate(url: &str, list: MigrationList) -> Result<MigrationSummary> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    check_server(&mut connection).await?;
    let schema = schema(&mut connection, list).await?;
    if let Some(version) = schema.current_version() {
        connection.close().await?;
        return Ok(MigrationSummary::between(version, version, list));
    }
    let found = schema.version_to_migrate(DATABASE, list)?;
    if let Some(release) = Release::required(found, list).filter(|_| found > 0) {
        wait_for_release(&mut connection, found, release).await?;
    }
    let migrated = run_migrations(&mut connection, list).await;
    let migrated = migrated.map_err(|error| migrations::denied_error(found, list, error))?;
    connection.close().await?;
    Ok(migrated)
}

/// Applies the missing migrations as the owner of the schema. A new store is created in one transaction. An existing one
/// may be in use, so each migration has a transaction of its own: while it builds an index on one table, it holds no
/// lock on those that servers answer from.
async fn run_migrations(
    connection: &mut PgConnection,
    list: MigrationList,
) -> Result<MigrationSummary> {
    let (mut first, mut tries) = (None, 0);
    loop {
        match Box::pin(run_next(connection, list)).await {
            Ok((from, to)) => {
                let first = *first.get_or_insert(from);
                if to == from || to == migrations::newest_version(list) {
                    return Ok(MigrationSummary::between(first, to, list));
                }
            }
            Err(StoreError::Busy(_)) if tries < LOCK_TRIES => {
                tries += 1;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Applies the next migration, or all to a new store. Returns the versions before and after.
async fn run_next(connection: &mut PgConnection, list: MigrationList) -> Result<(i64, i64)> {
    // The connection forgets the statements that the transaction before has deallocated.
    connection.clear_cached_statements().await?;
    // One transaction, so that the lock also works through a pooler.
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(MIGRATE_LOCK).execute(&mut *transaction).await?;
    // Behind a pooler another client may have left prepared statements.
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
    let from = version(&mut transaction).await?;
    migrations::refuse_newer(from, list)?;
    let list = migrations::up_to_next(from, list);
    if from > 0 {
        sqlx::raw_sql("SET LOCAL lock_timeout = '1s'").execute(&mut *transaction).await?;
        for (table, lock) in TABLES {
            if migrations::changes_table(list, table) {
                sqlx::raw_sql(lock).execute(&mut *transaction).await?;
            }
        }
        if let Some(release) = Release::required(from, list) {
            contraction::refuse_before(release, &live_replicas(&mut transaction, from).await?)?;
        }
    }
    migrations::run(&mut *transaction, list).await?;
    let to = version(&mut transaction).await?;
    // sqlx prepares the migrator's statements by name, and a pooler would keep them for its next client.
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((from, to))
}

/// Waits until no server of an earlier release is live.
pub async fn require_release(url: &str, release: Release) -> Result<()> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    let version = version(&mut connection).await?;
    wait_for_release(&mut connection, version, release).await?;
    connection.close().await?;
    Ok(())
}

/// Waits until no replica of an earlier release is live, and marks those as ended that have crashed.
async fn wait_for_release(
    connection: &mut PgConnection,
    version: i64,
    release: Release,
) -> Result<()> {
    let mut wait = ReleaseWait::begin(release);
    let crashed = loop {
        if let Some(crashed) = wait.look(live_replicas(connection, version).await?)? {
            break crashed;
        }
        wait.pause().await;
    };
    for replica in crashed {
        sqlx::query(
            "UPDATE replicas SET end_time = clock_timestamp() \
             WHERE replica_id = $1 AND seq = $2 AND end_time IS NULL",
        )
        .persistent(false)
        .bind(replica.id)
        .bind(replica.seq)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Returns the replicas that have not ended.
async fn live_replicas(connection: &mut PgConnection, version: i64) -> Result<Vec<LiveReplica>> {
    let rows = sqlx::raw_sql(contraction::select_live(version)).fetch_all(&mut *connection).await?;
    rows.iter().map(LiveReplica::read).collect()
}

/// Describes the rights that the role lacks, or returns `None` if none is missing.
pub async fn missing_rights(url: &str) -> Result<Option<String>> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    let missing = rights::missing_rights(&mut connection).await?;
    connection.close().await?;
    Ok(missing)
}

/// Returns what `migrate` would do.
pub async fn pending_migrations(url: &str) -> Result<MigrationSummary> {
    let (_, _, FoundPrimary { mut connection, .. }) = connect(url).await?;
    check_server(&mut connection).await?;
    let from = schema(&mut connection, POSTGRES).await?.version_to_migrate(DATABASE, POSTGRES)?;
    connection.close().await?;
    MigrationSummary::pending(from, POSTGRES)
}

/// Lists tables of other programs: in the whole database, or only in the schema that the URL sets for this program.
/// Tables of extensions are left out.
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

/// Connects to the primary. Returns the hosts of the URL, whether there is a pooler, and the connection.
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

/// Returns the options for connecting to a host, with or without a pooler in front of it.
pub(super) fn prepare(host: &PgConnectOptions, pooled: bool) -> PgConnectOptions {
    let options = host.clone().disable_statement_logging();
    let options = if options.get_application_name().is_none() {
        options.application_name("sophic-auth")
    } else {
        options
    };
    if pooled {
        // A pooler refuses startup parameters that it does not track.
        options.statement_cache_capacity(0).extra_float_digits(None)
    } else {
        options
    }
}

/// Refuses a server on which this program's guarantees would not hold.
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
        let text = "synchronous_commit is off: after a crash a revoked token could be valid again";
        return unusable(text.to_owned());
    }
    Ok(())
}

/// Returns the schema's version; 0 without a schema.
async fn version(connection: &mut PgConnection) -> Result<i64> {
    // The session may have cached that the table does not exist. Opening any table makes it see tables created in the
    // meantime.
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
