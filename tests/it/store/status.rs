//! The state of the service: the rows of replicas, and numbers of entities.

use std::time::Duration;

use sophic_auth::model::{CredentialKind, CredentialState, ReplicaId, Role, Timestamp};
use sophic_auth::store::{EntityCounts, Published, StoreKind};

use super::raw;
use super::rules::{end_all, registration_of_0_1};
use super::samples::{acme_and_ada, at, caller, digest, key, pat, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_replica_is_shown_with_its_release_its_progress_and_the_waits_for_it,
    replicas_of_earlier_releases_and_ended_ones_are_shown,
    credentials_are_counted_by_kind_and_state,
    credentials_that_expire_soon_are_counted_without_revoked_ones,
}

fn replica_id(number: u8) -> ReplicaId {
    ReplicaId::new(at(i64::from(number)), [number; 10])
}

async fn a_replica_is_shown_with_its_release_its_progress_and_the_waits_for_it(store: TestStore) {
    let kind = if store.database.is_postgres() { StoreKind::Postgres } else { StoreKind::Sqlite };
    assert_eq!(store.kind(), kind);
    acme_and_ada(&*store, Role::Member).await;
    let mut feed = store.open_feed().await.expect("a feed");
    let id = replica_id(1);
    let lease = Duration::from_secs(10);
    let (incarnation, revision) = feed.register(id, lease).await.expect("it is registered");
    let all = store.list_replica_details(None, 10).await.expect("a list");
    let [shown] = &all[..] else { panic!("{all:?}") };
    assert_eq!((shown.id, shown.lease, shown.applied.0), (id, lease, 0));
    assert_eq!(shown.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(shown.process_id, Some(i64::from(std::process::id())));
    assert!(!shown.host.is_empty() && !shown.host.contains(" pid "), "{shown:?}");
    assert!(shown.start_time.is_some_and(|start| start <= shown.sync_time), "{shown:?}");
    assert_eq!((shown.waited_time, shown.waited_count, shown.end_time), (None, 0, None));
    assert_eq!(shown.read.0, revision);
    assert!(shown.is_in_time());
    let incarnation = Some(incarnation);
    let published = Published { incarnation, applied: revision, seq: 1, durable: false };
    feed.sync(id, &published, 10).await.expect("a sync").expect("its row");
    for _ in 0..2 {
        store.note_replica_wait(id).await.expect("it is recorded");
    }
    store.note_replica_wait(replica_id(9)).await.expect("a row that is gone is no error");
    let all = store.list_replica_details(None, 10).await.expect("a list");
    assert_eq!((all[0].applied, all[0].waited_count), (revision, 2));
    assert!(all[0].waited_time.is_some_and(|time| time >= all[0].sync_time), "{all:?}");
}

async fn replicas_of_earlier_releases_and_ended_ones_are_shown(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    for number in [0x21, 0x22] {
        feed.register(replica_id(number), Duration::from_millis(1)).await.expect("registered");
    }
    feed.deregister(replica_id(0x21)).await.expect("it leaves");
    raw::run(&store.database, &registration_of_0_1(&store.database, 0xee)).await;
    let all = store.list_replica_details(None, 10).await.expect("a list");
    let [ended, late, old] = &all[..] else { panic!("{all:?}") };
    assert_eq!((ended.id, late.id), (replica_id(0x21), replica_id(0x22)));
    assert!(ended.end_time.is_some() && late.end_time.is_none());
    // A millisecond may not have passed yet.
    assert!(!late.is_in_time() || late.read.1 <= late.sync_time.saturating_add(late.lease));
    assert_eq!((old.host.as_str(), old.process_id), ("old-host", Some(7)));
    assert_eq!((&old.version, old.start_time), (&None, None));
    let rest = store.list_replica_details(Some(late.id), 10).await.expect("a page");
    assert_eq!(rest.iter().map(|row| row.id).collect::<Vec<_>>(), [old.id]);
    let first = store.list_replica_details(None, 1).await.expect("a page");
    assert_eq!(first.iter().map(|row| row.id).collect::<Vec<_>>(), [ended.id]);
    raw::run(&store.database, &end_all(&store.database)).await;
}

/// Keys in each state at this time, and tokens of a user, some of which ended with the user's generation.
async fn credentials(store: &TestStore, now: Timestamp) {
    let (acme, ada) = acme_and_ada(&**store, Role::Member).await;
    let later = now.checked_add(Duration::from_hours(1)).expect("a time");
    write(&**store, async |tx| {
        for number in 1..=8 {
            let mut key = key(&acme, number);
            (key.expire_time, key.disable_time, key.revoke_time) = match number {
                1 | 2 => (None, None, None),
                3 => (Some(later), None, None),
                4 => (Some(now), None, None),
                5 => (Some(now), Some(now), None),
                6 => (Some(later), Some(now), None),
                _ => (Some(later), Some(now), Some(now)),
            };
            tx.insert_credential(&key, &digest(number)).await.expect("it is made");
        }
        let mut ended = pat(&ada, 11);
        (ended.expire_time, ended.disable_time, ended.revoke_time) = (Some(later), None, None);
        tx.insert_credential(&ended, &digest(11)).await.expect("it is made");
        let mut next = ada.clone();
        next.generation += 1;
        tx.put_user(&next).await.expect("they are put");
        let mut live = pat(&next, 12);
        live.generation = next.generation;
        (live.expire_time, live.disable_time, live.revoke_time) = (Some(later), None, None);
        tx.insert_credential(&live, &digest(12)).await.expect("it is made");
        tx.insert_caller(&caller("gateway", 1)).await.expect("it is made");
        let mut revoked = caller("former", 2);
        revoked.revoke_time = Some(now);
        tx.insert_caller(&revoked).await.expect("it is made");
    })
    .await;
}

async fn credentials_are_counted_by_kind_and_state(store: TestStore) {
    use CredentialKind::{Key, Pat};
    use CredentialState::{Active, Disabled, Expired, Revoked};
    assert_eq!(store.count_entities(at(9), 100).await.expect("a count"), EntityCounts::default());
    credentials(&store, at(9)).await;
    let mut counts = store.count_entities(at(9), 100).await.expect("a count");
    counts.credentials.sort_by_key(|(kind, state, _)| format!("{kind} {state}"));
    let expected = [
        (Key, Active, 3),
        (Key, Disabled, 1),
        (Key, Expired, 2),
        (Key, Revoked, 2),
        (Pat, Active, 1),
        (Pat, Revoked, 1),
    ];
    assert_eq!(counts.credentials, expected);
    assert_eq!((counts.workspaces, counts.users, counts.callers), (1, 1, 1));
    let limited = store.count_entities(at(9), 4).await.expect("a count");
    assert_eq!(limited.credentials.iter().map(|(.., count)| count).sum::<u64>(), 4);
}

async fn credentials_that_expire_soon_are_counted_without_revoked_ones(store: TestStore) {
    credentials(&store, at(9)).await;
    let hour = at(9).checked_add(Duration::from_hours(1)).expect("a time");
    let soon = hour.checked_add(Duration::from_secs(1)).expect("a time");
    let expiring = store.count_expiring(at(9), soon, 100).await.expect("a count");
    assert_eq!((expiring.count, expiring.read), (3, 6));
    let expiring = store.count_expiring(at(9), hour, 100).await.expect("a count");
    assert_eq!((expiring.count, expiring.read), (0, 0));
    let limited = store.count_expiring(at(9), soon, 2).await.expect("a count");
    assert_eq!(limited.read, 2);
}
