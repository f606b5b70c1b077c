//! Upgrades while servers run: a migration and the calls of servers do not block each other for long, and what servers
//! of earlier releases use is removed only when none is running.

use std::time::Duration;

use sophic_auth::model::{ReplicaId, Revision};
use sophic_auth::store::{self, ChangeFeed, Published, Release, StoreError};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::raw;
use super::samples::at;
use crate::stores::{Database, TestStore, on_every_store};
use crate::waits::within;

on_every_store! {
    a_crashed_server_of_an_earlier_release_is_given_up_after_its_lease,
    what_a_running_server_of_an_earlier_release_uses_is_not_removed,
    a_contraction_is_refused_while_an_earlier_server_lives_and_applied_once_it_has_crashed,
}

/// The newest migration of release 0.1.
const LAST_RELEASE: i64 = 16;
/// A release that no program has yet.
const FUTURE: Release = Release(9000, 0);
const LEASE: Duration = Duration::from_secs(1);

async fn a_crashed_server_of_an_earlier_release_is_given_up_after_its_lease(store: TestStore) {
    let location = store.database.location();
    let id = register_and_stop(&store, 1).await;
    store::require_release(&location, Release(0, 1)).await.expect("it is of this release");
    assert_eq!(store.list_replicas().await.expect("a list").replicas.len(), 1);
    store::require_release(&location, FUTURE).await.expect("it is given up");
    let replicas = store.list_replicas().await.expect("a list");
    assert!(replicas.replicas.is_empty() && replicas.ended == [id], "{replicas:?}");
    // A program of 0.1 does not say which release it is.
    register_and_stop(&store, 2).await;
    raw::run(&store.database, "UPDATE replicas SET version = NULL WHERE end_time IS NULL").await;
    store::require_release(&location, Release(0, 1)).await.expect("it is given up");
    assert!(store.list_replicas().await.expect("a list").replicas.is_empty());
}

/// Registers a replica that publishes nothing any more.
async fn register_and_stop(store: &TestStore, number: u8) -> ReplicaId {
    let id = ReplicaId::new(at(0), [number; 10]);
    let mut feed = store.open_feed().await.expect("a feed");
    feed.register(id, LEASE).await.expect("it is registered");
    id
}

