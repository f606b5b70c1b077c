//! The change feed: how a replica follows the change log, and how others see its progress.

use std::time::Duration;

use sophic_auth::model::{PrincipalFacts, ReplicaId, Revision, Role};
use sophic_auth::store::{ChangedEntity, IncarnationId, Published};

use super::raw;
use super::samples::{acme_and_ada, at, digest, key, pat, user, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_replica_is_listed_from_its_registration_until_it_deregisters,
    a_sync_publishes_the_applied_revision_and_returns_later_changes,
    a_sync_returns_at_most_the_limit,
    a_sync_of_a_replica_marked_as_ended_reports_that_it_is_gone,
    the_row_of_a_running_replica_cannot_be_deleted,
    a_row_that_has_ended_can_be_deleted_and_is_cleaned_up,
    a_replica_that_makes_progress_is_not_marked_as_ended,
    a_change_wakes_a_waiting_replica,
    a_new_incarnation_of_the_store_is_detected,
    a_batch_look_up_reads_one_snapshot_and_keeps_the_order,
}

const LEASE: Duration = Duration::from_secs(10);

fn replica_id(number: u8) -> ReplicaId {
    ReplicaId::new(at(0), [number; 10])
}

fn published(incarnation: &IncarnationId, applied: Revision, seq: i64) -> Published {
    Published { incarnation: Some(incarnation.clone()), applied, seq, durable: false }
}

async fn a_replica_is_listed_from_its_registration_until_it_deregisters(store: TestStore) {
    acme_and_ada(&*store, Role::Member).await;
    let revision = store.revision().await.expect("a revision");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (incarnation, registered) = feed.register(id, LEASE).await.expect("it is registered");
    assert_eq!(registered, revision);
    let known = store.list_replicas().await.expect("a list");
    assert_eq!((known.incarnation, known.revision), (incarnation, revision));
    let [replica] = &known.replicas[..] else { panic!("{:?}", known.replicas) };
    assert_eq!((replica.id, replica.lease), (id, LEASE));
    let host = store.find_replica_host(id).await.expect("a read").expect("its process");
    assert!(host.ends_with(&format!(" pid {}", std::process::id())), "{host}");
    let unknown = store.find_replica_host(replica_id(9)).await.expect("a read");
    assert_eq!(unknown, None);
    feed.deregister(id).await.expect("it leaves");
    let known = store.list_replicas().await.expect("a list");
    assert_eq!((known.replicas, known.ended), (Vec::new(), vec![id]));
    feed.deregister(id).await.expect("leaving twice is no error");
}

async fn a_sync_publishes_the_applied_revision_and_returns_later_changes(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (incarnation, from) = feed.register(id, LEASE).await.expect("it is registered");
    let quiet = feed
        .sync(id, &published(&incarnation, from, 1), 100)
        .await
        .expect("a sync")
        .expect("it is known");
    assert_eq!((quiet.revision, quiet.changes.len()), (from, 0));
    assert_eq!(quiet.incarnation, incarnation);
    let before = store.list_replicas().await.expect("a list").replicas[0].seq;
    let committed =
        write(&*store, async |tx| tx.put_user(&user("ada")).await.expect("they are put")).await;
    let news = feed
        .sync(id, &published(&incarnation, from, 2), 100)
        .await
        .expect("a sync")
        .expect("it is known");
    assert_eq!(news.revision, committed);
    let [change] = &news.changes[..] else { panic!("{:?}", news.changes) };
    assert_eq!(change.revision, committed);
    assert_eq!(change.entity, ChangedEntity::User(user("ada").id));
    // The row shows what was applied before this sync, until the next one.
    let row = store.list_replicas().await.expect("a list").replicas[0].clone();
    assert_eq!(row.applied, from);
    assert!(row.seq > before, "each sync counts");
    feed.sync(id, &published(&incarnation, committed, 3), 100)
        .await
        .expect("a sync")
        .expect("it is known");
    assert_eq!(store.list_replicas().await.expect("a list").replicas[0].applied, committed);
}

async fn a_sync_returns_at_most_the_limit(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (life, from) = feed.register(id, LEASE).await.expect("it is registered");
    for number in 0..5 {
        let user = user(&format!("u{number}"));
        write(&*store, async |tx| tx.put_user(&user).await.expect("they are put")).await;
    }
    let mut applied = from;
    let mut pages = Vec::new();
    for seq in 1.. {
        let page = feed
            .sync(id, &published(&life, applied, seq), 2)
            .await
            .expect("a sync")
            .expect("it is known");
        let Some(last) = page.changes.last() else { break };
        assert_eq!(page.revision.0, from.0 + 5, "every page has the newest revision");
        applied = last.revision;
        pages.push(page.changes.len());
    }
    assert_eq!((pages, applied), (vec![2, 2, 1], Revision(from.0 + 5)));
}

async fn a_sync_of_a_replica_marked_as_ended_reports_that_it_is_gone(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (life, from) = feed.register(id, LEASE).await.expect("it is registered");
    let seq = store.list_replicas().await.expect("a list").replicas[0].seq;
    assert!(store.mark_replica_ended(id, seq).await.expect("an update"), "it stood still");
    assert!(!store.mark_replica_ended(id, seq).await.expect("an update"), "it is gone");
    assert_eq!(feed.sync(id, &published(&life, from, 1), 100).await.expect("a sync"), None);
    // The replica registers again with a new id.
    feed.register(replica_id(2), LEASE).await.expect("it is registered");
    assert_eq!(store.list_replicas().await.expect("a list").replicas[0].id, replica_id(2));
}

