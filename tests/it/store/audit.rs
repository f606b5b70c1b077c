//! The audit log: every commit includes an event, and events cannot be changed.

use sophic_auth::model::{AuditEvent, EventId};

use super::raw;
use super::samples::{event, user_id, workspace};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    an_event_is_kept_with_all_its_fields,
    a_batch_of_events_is_appended_like_single_events,
    events_are_listed_in_order_page_by_page,
    an_event_is_committed_only_with_its_change,
    an_event_can_be_neither_changed_nor_deleted,
}

/// Commits a transaction that contains only this event.
async fn commit(store: &TestStore, event: &AuditEvent) {
    let tx = store.begin("test").await.expect("a transaction");
    tx.commit(event).await.expect("it commits");
}

fn full_event() -> AuditEvent {
    AuditEvent {
        acting_user: Some(user_id("ada")),
        remote_address: Some("2001:db8::1".to_owned()),
        before: Some(r#"{"name":"Größe","z":1,"a":[2, 3]}"#.to_owned()),
        after: Some("{}".to_owned()),
        reason: Some("left in 'public' 🙈".to_owned()),
        refusal: Some("ROLE_TOO_LOW".to_owned()),
        ..event()
    }
}

async fn an_event_is_kept_with_all_its_fields(store: TestStore) {
    let (bare, full) = (event(), full_event());
    commit(&store, &bare).await;
    commit(&store, &full).await;
    assert_eq!(
        store.list_audit_events(&Default::default(), None, 10).await.expect("a page"),
        [bare, full]
    );
}

async fn a_batch_of_events_is_appended_like_single_events(store: TestStore) {
    // Text that could be mistaken for a number, a list or null in JSON, and more events than one batch of an import
    // has.
    let begin = [event(), full_event()];
    let odd = ["0012", "[1]", "null", "true", "", "\"", "1e3"].map(|text| AuditEvent {
        caller: text.to_owned(),
        before: Some(text.to_owned()),
        reason: Some(text.to_owned()),
        ..event()
    });
    let plain = (0..1_500).map(|_| event());
    let mut events: Vec<_> = begin.into_iter().chain(odd).chain(plain).collect();
    let last = event();
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&[]).await.expect("none is fine");
    tx.insert_audit_events(&events).await.expect("they are appended");
    tx.commit(&last).await.expect("it commits");
    events.push(last);
    let all = async || store.list_audit_events(&Default::default(), None, 10_000).await;
    assert_eq!(all().await.expect("a page"), events);
    // All of them or none.
    let mut tx = store.begin("test").await.expect("a transaction");
    let twice = [event(), events[3].clone()];
    tx.insert_audit_events(&twice).await.expect_err("the id of the second is taken");
    drop(tx);
    assert_eq!(all().await.expect("a page"), events);
}

async fn events_are_listed_in_order_page_by_page(store: TestStore) {
    let events: Vec<_> = (0..5).map(|_| event()).collect();
    for event in events.iter().rev() {
        commit(&store, event).await;
    }
    let first = store.list_audit_events(&Default::default(), None, 2).await.expect("a page");
    assert_eq!(first, events[..2]);
    let rest =
        store.list_audit_events(&Default::default(), Some(first[1].id), 10).await.expect("a page");
    assert_eq!(rest, events[2..]);
    let end: Option<EventId> = rest.last().map(|event| event.id);
    assert_eq!(store.list_audit_events(&Default::default(), end, 10).await.expect("a page"), []);
}

async fn an_event_is_committed_only_with_its_change(store: TestStore) {
    let first = event();
    commit(&store, &first).await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_workspace(&workspace("acme")).await.expect("it is put");
    // The same event again. Its id is taken, so the commit fails and the change is rolled back.
    tx.commit(&first).await.expect_err("the event's id is taken");
    assert_eq!(store.find_workspace("acme").await.expect("a read"), None);
    assert_eq!(
        store.list_audit_events(&Default::default(), None, 10).await.expect("a page"),
        [first]
    );
    store.ping().await.expect("the connection is good for more");
}

async fn an_event_can_be_neither_changed_nor_deleted(store: TestStore) {
    let event = event();
    commit(&store, &event).await;
    let mut attempts =
        vec!["UPDATE audit_events SET action = 'nothing.happened'", "DELETE FROM audit_events"];
    if store.database.is_postgres() {
        attempts.push("TRUNCATE audit_events");
        attempts.push("SET session_replication_role = replica; DELETE FROM audit_events");
    } else {
        attempts.push("INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events");
    }
    for attempt in attempts {
        let error = raw::try_run(&store.database, attempt).await.expect_err(attempt);
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    assert_eq!(
        store.list_audit_events(&Default::default(), None, 10).await.expect("a page"),
        [event]
    );
}
