//! Following the change log: registering, syncing, being given up.

use std::time::Duration;

use sophic_auth::model::{
    AuditEvent, DisplayName, EventId, ReplicaId, Revision, Timestamp, User, UserId,
};
use sophic_auth::store::{ChangedEntity, Store};
use uuid::Uuid;

use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_replica_is_listed_from_registering_to_leaving,
    a_sync_publishes_what_is_applied_and_gives_what_comes_after,
    a_sync_gives_no_more_than_was_asked_for,
    a_replica_is_fenced_only_where_it_stood,
    waiting_ends_when_something_is_committed,
    many_are_looked_up_as_each_would_be,
}

const LEASE: Duration = Duration::from_secs(5);

fn replica(number: u128) -> ReplicaId {
    ReplicaId(Uuid::from_u128(number))
}

/// A number of its own for each short text.
fn fold(text: &str) -> u64 {
    text.bytes().fold(7, |number, byte| number.wrapping_mul(31).wrapping_add(byte.into()))
}

fn now() -> Timestamp {
    Timestamp::from_unix_micros(1_700_000_000_000_000).expect("a time")
}

/// Commits a change of this user.
async fn put_user(store: &dyn Store, id: &str) -> Revision {
    let user = User {
        id: UserId::parse(id).expect("an id"),
        display_name: DisplayName::parse(id).expect("a name"),
        disabled: false,
        generation: 0,
        generation_time: None,
        create_time: now(),
        update_time: now(),
        delete_time: None,
    };
    let event = AuditEvent {
        id: EventId(Uuid::from_u64_pair(fold(id), 0)),
        time: now(),
        action: "user.put".to_owned(),
        caller: "test".to_owned(),
        acting_user: None,
        target_kind: "user".to_owned(),
        target_id: id.to_owned(),
        remote_address: None,
        before: None,
        after: None,
        reason: None,
    };
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_user(&user).await.expect("it is put");
    tx.commit(&event).await.expect("it is committed")
}

async fn a_replica_is_listed_from_registering_to_leaving(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let (incarnation, revision) = feed.register(replica(1), LEASE).await.expect("it registers");
    let listed = store.list_replicas().await.expect("the rows");
    assert_eq!((&listed.incarnation, listed.revision), (&incarnation, revision));
    assert_eq!(listed.replicas.len(), 1);
    let row = &listed.replicas[0];
    assert_eq!((row.id, row.applied, row.lease), (replica(1), Revision(0), LEASE));
    feed.deregister(replica(1)).await.expect("it leaves");
    assert!(store.list_replicas().await.expect("the rows").replicas.is_empty());
}

async fn a_sync_publishes_what_is_applied_and_gives_what_comes_after(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let (incarnation, start) = feed.register(replica(1), LEASE).await.expect("it registers");
    let first = put_user(&*store, "ada").await;
    let second = put_user(&*store, "bob").await;
    let synced = feed.sync(replica(1), start, 100).await.expect("it answers").expect("its row");
    assert_eq!((synced.incarnation, synced.revision), (incarnation, second));
    let changes: Vec<_> =
        synced.changes.into_iter().map(|change| (change.revision, change.entity)).collect();
    let user = |id| ChangedEntity::User(UserId::parse(id).expect("an id"));
    assert_eq!(changes, [(first, user("ada")), (second, user("bob"))]);
    let before = store.list_replicas().await.expect("the rows").replicas[0].clone();
    let synced = feed.sync(replica(1), second, 100).await.expect("it answers").expect("its row");
    assert!(synced.changes.is_empty());
    let after = store.list_replicas().await.expect("the rows").replicas[0].clone();
    assert_eq!((before.applied, after.applied), (start, second));
    assert!(after.seq > before.seq);
}

async fn a_sync_gives_no_more_than_was_asked_for(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let (_, start) = feed.register(replica(1), LEASE).await.expect("it registers");
    for id in ["a", "b", "c"] {
        put_user(&*store, id).await;
    }
    let synced = feed.sync(replica(1), start, 2).await.expect("it answers").expect("its row");
    assert_eq!(synced.changes.len(), 2);
    assert_eq!(synced.revision.0, start.0 + 3);
}

async fn a_replica_is_fenced_only_where_it_stood(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let (_, start) = feed.register(replica(1), LEASE).await.expect("it registers");
    let seq = store.list_replicas().await.expect("the rows").replicas[0].seq;
    feed.sync(replica(1), start, 1).await.expect("it answers").expect("its row");
    assert!(!store.fence_replica(replica(1), seq).await.expect("it answers"));
    let seq = store.list_replicas().await.expect("the rows").replicas[0].seq;
    assert!(store.fence_replica(replica(1), seq).await.expect("it answers"));
    let synced = feed.sync(replica(1), start, 1).await.expect("it answers");
    assert_eq!(synced, None, "it learns that it was given up");
}

async fn waiting_ends_when_something_is_committed(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    let (_, start) = feed.register(replica(1), LEASE).await.expect("it registers");
    feed.sync(replica(1), start, 1).await.expect("it answers").expect("its row");
    // What is committed before it listens is not heard, so one is committed after the other until it hears.
    let commits = async {
        for number in 0_u32.. {
            put_user(&*store, &format!("user{number}")).await;
        }
    };
    tokio::select! {
        heard = feed.wait(Duration::from_secs(3_600)) => heard.expect("it hears"),
        () = commits => {}
    }
}

async fn many_are_looked_up_as_each_would_be(store: TestStore) {
    let digests = ["a", "b", "c"].map(sophic_auth::model::Digest::of);
    let asked: Vec<_> = digests.iter().map(|digest| (*digest, Some("acme".to_owned()))).collect();
    let many = store.look_up_many(&asked).await.expect("answers");
    for ((digest, workspace), answer) in asked.iter().zip(&many) {
        let single = store.look_up(digest, workspace.as_deref()).await.expect("an answer");
        assert_eq!(*answer, single);
    }
    assert_eq!(many.len(), 3);
    assert!(store.look_up_many(&[]).await.expect("no answers").is_empty());
}