async fn the_row_of_a_running_replica_cannot_be_deleted(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (life, from) = feed.register(id, LEASE).await.expect("it is registered");
    let mut attempts = vec!["DELETE FROM replicas", "UPDATE replicas SET lease = 1"];
    if store.database.is_postgres() {
        attempts.push("TRUNCATE replicas");
        attempts.push("SET session_replication_role = replica; DELETE FROM replicas");
    }
    for attempt in attempts {
        let error = raw::try_run(&store.database, attempt).await.expect_err("raw SQL is refused");
        assert!(
            ["has not left", "change log", "stay as they are"]
                .iter()
                .any(|why| error.contains(why)),
            "{error}"
        );
    }
    assert_eq!(store.list_replicas().await.expect("a list").replicas.len(), 1);
    assert!(feed.sync(id, &published(&life, from, 1), 100).await.expect("a sync").is_some());
}

async fn a_row_that_has_ended_can_be_deleted_and_is_cleaned_up(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let (left, given_up, late) = (replica_id(1), replica_id(2), replica_id(3));
    for id in [left, given_up, late] {
        feed.register(id, LEASE).await.expect("it is registered");
    }
    feed.deregister(left).await.expect("it leaves");
    assert!(store.mark_replica_ended(given_up, 0).await.expect("an update"));
    let rows = store.list_replicas().await.expect("a list");
    assert_eq!(rows.replicas.iter().map(|row| row.id).collect::<Vec<_>>(), [late]);
    assert!(rows.ended.contains(&left) && rows.ended.contains(&given_up), "{rows:?}");
    let undone = raw::try_run(&store.database, "UPDATE replicas SET end_time = NULL").await;
    undone.expect_err("an end time cannot be removed");
    // The end was long ago, so every other process has seen it.
    let long_ago = if store.database.is_postgres() {
        "UPDATE replicas SET end_time = end_time - interval '2 hours'"
    } else {
        "UPDATE replicas SET end_time = end_time - 7200000000"
    };
    raw::run(&store.database, long_ago).await;
    feed.register(replica_id(4), LEASE).await.expect("it is registered");
    assert_eq!(store.list_replicas().await.expect("a list").ended, []);
}

async fn a_replica_that_makes_progress_is_not_marked_as_ended(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (life, from) = feed.register(id, LEASE).await.expect("it is registered");
    let seq = store.list_replicas().await.expect("a list").replicas[0].seq;
    feed.sync(id, &published(&life, from, 1), 100).await.expect("a sync").expect("it is known");
    assert!(!store.mark_replica_ended(id, seq).await.expect("an update"), "it has moved since");
    assert!(feed.sync(id, &published(&life, from, 2), 100).await.expect("a sync").is_some());
}

async fn a_change_wakes_a_waiting_replica(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (life, from) = feed.register(id, LEASE).await.expect("it is registered");
    // Nothing changes, so the wait times out.
    feed.wait(Duration::from_millis(10)).await.expect("a wait");
    let shared = store.shared();
    let writer = tokio::task::spawn(async move {
        let mut tx = shared.begin("test").await.expect("a transaction");
        tx.put_user(&user("ada")).await.expect("they are put");
        tx.commit(&super::samples::event()).await.expect("it commits")
    });
    // A hint may come early or get lost. Only the sync after it counts.
    for seq in 1.. {
        feed.wait(Duration::from_millis(200)).await.expect("a wait");
        let synced = feed
            .sync(id, &published(&life, from, seq), 100)
            .await
            .expect("a sync")
            .expect("it is known");
        if !synced.changes.is_empty() {
            break;
        }
    }
    writer.await.expect("no panic");
}

async fn a_new_incarnation_of_the_store_is_detected(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let (before, from) = feed.register(id, LEASE).await.expect("it is registered");
    let restore = if store.database.is_postgres() {
        "UPDATE counter SET epoch = gen_random_uuid()"
    } else {
        "UPDATE counter SET epoch = randomblob(16)"
    };
    raw::run(&store.database, restore).await;
    let after = feed.sync(id, &published(&before, from, 1), 100).await.expect("a sync");
    assert!(after.is_none_or(|synced| synced.incarnation != before));
    assert_ne!(store.list_replicas().await.expect("a list").incarnation, before);
}

async fn a_batch_look_up_reads_one_snapshot_and_keeps_the_order(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Member).await;
    let revision = write(&*store, async |tx| {
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
        tx.insert_credential(&pat(&ada, 2), &digest(2)).await.expect("it is made");
    })
    .await;
    let asked = [
        (digest(2), Some("acme".to_owned())),
        (digest(9), None),
        (digest(1), Some("acme".to_owned())),
        (digest(2), Some("nowhere".to_owned())),
        (digest(2), None),
    ];
    let answers = store.look_up_many(&asked).await.expect("a read");
    assert_eq!(answers.len(), asked.len());
    for (answer, (digest, workspace)) in answers.iter().zip(&asked) {
        assert_eq!(answer.revision, revision);
        let alone = store.look_up(digest, workspace.as_deref()).await.expect("a read");
        assert_eq!(answer.found, alone.found, "as by itself");
    }
    let named = answers[0].found.as_ref().expect("it is there").named_workspace.as_deref();
    assert_eq!(named, Some(&acme));
    let principal = &answers[2].found.as_ref().expect("it is there").principal;
    assert_eq!(*principal, PrincipalFacts::Workspace(acme.into()));
    assert_eq!(store.look_up_many(&[]).await.expect("a read"), []);
}
