//! Deleting old data: audit events, only by command, and rows of the change log once no replica needs them.

use std::time::Duration;

use sophic_auth::model::{AuditEvent, EventId, ReplicaId, Timestamp};
use sophic_auth::store::{AuditFilter, Published, Store};
use uuid::Uuid;

use super::raw;
use super::samples::{event, user, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    old_events_are_deleted_oldest_first_and_the_rest_is_append_only,
    events_are_ordered_and_filtered_by_time_to_the_microsecond,
    each_filter_of_events_uses_an_index,
    old_changes_are_deleted_but_never_the_newest,
    changes_that_a_replica_has_not_applied_stay,
    changes_are_deleted_as_a_prefix_even_if_the_clock_jumped,
}

/// Returns an event of this time in microseconds.
fn event_at(micros: i64) -> AuditEvent {
    let time = Timestamp::from_unix_micros(micros).expect("a time");
    AuditEvent { id: EventId::in_order(time, [0xff; 10]), time, ..event() }
}

async fn all(store: &dyn Store) -> Vec<AuditEvent> {
    store.list_audit_events(&AuditFilter::default(), None, 1_000).await.expect("a page")
}

async fn old_events_are_deleted_oldest_first_and_the_rest_is_append_only(store: TestStore) {
    let events: Vec<_> = (1..=5).map(|second| event_at(second * 1_000_000)).collect();
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&events[..4]).await.expect("they are appended");
    tx.commit(&events[4]).await.expect("it commits");
    let purge = async |cutoff: i64, limit| {
        let cutoff = Timestamp::from_unix_micros(cutoff).expect("a time");
        let mut tx = store.begin("test").await.expect("a transaction");
        let count = tx.delete_audit_events(cutoff, limit).await.expect("they are dropped");
        // A commit includes an event, here one newer than all others.
        let kept = event_at(9_000_000 + cutoff.unix_micros());
        tx.commit(&kept).await.expect("it commits");
        (count, kept)
    };
    let (count, first) = purge(4_000_000, 2).await;
    assert_eq!(count, 2);
    let (count, second) = purge(4_000_001, 100).await;
    assert_eq!(count, 2, "at the cutoff it is not old yet");
    assert_eq!(all(&*store).await, [events[4].clone(), first, second]);
    let attempt = "DELETE FROM audit_events";
    let error = raw::try_run(&store.database, attempt).await.expect_err("raw SQL is refused");
    assert!(error.contains("append-only"), "{error}");
}

async fn events_are_ordered_and_filtered_by_time_to_the_microsecond(store: TestStore) {
    let micros = [1_700_000_000_000_001, 1_700_000_000_000_002, 1_700_000_000_000_999];
    let events = micros.map(event_at);
    // Not written in the order of their times.
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&[events[2].clone(), events[0].clone()]).await.expect("appended");
    tx.commit(&events[1]).await.expect("it commits");
    assert_eq!(all(&*store).await, events);
    let between = AuditFilter {
        start_time: Timestamp::from_unix_micros(micros[1]),
        end_time: Timestamp::from_unix_micros(micros[2]),
        ..AuditFilter::default()
    };
    let found = store.list_audit_events(&between, None, 10).await.expect("a page");
    assert_eq!(found, events[1..2]);
    let rest = store.list_audit_events(&between, Some(found[0].id), 10).await.expect("a page");
    assert_eq!(rest, []);
}

/// Returns the query plan for listing by this condition.
async fn plan(store: &TestStore, condition: &str) -> String {
    let statement = format!("SELECT id FROM audit_events WHERE {condition} ORDER BY id LIMIT 50");
    raw::explain(&store.database, &statement).await
}

async fn each_filter_of_events_uses_an_index(store: TestStore) {
    let filters = [
        ("caller = 'x'", "audit_events_caller"),
        ("acting_user = 'x'", "audit_events_acting_user"),
        ("action = 'x'", "audit_events_action"),
        ("target_kind = 'x'", "audit_events_target_kind"),
        ("target_id <> '' AND target_id = 'x'", "audit_events_target"),
    ];
    for (filter, index) in filters {
        let plan = plan(&store, filter).await;
        assert!(plan.contains(index), "{filter}: {plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("Sort"), "{filter}: {plan}");
    }
}

async fn five_changes(store: &dyn Store) {
    for _ in 0..5 {
        write(store, async |tx| {
            let mut ada = user("ada");
            ada.generation = i64::try_from(store.revision().await.expect("one").0).expect("small");
            tx.put_user(&ada).await.expect("they are put");
        })
        .await;
    }
}

async fn revisions(store: &dyn Store) -> Vec<u64> {
    let changes = store.list_changes(Default::default(), 100).await.expect("a page");
    changes.iter().map(|change| change.revision.0).collect()
}

fn far_future() -> Timestamp {
    Timestamp::parse("9999-01-01T00:00:00Z").expect("a time")
}

async fn old_changes_are_deleted_but_never_the_newest(store: TestStore) {
    five_changes(&*store).await;
    let long_ago = Timestamp::from_unix_micros(0).expect("a time");
    assert_eq!(store.delete_changes(long_ago, 100).await.expect("none is so old"), 0);
    assert_eq!(store.delete_changes(far_future(), 2).await.expect("a batch"), 2);
    assert_eq!(revisions(&*store).await, [3, 4, 5]);
    assert_eq!(store.delete_changes(far_future(), 100).await.expect("a batch"), 2);
    assert_eq!(revisions(&*store).await, [5], "by which a reader sees what it missed");
    assert_eq!(store.delete_changes(far_future(), 100).await.expect("nothing"), 0);
    assert_eq!(store.revision().await.expect("a revision").0, 5);
}

async fn changes_that_a_replica_has_not_applied_stay(store: TestStore) {
    let mut feed = store.open_feed().await.expect("a feed");
    five_changes(&*store).await;
    let id = ReplicaId(Uuid::from_u128(1));
    let registered = feed.register(id, Duration::from_secs(5)).await.expect("it registers");
    assert_eq!(store.delete_changes(far_future(), 100).await.expect("it has read nothing yet"), 0);
    let (incarnation, applied) = registered;
    let incarnation = Some(incarnation);
    let published = Published { incarnation, applied, seq: 1, durable: false };
    feed.sync(id, &published, 100).await.expect("it answers").expect("its row");
    five_changes(&*store).await;
    assert_eq!(store.delete_changes(far_future(), 100).await.expect("a batch"), 5);
    assert_eq!(revisions(&*store).await, [6, 7, 8, 9, 10]);
}

async fn changes_are_deleted_as_a_prefix_even_if_the_clock_jumped(store: TestStore) {
    five_changes(&*store).await;
    // The clock was ahead when the second change was committed.
    let time = if store.database.is_postgres() { "'2100-01-01'" } else { "4102444800000000" };
    let step = format!("UPDATE changes SET commit_time = {time} WHERE revision = 2");
    raw::run(&store.database, &step).await;
    let cutoff = Timestamp::parse("2099-01-01T00:00:00Z").expect("a time");
    assert_eq!(store.delete_changes(cutoff, 100).await.expect("a batch"), 1);
    assert_eq!(revisions(&*store).await, [2, 3, 4, 5], "no gap to read over");
}