async fn what_a_running_server_of_an_earlier_release_uses_is_not_removed(store: TestStore) {
    let id = ReplicaId::new(at(0), [1; 10]);
    let mut feed = store.open_feed().await.expect("a feed");
    feed.register(id, LEASE).await.expect("it is registered");
    let location = store.database.location();
    let refused = tokio::select! {
        refused = store::require_release(&location, FUTURE) => refused,
        () = keep_syncing(&mut *feed, id) => unreachable!("it never ends"),
    };
    let error = refused.expect_err("it is running");
    let host = format!("pid {}", std::process::id());
    assert!(matches!(&error, StoreError::Unusable(_)), "{error:?}");
    for said in [host.as_str(), "release 0.", "before release 9000.0", "upgrade or stop it first"] {
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    assert_eq!(store.list_replicas().await.expect("a list").replicas.len(), 1);
}

async fn a_contraction_is_refused_while_an_earlier_server_lives_and_applied_once_it_has_crashed(
    store: TestStore,
) {
    // The second is of a program that no longer needs what the first one removes.
    let later = [
        (9000, "contract_9000_0_drop_workspace_uses", "DROP TABLE workspace_uses"),
        (9001, "expand_after_it", "CREATE TABLE after_it (id int)"),
    ];
    let id = ReplicaId::new(at(0), [1; 10]);
    let mut feed = store.open_feed().await.expect("a feed");
    feed.register(id, LEASE).await.expect("it is registered");
    let location = store.database.location();
    let refused = tokio::select! {
        refused = store::migrate_beyond(&location, &later) => refused,
        () = keep_syncing(&mut *feed, id) => unreachable!("it never ends"),
    };
    let error = refused.expect_err("it is running").to_string();
    let host = format!("pid {}", std::process::id());
    for said in
        [&*host, "before release 9000.0", "upgrade or stop it first", "nothing was migrated"]
    {
        assert!(error.contains(said), "{said}: {error}");
    }
    raw::run(&store.database, "SELECT * FROM workspace_uses").await;
    raw::try_run(&store.database, "SELECT * FROM after_it").await.expect_err("nothing was done");
    // From now on it publishes nothing any more, like a server that was killed.
    let migrated = store::migrate_beyond(&location, &later).await.expect("it is given up");
    assert_eq!((migrated.names.len(), migrated.to), (2, 9001), "{migrated:?}");
    let replicas = store.list_replicas().await.expect("a list");
    assert!(replicas.replicas.is_empty() && replicas.ended == [id], "{replicas:?}");
    raw::try_run(&store.database, "SELECT * FROM workspace_uses").await.expect_err("it is gone");
    raw::run(&store.database, "SELECT * FROM after_it").await;
    let again = store::migrate_beyond(&location, &later).await.expect("there is nothing to do");
    assert_eq!(again.from, again.to);
    // This program is of an earlier release now, and would need what is gone.
    let refused = store::open_existing(&location).await.map(drop);
    assert!(matches!(refused, Err(StoreError::SchemaTooNew { found: 9000 | 9001, .. })));
}

/// Publishes again and again, as a running server does.
async fn keep_syncing(feed: &mut dyn ChangeFeed, id: ReplicaId) {
    for seq in 1.. {
        let published = Published { incarnation: None, applied: Revision(0), seq, durable: false };
        feed.sync(id, &published, 1).await.expect("a sync");
        feed.wait(Duration::from_millis(50)).await.expect("a wait");
    }
}

/// Creates a database as the last release left it, with a workspace.
async fn of_the_last_release() -> Database {
    let database = Database::empty_postgres().await;
    let migrated = store::migrate_to(&database.location(), LAST_RELEASE).await;
    assert_eq!(migrated.expect("it is migrated").to, LAST_RELEASE);
    let workspace = "INSERT INTO workspaces (id, slug, display_name, disabled, create_time, update_time) \
                     VALUES ('ws', 'acme', 'Acme', false, now(), now())";
    raw::run(&database, workspace).await;
    database
}

/// Begins a transaction with this statement, as a call of a server or a long read does.
async fn begin(database: &Database, statement: &'static str) -> PgConnection {
    let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
    sqlx::raw_sql("BEGIN").execute(&mut connection).await.expect("it begins");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("it is run");
    connection
}

/// Waits until the number of statements that wait for a lock is this one.
async fn until_waiting(database: &Database, expected: i64) {
    let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    within(waiting, async {
        loop {
            let row = sqlx::raw_sql(waiting).fetch_one(&mut connection).await.expect("a count");
            if row.get::<i64, _>(0) == expected {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_and_a_call_that_locks_two_tables_do_not_wait_for_each_other() {
    let database = of_the_last_release().await;
    // As CreateKey does: it locks the workspace, and then inserts the credential.
    let mut call = begin(&database, "SELECT id FROM workspaces FOR SHARE").await;
    let location = database.location();
    let migration = tokio::spawn(async move { store::migrate(&location).await });
    until_waiting(&database, 1).await;
    let insert = "INSERT INTO credentials ( \
         id, kind, workspace_id, generation, name, hint, digest, scopes, ip_allowlist, annotations, create_time, \
         creator, family_id, version) \
         VALUES (gen_random_uuid(), 1, 'ws', 0, 'key', '', sha256(''), 1, '', '{}', now(), 'x', gen_random_uuid(), 1); \
         COMMIT";
    sqlx::raw_sql(insert).execute(&mut call).await.expect("the call is not a victim of a deadlock");
    let migrated = migration.await.expect("no panic").expect("neither is the migration");
    assert_eq!(migrated.from, LAST_RELEASE);
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_delays_a_migration_and_nobody_else_for_long() {
    let database = of_the_last_release().await;
    // As `pg_dump` does.
    let mut read = begin(&database, "SELECT count(*) FROM workspaces").await;
    let location = database.location();
    let migration = tokio::spawn(async move { store::migrate(&location).await });
    until_waiting(&database, 1).await;
    // It waits behind the migration, which gives up before a server would.
    let look_up = "SET lock_timeout = '2s'; SELECT id FROM workspaces";
    raw::try_run(&database, look_up).await.expect("it is answered");
    assert!(!migration.is_finished(), "the read has not ended");
    sqlx::raw_sql("COMMIT").execute(&mut read).await.expect("it ends");
    let migrated = migration.await.expect("no panic").expect("it is migrated");
    assert_eq!(migrated.from, LAST_RELEASE);
    database.drop_database().await;
}
