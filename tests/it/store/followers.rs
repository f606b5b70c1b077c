//! Followers of the audit log: numbers that events get after their commit, so that nothing appears behind a follower.

use std::collections::BTreeSet;
use std::sync::Arc;

use sophic_auth::model::{AuditEvent, EventId};
use sophic_auth::store::{AuditFilter, Store};

use super::raw;
use super::samples::event;
use crate::stores::{TestStore, on_every_store};
use crate::waits::{eventually, eventually_some, within, yield_once};

on_every_store! {
    an_event_that_appears_behind_others_is_not_missed,
    followers_beside_busy_writers_get_every_event_once,
    an_old_log_is_numbered_in_batches,
    a_number_is_given_only_once,
    a_page_of_a_narrow_filter_examines_a_bounded_part_of_the_log,
    an_event_gets_a_number_once_and_changes_in_nothing_else,
}

async fn commit(store: &dyn Store, events: &[AuditEvent]) {
    let (last, others) = events.split_last().expect("an event");
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(others).await.expect("they are appended");
    tx.commit(last).await.expect("it commits");
}

/// A follower that reads small pages and numbers few events at a time.
struct Follower {
    store: Arc<dyn Store>,
    at: i64,
}

impl Follower {
    fn of(store: &TestStore) -> Self {
        Self { store: store.shared(), at: 0 }
    }

    async fn page(&mut self) -> Vec<EventId> {
        let head = self.store.number_audit_events(7).await.expect("the head");
        let all = AuditFilter::default();
        let page = self.store.list_numbered_events(&all, self.at, head.last, 5).await;
        let page = page.expect("a page");
        assert!(page.examined >= self.at);
        for event in &page.events {
            assert!(event.number > self.at, "{event:?} after {}", self.at);
            self.at = event.number;
        }
        self.at = page.examined;
        page.events.into_iter().map(|event| event.event.id).collect()
    }

    /// All events up to the end of the log.
    async fn rest(&mut self) -> Vec<EventId> {
        let mut ids = Vec::new();
        within("the end of the log", async {
            loop {
                ids.extend(self.page().await);
                let head = self.store.number_audit_events(7).await.expect("the head");
                if self.at == head.last && !head.has_unnumbered {
                    return;
                }
            }
        })
        .await;
        ids
    }
}

async fn an_event_that_appears_behind_others_is_not_missed(store: TestStore) {
    let [first, second, third, fourth] = std::array::from_fn(|_| event());
    let mut follower = Follower::of(&store);
    // SQLite has one writer at a time, so there the older event is only begun later.
    let mut open = None;
    if store.database.is_postgres() {
        let mut tx = store.begin("test").await.expect("a transaction");
        tx.insert_audit_events(std::slice::from_ref(&first)).await.expect("it is appended");
        open = Some(tx);
    }
    commit(&*store, std::slice::from_ref(&third)).await;
    assert_eq!(follower.rest().await, [third.id], "the older one is not committed yet");
    match open {
        Some(tx) => drop(tx.commit(&second).await.expect("it commits")),
        None => commit(&*store, &[first.clone(), second.clone()]).await,
    }
    assert_eq!(follower.rest().await, [first.id, second.id]);
    assert_eq!(follower.rest().await, []);
    commit(&*store, std::slice::from_ref(&fourth)).await;
    assert_eq!(follower.rest().await, [fourth.id]);
    let again = Follower::of(&store).rest().await;
    assert_eq!(again, [third.id, first.id, second.id, fourth.id], "the order stays");
}

async fn followers_beside_busy_writers_get_every_event_once(store: TestStore) {
    const WRITERS: usize = 3;
    const COMMITS: usize = 25;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.shared();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..COMMITS {
                    let events = [event(), event()];
                    yield_once().await;
                    commit(&*store, &events).await;
                    ids.extend(events.map(|event| event.id));
                }
                ids
            })
        })
        .collect();
    let followers: Vec<_> = (0..2)
        .map(|_| {
            let mut follower = Follower::of(&store);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                let all = async {
                    while ids.len() < WRITERS * COMMITS * 2 {
                        ids.extend(follower.page().await);
                    }
                };
                within("a follower has every event", all).await;
                ids.extend(follower.rest().await);
                ids
            })
        })
        .collect();
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.expect("it writes"));
    }
    let mut orders = Vec::new();
    for follower in followers {
        let read = follower.await.expect("it reads");
        assert_eq!(read.len(), written.len(), "none twice");
        assert_eq!(read.iter().copied().collect::<BTreeSet<_>>(), written);
        orders.push(read);
    }
    assert_eq!(orders[0], orders[1], "all followers read in the same order");
}

