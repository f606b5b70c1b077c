//! Rules that a server of an earlier release would ignore: which replicas forbid to set one, and how one forbids such a
//! replica to register.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::model::{ReplicaId, Role};
use sophic_auth::store::{OldReplica, Store};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection};

use super::raw;
use super::samples::{acme_and_ada, at, event, user, write};
use crate::stores::{Database, TestStore, on_every_store};
use crate::waits::eventually;

on_every_store! {
    a_rule_is_not_set_while_a_replica_of_an_earlier_release_lives,
    a_replica_states_its_release_and_rules,
    a_replica_of_an_earlier_release_does_not_register_while_a_rule_is_in_use,
    a_registration_waits_for_the_transaction_that_sets_a_rule,
    a_rule_waits_for_the_registration_in_flight_and_sees_it,
    no_program_of_an_earlier_release_opens_the_store_while_a_rule_is_in_use,
}

/// Returns the statement by which a server of 0.1 registers, with an id of this number.
pub(crate) fn registration_of_0_1(database: &Database, number: u8) -> String {
    let hex = format!("{number:02x}").repeat(16);
    let (id, now) = if database.is_postgres() {
        (format!("'{hex}'::uuid"), "clock_timestamp()")
    } else {
        (format!("x'{hex}'"), "CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
    };
    format!(
        "INSERT INTO replicas (replica_id, applied, seq, seen_epoch, heartbeat, host, lease) \
         SELECT {id}, 0, 0, epoch, {now}, 'old-host pid 7', 10000000 FROM counter WHERE id = 1"
    )
}

/// Returns the statement that marks all replicas as ended.
pub(crate) fn end_all(database: &Database) -> String {
    let now = if database.is_postgres() { "clock_timestamp()" } else { "1" };
    format!("UPDATE replicas SET end_time = {now} WHERE end_time IS NULL")
}

/// Makes each user of this id a rule that is in use, as the migrations do with the rules that they add.
async fn users_are_rules(database: &Database, id: &str) {
    let count = format!("SELECT count(*) FROM users WHERE id = '{id}'");
    let statement = if database.is_postgres() {
        format!(
            "CREATE OR REPLACE FUNCTION rules_in_use() RETURNS integer LANGUAGE sql STABLE \
             SET search_path FROM CURRENT AS $$ SELECT ({count})::integer $$"
        )
    } else {
        format!("DROP VIEW rules_in_use; CREATE VIEW rules_in_use (rules) AS {count}")
    };
    raw::run(database, &statement).await;
}

async fn old_replica(store: &dyn Store) -> Option<OldReplica> {
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.require_rules().await.expect("a read")
}

async fn a_rule_is_not_set_while_a_replica_of_an_earlier_release_lives(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId::new(at(0), [1; 10]);
    feed.register(id, Duration::from_secs(10)).await.expect("it is registered");
    assert_eq!(old_replica(&*store).await, None, "only this release");
    raw::run(&store.database, &registration_of_0_1(&store.database, 1)).await;
    let old = OldReplica { host: "old-host pid 7".to_owned(), version: None };
    assert_eq!(old_replica(&*store).await, Some(old));
    // A release between the two names itself.
    raw::run(&store.database, "UPDATE replicas SET version = '0.1.9' WHERE rules = 0").await;
    let version = old_replica(&*store).await.and_then(|old| old.version);
    assert_eq!(version.as_deref(), Some("0.1.9"));
    raw::run(&store.database, &end_all(&store.database)).await;
    assert_eq!(old_replica(&*store).await, None, "it has ended");
}

async fn a_replica_states_its_release_and_rules(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId::new(at(0), [1; 10]);
    feed.register(id, Duration::from_secs(10)).await.expect("it is registered");
    let as_expected = format!(
        "version = '{}' AND rules = 1 AND process_id = {} AND start_time <= heartbeat \
         AND waited_time IS NULL AND waited_count = 0",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    // The row may be deleted only if its end is marked.
    let end = format!("{} AND {as_expected}", end_all(&store.database));
    raw::run(&store.database, &end).await;
    assert_eq!(store.list_replicas().await.expect("a list").ended, [id], "its row is that");
}

async fn a_replica_of_an_earlier_release_does_not_register_while_a_rule_is_in_use(
    store: TestStore,
) {
    users_are_rules(&store.database, "ada").await;
    let registration = registration_of_0_1(&store.database, 1);
    raw::run(&store.database, &registration).await;
    raw::run(&store.database, &end_all(&store.database)).await;
    acme_and_ada(&*store, Role::Member).await;
    let another = registration_of_0_1(&store.database, 2);
    let refused = raw::try_run(&store.database, &another).await.expect_err("it is refused");
    assert!(refused.contains("of an earlier release"), "{refused}");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId::new(at(0), [3; 10]);
    feed.register(id, Duration::from_secs(10)).await.expect("this release registers");
    users_are_rules(&store.database, "nobody").await;
    raw::run(&store.database, &another).await;
    assert!(old_replica(&*store).await.is_some(), "no rule is in use any more");
}

/// Returns whether a statement waits for a lock. SQLite does not say.
async fn something_waits_for_a_lock(database: &Database) -> bool {
    if !database.is_postgres() {
        return true;
    }
    let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let row = sqlx::query(waiting).fetch_one(&mut connection).await.expect("a count");
    row.get::<i64, _>(0) > 0
}

async fn a_registration_waits_for_the_transaction_that_sets_a_rule(store: TestStore) {
    users_are_rules(&store.database, "ada").await;
    let mut tx = store.begin("test").await.expect("a transaction");
    assert_eq!(tx.require_rules().await.expect("a read"), None);
    tx.put_user(&user("ada")).await.expect("they are put");
    let database = Arc::clone(&store.database);
    let registering = tokio::task::spawn(async move {
        raw::try_run(&database, &registration_of_0_1(&database, 1)).await
    });
    let waits = async || something_waits_for_a_lock(&store.database).await;
    eventually("the registration waits", waits).await;
    assert!(!registering.is_finished() || !store.database.is_postgres());
    tx.commit(&event()).await.expect("it commits");
    let refused = registering.await.expect("no panic").expect_err("it sees the rule");
    assert!(refused.contains("of an earlier release"), "{refused}");
}

async fn a_rule_waits_for_the_registration_in_flight_and_sees_it(store: TestStore) {
    let statement = sqlx::AssertSqlSafe(registration_of_0_1(&store.database, 1));
    let shared = store.shared();
    let setting = async move { old_replica(&*shared).await };
    let found = if store.database.is_postgres() {
        let mut other = PgConnection::connect(&store.database.url()).await.expect("it answers");
        let mut registering = other.begin().await.expect("it begins");
        registering.execute(sqlx::raw_sql(statement)).await.expect("it is inserted");
        let setting = tokio::task::spawn(setting);
        let waits = async || something_waits_for_a_lock(&store.database).await;
        eventually("the rule waits", waits).await;
        registering.commit().await.expect("it commits");
        setting.await
    } else {
        let mut other = SqliteConnection::connect(&store.database.url()).await.expect("it opens");
        let mut registering = other.begin().await.expect("it begins");
        registering.execute(sqlx::raw_sql(statement)).await.expect("it is inserted");
        let setting = tokio::task::spawn(setting);
        registering.commit().await.expect("it commits");
        setting.await
    };
    assert!(found.expect("no panic").is_some());
    raw::run(&store.database, &end_all(&store.database)).await;
    write(&*store, async |tx| assert_eq!(tx.require_rules().await.expect("a read"), None)).await;
    // After the first of them, transactions that set rules do not wait for each other.
    if store.database.is_postgres() {
        let mut first = store.begin("test").await.expect("a transaction");
        assert_eq!(first.require_rules().await.expect("a read"), None);
        write(&*store, async |tx| assert_eq!(tx.require_rules().await.expect("a read"), None))
            .await;
    }
}

/// Returns whether a program of an earlier release opens the store: every migration that it does not know expands the
/// schema.
pub(crate) async fn opens_for_0_1(database: &Database) -> bool {
    let text = "SELECT count(*) FROM _sqlx_migrations \
                WHERE version > 16 AND description NOT LIKE 'expand%'";
    let count: i64 = if database.is_postgres() {
        let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
        sqlx::query_scalar(text).fetch_one(&mut connection).await.expect("a count")
    } else {
        let mut connection = SqliteConnection::connect(&database.url()).await.expect("it opens");
        sqlx::query_scalar(text).fetch_one(&mut connection).await.expect("a count")
    };
    count == 0
}

async fn no_program_of_an_earlier_release_opens_the_store_while_a_rule_is_in_use(store: TestStore) {
    let database = &store.database;
    users_are_rules(database, "ada").await;
    assert_eq!(old_replica(&*store).await, None);
    assert!(opens_for_0_1(database).await, "the transaction was rolled back");
    write(&*store, async |tx| {
        assert_eq!(tx.require_rules().await.expect("a read"), None);
        tx.put_user(&user("ada")).await.expect("they are put");
    })
    .await;
    assert!(!opens_for_0_1(database).await);
    store.release_rules().await.expect("it is checked");
    assert!(!opens_for_0_1(database).await, "the rule is in use");
    // This program opens it, and migrates nothing.
    let migrated = sophic_auth::store::migrate(&database.location()).await.expect("it opens");
    assert_eq!(migrated.from, migrated.to);
    database.open().await.close().await;
    users_are_rules(database, "nobody").await;
    assert!(!opens_for_0_1(database).await);
    store.release_rules().await.expect("it is checked");
    assert!(opens_for_0_1(database).await, "no rule is in use any more");
}
