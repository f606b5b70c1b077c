//! Pending end events: recording them, taking them in one transaction at a time, writing them in batches, deleting
//! them.

use sophic_auth::model::{CredentialId, Timestamp, UserId, WorkspaceId};
use sophic_auth::store::{PendingEnds, PendingEndsOwner};
use uuid::Uuid;

use super::samples::event;
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    pending_ends_are_stored_and_worked_off,
    pending_end_events_taken_by_one_transaction_are_skipped_by_others,
}

fn pending_ends(number: u128, owner: PendingEndsOwner) -> PendingEnds {
    PendingEnds {
        id: Uuid::from_u128(number),
        owner,
        generation: 3,
        revoke_time: Timestamp::from_unix_micros(1_700_000_000_000_001).expect("a time"),
        caller: "dashboard".to_owned(),
        remote_address: Some("192.0.2.1".to_owned()),
        reason: "workspace acme was deleted".to_owned(),
        last_written_id: CredentialId(Uuid::from_u128(7)),
        written_count: 200,
    }
}

async fn pending_ends_are_stored_and_worked_off(store: TestStore) {
    assert!(!store.has_pending_ends().await.expect("a read"));
    let acme = PendingEndsOwner::Workspace(WorkspaceId::parse("acme").expect("an id"));
    let first = pending_ends(1, acme);
    let second = PendingEnds {
        remote_address: None,
        ..pending_ends(2, PendingEndsOwner::User(UserId::parse("ada").expect("an id")))
    };
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.save_pending_ends(&second).await.expect("it is noted");
    tx.save_pending_ends(&first).await.expect("it is noted");
    tx.commit(&event()).await.expect("it commits");
    assert!(store.has_pending_ends().await.expect("a read"));
    let mut tx = store.begin("test").await.expect("a transaction");
    let taken = tx.take_pending_ends().await.expect("a read").expect("the oldest");
    assert_eq!(taken, first);
    assert_eq!(tx.list_pending_ends(&taken, 10).await.expect("a read"), []);
    let further = PendingEnds {
        last_written_id: CredentialId(Uuid::from_u128(9)),
        written_count: 400,
        ..first
    };
    tx.save_pending_ends(&further).await.expect("it is noted");
    assert_eq!(tx.take_pending_ends().await.expect("a read"), Some(further.clone()));
    tx.delete_pending_ends(further.id).await.expect("it is dropped");
    assert_eq!(tx.take_pending_ends().await.expect("a read"), Some(second));
}

async fn pending_end_events_taken_by_one_transaction_are_skipped_by_others(store: TestStore) {
    if !store.database.is_postgres() {
        // SQLite allows one writer at a time.
        return;
    }
    let acme = PendingEndsOwner::Workspace(WorkspaceId::parse("acme").expect("an id"));
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.save_pending_ends(&pending_ends(1, acme)).await.expect("it is noted");
    tx.commit(&event()).await.expect("it commits");
    let mut one = store.begin("one").await.expect("a transaction");
    assert!(one.take_pending_ends().await.expect("a read").is_some());
    let mut other = store.begin("other").await.expect("a transaction");
    assert_eq!(other.take_pending_ends().await.expect("a read"), None);
    drop(one);
}