async fn an_old_log_is_numbered_in_batches(store: TestStore) {
    let events: Vec<_> = (0..2_500).map(|_| event()).collect();
    commit(&*store, &events).await;
    let mut numbered = Vec::new();
    for (last, more) in [(1_000, true), (2_000, true), (2_500, false), (2_500, false)] {
        let head = store.number_audit_events(1_000).await.expect("the head");
        numbered.push((head.last, head.has_unnumbered));
        assert_eq!((head.last, head.has_unnumbered), (last, more), "{numbered:?}");
    }
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(Follower::of(&store).rest().await, ids);
    assert_eq!(store.find_event_id(1).await.expect("a read"), Some(ids[0]));
    assert_eq!(store.find_event_id(2_501).await.expect("a read"), None);
}

async fn a_number_is_given_only_once(store: TestStore) {
    commit(&*store, &[event(), event()]).await;
    let mut follower = Follower::of(&store);
    assert_eq!(follower.rest().await.len(), 2);
    let newest = event();
    let mut tx = store.begin("test").await.expect("a transaction");
    let far = sophic_auth::model::Timestamp::parse("9999-01-01T00:00:00Z").expect("a time");
    assert_eq!(tx.delete_audit_events(far, 10).await.expect("they are deleted"), 2);
    tx.commit(&newest).await.expect("it commits");
    assert_eq!(follower.rest().await, [newest.id]);
    assert_eq!(follower.at, 3, "the numbers of purged events are not given again");
    assert_eq!(Follower::of(&store).rest().await, [newest.id]);
    for attempt in [
        "UPDATE audit_counter SET last = 1",
        "UPDATE audit_counter SET log_id = (SELECT id FROM audit_events LIMIT 1)",
        "DELETE FROM audit_counter",
    ] {
        let error = raw::try_run(&store.database, attempt).await.expect_err(attempt);
        assert!(error.contains("only rises"), "{attempt}: {error}");
    }
}

async fn a_page_of_a_narrow_filter_examines_a_bounded_part_of_the_log(store: TestStore) {
    let rows = if store.database.is_postgres() {
        "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id) \
         SELECT ('00000000-0000-7000-8000-' || lpad(i::text, 12, '0'))::uuid, now(), 'user.put', 'x', 'user', 'x' \
         FROM generate_series(1, 25000) AS i"
    } else {
        "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id) \
         WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 25000) \
         SELECT unhex(printf('%032x', i)), 0, 'user.put', 'x', 'user', 'x' FROM t"
    };
    raw::run(&store.database, rows).await;
    let rare = AuditEvent { target_kind: "store".to_owned(), ..event() };
    commit(&*store, std::slice::from_ref(&rare)).await;
    let head = eventually_some("all events have numbers", async || {
        let head = store.number_audit_events(10_000).await.expect("the head");
        (!head.has_unnumbered).then_some(head)
    })
    .await;
    assert_eq!(head.last, 25_001);
    let filter = AuditFilter { target_kind: Some("store".to_owned()), ..AuditFilter::default() };
    let mut pages = Vec::new();
    let mut at = 0;
    eventually("the end of the log", async || {
        let page = store.list_numbered_events(&filter, at, head.last, 10).await.expect("a page");
        at = page.examined;
        pages.push((at, page.events.len()));
        at == head.last
    })
    .await;
    assert_eq!(pages, [(10_000, 0), (20_000, 0), (25_001, 1)]);
}

async fn an_event_gets_a_number_once_and_changes_in_nothing_else(store: TestStore) {
    let events = [event(), event()];
    commit(&*store, &events).await;
    let quiet = "UPDATE audit_events SET seq = 5 WHERE seq IS NULL AND reason IS NULL";
    let attempts = [
        format!("{quiet}, reason = 'x'").replace(" WHERE seq IS NULL AND reason IS NULL", ""),
        "UPDATE audit_events SET seq = NULL".to_owned(),
        "UPDATE audit_events SET action = 'x', seq = 7".to_owned(),
        "UPDATE audit_events SET target_id = 'x', seq = 7".to_owned(),
        "UPDATE audit_events SET refusal = 'x', seq = 7".to_owned(),
    ];
    for attempt in &attempts {
        let error = raw::try_run(&store.database, attempt).await.expect_err(attempt);
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    assert_eq!(Follower::of(&store).rest().await, events.clone().map(|event| event.id));
    for attempt in ["UPDATE audit_events SET seq = seq + 10", "UPDATE audit_events SET seq = NULL"]
    {
        let error = raw::try_run(&store.database, attempt).await.expect_err(attempt);
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    let all = store.list_audit_events(&AuditFilter::default(), None, 10).await.expect("a page");
    assert_eq!(all, events);
}
