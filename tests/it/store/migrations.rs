//! Schema versions: missing, current, newer, modified, and migrated by many processes at once.

use std::sync::Arc;

use sophic_auth::store::{self, StoreError};

use super::raw;
use crate::stores::{Database, Fixture, TestStore, location, on_every_store};

on_every_store! {
    a_store_opens_without_migrating_if_its_schema_is_current,
    a_newer_schema_is_refused_with_both_versions,
    a_newer_schema_that_only_expands_is_served,
    a_migration_that_was_changed_is_refused,
    migrating_twice_changes_nothing,
    an_older_schema_is_not_opened_without_migrating,
}

async fn a_store_opens_without_migrating_if_its_schema_is_current(store: TestStore) {
    let again = store::open_existing(&store.database.location()).await.expect("it opens");
    again.ping().await.expect("it answers");
    again.close().await;
}

async fn a_newer_schema_is_refused_with_both_versions(store: TestStore) {
    let location = store.database.location();
    let now = store::migrate(&location).await.expect("it is migrated").to;
    store.close().await;
    record_migration(&store, 9999, "of the future").await;
    let outcomes = [
        store::open(&location).await.map(drop),
        store::open_existing(&location).await.map(drop),
        store::migrate(&location).await.map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.expect_err("it is refused");
        assert!(
            matches!(error, StoreError::SchemaTooNew { found: 9999, known } if known == now),
            "{error:?}"
        );
        assert!(error.to_string().contains("9999"), "{error}");
    }
}

/// Records a migration that this program does not know.
async fn record_migration(store: &TestStore, version: i64, name: &str) {
    let row = format!(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
         SELECT {version}, '{name}', installed_on, success, checksum, execution_time \
         FROM _sqlx_migrations WHERE version = 1"
    );
    raw::run(&store.database, &row).await;
}

async fn a_newer_schema_that_only_expands_is_served(store: TestStore) {
    let location = store.database.location();
    store.close().await;
    record_migration(&store, 9998, "expand_audit").await;
    record_migration(&store, 9999, "expand_callers").await;
    for opened in [store::open(&location).await, store::open_existing(&location).await] {
        let opened = opened.expect("it opens");
        opened.ping().await.expect("it answers");
        opened.close().await;
    }
    let migrated = store::migrate(&location).await.expect("there is nothing to do");
    assert_eq!(migrated.from, migrated.to);
    // What is below an expansion counts too.
    record_migration(&store, 9997, "contract_audit").await;
    let error = store::open(&location).await.map(drop).expect_err("it is refused");
    assert!(matches!(error, StoreError::SchemaTooNew { found: 9997, .. }), "{error:?}");
}

async fn a_migration_that_was_changed_is_refused(store: TestStore) {
    store.close().await;
    let change = if store.database.is_postgres() {
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2"
    } else {
        "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2"
    };
    raw::run(&store.database, change).await;
    let error = store::open(&store.database.location()).await.map(drop).expect_err("it is refused");
    assert!(matches!(&error, StoreError::Unusable(text) if text.contains('2')), "{error:?}");
}

async fn migrating_twice_changes_nothing(store: TestStore) {
    let location = store.database.location();
    let migrated = store::migrate(&location).await.expect("it is migrated");
    assert_eq!(migrated.from, migrated.to);
    assert!(migrated.to >= 5, "{migrated:?}");
    store.ping().await.expect("the open store still works");
}

async fn an_older_schema_is_not_opened_without_migrating(store: TestStore) {
    store.close().await;
    let forget = "DELETE FROM _sqlx_migrations \
                  WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    raw::run(&store.database, forget).await;
    let refused = store::open_existing(&store.database.location()).await.map(drop);
    let error = refused.expect_err("it is refused");
    assert!(
        matches!(error, StoreError::SchemaTooOld { found, needed } if found < needed),
        "{error:?}"
    );
    assert!(error.to_string().contains("sophic-auth migrate"), "{error}");
    let pending = store::pending_migrations(&store.database.location())
        .await
        .expect("the schema can be read");
    assert_eq!(pending.names.len(), 1, "{pending:?}");
}

