//! Changes made by hand in `psql` or `sqlite3`: the change log contains them too.

use std::time::Duration;

use sophic_auth::model::{ReplicaId, Revision, Role};
use sophic_auth::store::{ChangedEntity, Published};

use super::raw;
use super::samples::{acme_and_ada, at, caller, digest, key, pat, user_id, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_statement_at_the_shell_is_in_the_change_log,
    a_row_whose_key_changes_is_logged_under_both_keys,
    a_batch_is_logged_row_by_row,
    what_the_schema_forbids_is_refused,
    deleting_all_rows_cannot_bypass_the_log,
    a_new_incarnation_of_the_store_is_detected,
}

/// Creates one of each thing that answers depend on, and returns the revision.
async fn filled_store(store: &TestStore) -> Revision {
    let (acme, ada) = acme_and_ada(&**store, Role::Member).await;
    write(&**store, async |tx| {
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
        tx.insert_credential(&pat(&ada, 2), &digest(2)).await.expect("it is made");
        tx.insert_caller(&caller("gateway", 3)).await.expect("it is made");
    })
    .await
}

async fn changes_of(store: &TestStore, after: Revision, statement: &str) -> Vec<ChangedEntity> {
    raw::run(&store.database, statement).await;
    let changes = store.list_changes(after, 100).await.expect("a page");
    let newest = store.revision().await.expect("a revision");
    assert_eq!(newest.0, after.0 + changes.len() as u64, "{statement}: no gap");
    changes.into_iter().map(|change| change.entity).collect()
}

/// Returns the statement in the dialect of the store. Times and booleans differ.
fn in_dialect(store: &TestStore, statement: &str) -> String {
    let (time, yes) = if store.database.is_postgres() {
        ("'2026-06-01T00:00:00Z'", "true")
    } else {
        ("1780272000000000", "1")
    };
    statement.replace(":time", time).replace(":true", yes)
}

async fn a_statement_at_the_shell_is_in_the_change_log(store: TestStore) {
    let mut revision = filled_store(&store).await;
    let ada = || ChangedEntity::User(user_id("ada"));
    let acme = || ChangedEntity::Workspace(super::samples::workspace("acme").id);
    let key = || ChangedEntity::Credential(digest(1));
    let gateway = || ChangedEntity::Caller(caller("gateway", 3).id);
    let statements = [
        ("UPDATE users SET disabled = :true WHERE id = 'ada'", ada()),
        ("UPDATE users SET generation = generation + 1", ada()),
        ("UPDATE memberships SET role = 1", ada()),
        ("DELETE FROM memberships WHERE user_id = 'ada'", ada()),
        ("UPDATE workspaces SET disabled = :true", acme()),
        ("UPDATE workspaces SET slug = 'renamed'", acme()),
        ("UPDATE workspaces SET delete_time = :time", acme()),
        ("UPDATE credentials SET revoke_time = :time WHERE kind = 1", key()),
        ("UPDATE credentials SET expire_time = :time WHERE kind = 1", key()),
        ("UPDATE credentials SET scopes = 1 WHERE kind = 1", key()),
        ("DELETE FROM credentials WHERE kind = 1", key()),
        ("UPDATE callers SET permissions = 0", gateway()),
        ("UPDATE callers SET revoke_time = :time", gateway()),
        ("DELETE FROM callers", gateway()),
    ];
    for (statement, entity) in statements {
        let statement = in_dialect(&store, statement);
        assert_eq!(changes_of(&store, revision, &statement).await, [entity], "{statement}");
        revision = store.revision().await.expect("a revision");
    }
    let inserts = [
        "INSERT INTO users (id, display_name, disabled, create_time, update_time) \
         SELECT 'eve', 'Eve', disabled, create_time, update_time FROM users WHERE id = 'ada'",
        "INSERT INTO memberships (user_id, workspace_id, role, create_time, update_time) \
         SELECT 'eve', id, 4, create_time, update_time FROM workspaces",
    ];
    for statement in inserts {
        let eve = [ChangedEntity::User(user_id("eve"))];
        assert_eq!(changes_of(&store, revision, statement).await, eve, "{statement}");
        revision = store.revision().await.expect("a revision");
    }
}

