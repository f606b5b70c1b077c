//! Versions of the schema: missing, this program's, newer, tampered with, and made by many at once.

use std::sync::Arc;

use sophic_auth::store::{self, StoreError};

use super::raw;
use crate::stores::{Database, Fixture, TestStore, on_every_store};

on_every_store! {
    a_store_as_it_is_opens_where_its_schema_is_this_programs,
    a_newer_schema_is_refused_with_both_versions,
    a_migration_that_was_changed_is_refused,
    migrating_twice_changes_nothing,
    an_older_schema_is_not_opened_as_it_is,
}

async fn a_store_as_it_is_opens_where_its_schema_is_this_programs(store: TestStore) {
    let again = store::open_as_is(&store.database.url()).await.expect("it opens");
    again.ping().await.expect("it answers");
    again.close().await;
}

async fn a_newer_schema_is_refused_with_both_versions(store: TestStore) {
    let url = store.database.url();
    let now = store::migrate(&url).await.expect("it is migrated").to;
    store.close().await;
    let row = "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
               SELECT 9999, 'of the future', installed_on, success, checksum, execution_time \
               FROM _sqlx_migrations WHERE version = 1";
    raw::run(&store.database, row).await;
    let outcomes = [
        store::open(&url).await.map(drop),
        store::open_as_is(&url).await.map(drop),
        store::migrate(&url).await.map(drop),
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

async fn a_migration_that_was_changed_is_refused(store: TestStore) {
    store.close().await;
    let change = if store.database.is_postgres() {
        "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 2"
    } else {
        "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2"
    };
    raw::run(&store.database, change).await;
    let error = store::open(&store.database.url()).await.map(drop).expect_err("it is refused");
    assert!(matches!(&error, StoreError::Unusable(text) if text.contains('2')), "{error:?}");
}

async fn migrating_twice_changes_nothing(store: TestStore) {
    let url = store.database.url();
    let migrated = store::migrate(&url).await.expect("it is migrated");
    assert_eq!(migrated.from, migrated.to);
    assert!(migrated.to >= 5, "{migrated:?}");
    store.ping().await.expect("the store that was open goes on");
}

async fn an_older_schema_is_not_opened_as_it_is(store: TestStore) {
    store.close().await;
    let forget = "DELETE FROM _sqlx_migrations \
                  WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    raw::run(&store.database, forget).await;
    let refused = store::open_as_is(&store.database.url()).await.map(drop);
    let error = refused.expect_err("it is refused");
    assert!(
        matches!(error, StoreError::SchemaTooOld { found, needed } if found < needed),
        "{error:?}"
    );
    assert!(error.to_string().contains("sophic-auth migrate"), "{error}");
    let pending = store::pending(&store.database.url()).await.expect("it can be told");
    assert_eq!(pending.names.len(), 1, "{pending:?}");
}

/// Eight at once on a database without any schema: one migrates, and the others find it done.
async fn many_migrate_at_once(database: Database) {
    let database = Arc::new(database);
    let migrations = (0..8).map(|_| {
        let url = database.url();
        tokio::task::spawn(async move { store::migrate(&url).await })
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
async fn a_schema_is_not_opened_before_it_is_there() {
    for database in [Database::sqlite(), Database::empty_postgres().await] {
        let error = store::open_as_is(&database.url()).await.map(drop).expect_err("it is refused");
        assert!(
            matches!(&error, StoreError::Missing(text) if text.contains("sophic-auth migrate")),
            "{error:?}"
        );
        assert!(database.file().is_none_or(|file| !file.exists()), "none is made");
        let pending = store::pending(&database.url()).await.expect("it can be told");
        assert!(pending.from == 0 && pending.to >= 5, "{pending:?}");
        assert!(database.file().is_none_or(|file| !file.exists()), "none is made");
        database.drop_database().await;
    }
}