/// Runs `theirs` in the database, and returns the error of opening it. Checks that the database is unchanged.
async fn refused_beside(database: Database, theirs: &str, still_there: &str) -> String {
    raw::run(&database, theirs).await;
    let location = database.location();
    let mut said = String::new();
    for outcome in [
        store::pending_migrations(&location).await.map(drop),
        store::open(&location).await.map(drop),
        store::migrate(&location).await.map(drop),
        store::open_existing(&location).await.map(drop),
    ] {
        match outcome.expect_err("it is refused") {
            StoreError::InvalidLocation(text) => said = text,
            // Commands that create nothing find nothing.
            StoreError::Missing(_) => {}
            error => panic!("{theirs}: {error:?}"),
        }
    }
    raw::run(&database, still_there).await;
    raw::try_run(&database, "SELECT id FROM workspaces").await.expect_err("nothing is created");
    database.drop_database().await;
    said
}

/// The table as sqlx creates it for another program.
const THEIR_MIGRATIONS: &str = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT, \
     installed_on TEXT, success BOOLEAN, checksum BYTEA, execution_time BIGINT); \
     INSERT INTO _sqlx_migrations VALUES (1, 'songs', '', true, 'x', 1)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_another_program_with_our_names_are_refused_and_not_changed() {
    for (theirs, name) in [
        ("CREATE TABLE credentials (id int)", "credentials"),
        ("CREATE VIEW users AS SELECT 1 AS id", "users"),
        ("CREATE TYPE requests AS ENUM ('open')", "requests"),
        (
            "CREATE FUNCTION append_change(a text, b text, c bytea) RETURNS void LANGUAGE sql AS ''",
            "append_change",
        ),
        ("CREATE TABLE _sqlx_migrations (id int)", "_sqlx_migrations"),
        (THEIR_MIGRATIONS, "_sqlx_migrations"),
    ] {
        let kind = theirs.split(' ').nth(1).expect("a kind");
        let still_there = format!("BEGIN; DROP {kind} {name}; ROLLBACK");
        let said = refused_beside(Database::empty_postgres().await, theirs, &still_there).await;
        assert!(said.contains(name) && said.contains("search_path"), "{theirs}: {said}");
    }
    let still_there = "SELECT description FROM _sqlx_migrations";
    let said = refused_beside(Database::sqlite(), THEIR_MIGRATIONS, still_there).await;
    assert!(said.contains("belongs to another program"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_may_share_a_database_under_other_names_or_in_another_schema() {
    let database = Database::empty_postgres().await;
    raw::run(&database, "CREATE TABLE credentials (id int); CREATE SCHEMA auth").await;
    let own = format!("{}?options=-c%20search_path%3Dauth", database.url());
    let store = store::open(&location(&own)).await.expect("it opens");
    store.ping().await.expect("it answers");
    store.close().await;
    database.drop_database().await;
    let database = Database::empty_postgres().await;
    raw::run(&database, "CREATE TABLE songs (id int)").await;
    store::migrate(&database.location()).await.expect("it is migrated");
    database.drop_database().await;
}

/// Eight processes migrate an empty database at once. One migrates, and the others find it done.
async fn many_migrate_at_once(database: Database) {
    let database = Arc::new(database);
    let migrations = (0..8).map(|_| {
        let location = database.location();
        tokio::task::spawn(async move { store::migrate(&location).await })
    });
    let mut from = Vec::new();
    for migration in migrations.collect::<Vec<_>>() {
        let migrated = migration.await.expect("no panic").expect("it is migrated");
        assert!(migrated.to >= 5, "{migrated:?}");
        from.push(migrated.from);
    }
    assert_eq!(from.iter().filter(|version| **version == 0).count(), 1, "{from:?}");
    let store = TestStore::set_up(Arc::clone(&database)).await;
    assert_eq!(store.revision().await.expect("a revision").0, 0);
    store.close().await;
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_migrate_a_file_at_once_wait_for_each_other() {
    many_migrate_at_once(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_migrate_a_database_at_once_wait_for_each_other() {
    many_migrate_at_once(Database::empty_postgres().await).await;
}

#[tokio::test]
async fn a_store_without_a_schema_is_not_opened() {
    for database in [Database::sqlite(), Database::empty_postgres().await] {
        let error =
            store::open_existing(&database.location()).await.map(drop).expect_err("it is refused");
        assert!(
            matches!(&error, StoreError::Missing(text) if text.contains("sophic-auth migrate")),
            "{error:?}"
        );
        assert!(database.file().is_none_or(|file| !file.exists()), "no file is created");
        let pending =
            store::pending_migrations(&database.location()).await.expect("the schema can be read");
        assert!(pending.from == 0 && pending.to >= 5, "{pending:?}");
        assert!(database.file().is_none_or(|file| !file.exists()), "no file is created");
        database.drop_database().await;
    }
}