async fn a_row_whose_key_changes_is_logged_under_both_keys(store: TestStore) {
    let revision = filled_store(&store).await;
    let of_nine = digest(9);
    let hex: String = of_nine.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let literal =
        if store.database.is_postgres() { format!("'\\x{hex}'") } else { format!("x'{hex}'") };
    let statement = format!("UPDATE credentials SET digest = {literal} WHERE kind = 1");
    let changed = changes_of(&store, revision, &statement).await;
    assert_eq!(changed.len(), 2);
    for digest in [digest(1), of_nine] {
        assert!(changed.contains(&ChangedEntity::Credential(digest)), "{changed:?}");
    }
}

async fn a_batch_is_logged_row_by_row(store: TestStore) {
    let revision = filled_store(&store).await;
    let statement = in_dialect(&store, "UPDATE credentials SET revoke_time = :time");
    let mut changed = changes_of(&store, revision, &statement).await;
    changed.sort_by_key(|entity| format!("{entity:?}"));
    let mut both = [1, 2].map(|number| ChangedEntity::Credential(digest(number)));
    both.sort_by_key(|entity| format!("{entity:?}"));
    assert_eq!(changed, both);
    let statement = if store.database.is_postgres() {
        "BEGIN; UPDATE users SET display_name = 'X'; UPDATE workspaces SET display_name = 'X'; ROLLBACK"
    } else {
        "BEGIN IMMEDIATE; UPDATE users SET display_name = 'X'; \
         UPDATE workspaces SET display_name = 'X'; ROLLBACK"
    };
    let revision = store.revision().await.expect("a revision");
    assert_eq!(changes_of(&store, revision, statement).await, []);
}

async fn what_the_schema_forbids_is_refused(store: TestStore) {
    let revision = filled_store(&store).await;
    let attempts = [
        "UPDATE workspaces SET slug = 'Not A Slug'",
        "UPDATE workspaces SET id = 'a,b' WHERE id = 'id-of-acme'",
        "UPDATE users SET id = 'a=b' WHERE id = 'nobody' OR id = 'ada'",
        "UPDATE memberships SET role = 5",
        "UPDATE credentials SET kind = 3",
        "UPDATE credentials SET scopes = 8",
        "UPDATE credentials SET max_role = 1 WHERE kind = 1",
        "UPDATE credentials SET workspace_id = NULL WHERE kind = 1",
        "UPDATE callers SET certificate_san = 'both'",
    ];
    for attempt in attempts {
        raw::try_run(&store.database, attempt).await.expect_err(attempt);
    }
    assert_eq!(store.revision().await.expect("a revision"), revision);
}

async fn deleting_all_rows_cannot_bypass_the_log(store: TestStore) {
    let revision = filled_store(&store).await;
    if store.database.is_postgres() {
        let tables = ["workspaces", "users", "memberships", "credentials", "callers", "changes"];
        for table in tables.into_iter().chain(["counter"]) {
            let statement =
                format!("SET session_replication_role = replica; TRUNCATE {table} CASCADE");
            let error = raw::try_run(&store.database, &statement).await.expect_err(table);
            assert!(error.contains("TRUNCATE"), "{table}: {error}");
        }
        // Logical replication and some restores disable ordinary triggers like this.
        let statement = "SET session_replication_role = replica; DELETE FROM memberships";
        let ada = [ChangedEntity::User(user_id("ada"))];
        assert_eq!(changes_of(&store, revision, statement).await, ada);
    } else {
        // SQLite has no TRUNCATE. A DELETE of all rows fires the triggers for each row.
        let changed = changes_of(&store, revision, "DELETE FROM credentials").await;
        assert_eq!(changed.len(), 2);
    }
}

/// As after a restore. Replicas must not take the log for the continuation of the one they have followed.
async fn a_new_incarnation_of_the_store_is_detected(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId::new(at(0), [1; 10]);
    let (before, from) =
        feed.register(id, Duration::from_secs(10)).await.expect("it is registered");
    let restore = if store.database.is_postgres() {
        "UPDATE counter SET epoch = gen_random_uuid()"
    } else {
        "UPDATE counter SET epoch = randomblob(16)"
    };
    raw::run(&store.database, restore).await;
    let incarnation = Some(before.clone());
    let published = Published { incarnation, applied: from, seq: 1, durable: false };
    let after = feed.sync(id, &published, 100).await.expect("a sync");
    assert!(after.is_none_or(|synced| synced.incarnation != before));
    let replicas = store.list_replicas().await.expect("a list");
    assert_ne!(replicas.incarnation, before);
    // What a replica applied in the previous incarnation does not count in this one.
    assert!(replicas.replicas.iter().all(|row| row.applied.0 == 0), "{replicas:?}");
}
