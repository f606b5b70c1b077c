//! Following the audit log: a collector that polls with its resume token gets every event, and a token that does not fit
//! the log is refused rather than that events are skipped.

use std::collections::BTreeSet;
use std::sync::Arc;

use sophic_auth::grpc::pb::{
    AuditEvent, AuditOrder, ListAuditEventsRequest, ListAuditEventsResponse,
};
use sophic_auth::model::{self, EventId, Timestamp};
use sophic_auth::store::{self, AuditFilter};
use tonic::Code;

use super::audit::events;
use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::{Database, on_every_store};
use crate::waits::within;

on_every_store! {
    a_follower_gets_every_event_once_and_continues_where_it_was,
    an_event_committed_late_reaches_a_follower,
    a_token_belongs_to_its_list,
    a_token_of_another_store_is_invalid,
    a_token_that_is_ahead_of_a_restored_log_is_refused,
    the_log_is_listed_newest_first,
    events_of_a_newer_program_are_listed,
}

pub(super) fn following(resume_token: &str) -> ListAuditEventsRequest {
    ListAuditEventsRequest {
        order: AuditOrder::Commit.into(),
        resume_token: resume_token.to_owned(),
        page_size: 3,
        ..Default::default()
    }
}

async fn page(reader: &Actor, request: ListAuditEventsRequest) -> ListAuditEventsResponse {
    let page = reader.admin().list_audit_events(request).await.expect("a page").into_inner();
    assert!(!page.resume_token.is_empty(), "it is always there");
    assert!(page.next_page_token.is_empty() || page.next_page_token == page.resume_token);
    page
}

/// Reads until nothing more is there. Returns the events and the last token.
pub(super) async fn rest(
    reader: &Actor,
    mut request: ListAuditEventsRequest,
) -> (Vec<AuditEvent>, String) {
    let mut events = Vec::new();
    within("the end of the log", async {
        loop {
            let page = page(reader, request.clone()).await;
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return (events, page.resume_token);
            }
            request.resume_token = page.resume_token;
        }
    })
    .await
}

fn ids(events: &[AuditEvent]) -> Vec<&str> {
    events.iter().map(|event| &*event.id).collect()
}

async fn a_follower_gets_every_event_once_and_continues_where_it_was(h: Harness) {
    let root = h.root().await;
    for i in 0..7 {
        root.put_user(&format!("user-{i}")).await;
    }
    let (first, token) = rest(&root, following("")).await;
    let all = events(&root, ListAuditEventsRequest::default()).await;
    assert_eq!(ids(&first), ids(&all), "one after the other, so in the order of ids too");
    let (none, token) = rest(&root, following(&token)).await;
    assert_eq!(none, []);
    root.put_user("later").await;
    // At another server, with another page size.
    let other = h.another(|_| {}).await;
    let request = ListAuditEventsRequest { page_size: 50, ..following(&token) };
    let (later, token) = rest(&root.via(&other), request).await;
    assert_eq!(later.iter().map(|event| &*event.target_id).collect::<Vec<_>>(), ["later"]);
    assert_eq!(rest(&root, following(&token)).await.0, []);
    // Programs that turn pages by the page token follow too.
    let mut request = ListAuditEventsRequest { page_size: 3, ..following("") };
    let turned = events(&root, request.clone()).await;
    assert_eq!(turned.len(), first.len() + 1);
    // A filter makes pages short, and misses nothing.
    request.target_kind = "caller".to_owned();
    let (callers, _) = rest(&root, request).await;
    assert_eq!(callers.len(), turned.iter().filter(|event| event.target_kind == "caller").count());
}

async fn an_event_committed_late_reaches_a_follower(h: Harness) {
    let root = h.root().await;
    let store = h.database.open().await;
    let at = |second: i64| {
        let time = Timestamp::from_unix_micros(1_800_000_000_000_000 + second * 1_000_000);
        time.expect("a time")
    };
    let late = |second: i64, name: &str| model::AuditEvent {
        id: EventId::in_order(at(second), [1; 10]),
        time: at(second),
        action: "user.put".to_owned(),
        caller: "test".to_owned(),
        acting_user: None,
        target_kind: "user".to_owned(),
        target_id: name.to_owned(),
        remote_address: None,
        before: None,
        after: None,
        reason: None,
        refusal: None,
    };
    // On Postgres the transaction stays open while a later one commits and is read.
    let mut open = None;
    if h.database.is_postgres() {
        let mut tx = store.begin("test").await.expect("a transaction");
        tx.insert_audit_events(&[late(1, "early")]).await.expect("it is appended");
        open = Some(tx);
    }
    let tx = store.begin("test").await.expect("a transaction");
    tx.commit(&late(9, "late")).await.expect("it commits");
    let (read, token) = rest(&root, following("")).await;
    assert_eq!(read.last().expect("an event").target_id, "late");
    let tx = match open {
        Some(tx) => tx,
        None => {
            let mut tx = store.begin("test").await.expect("a transaction");
            tx.insert_audit_events(&[late(1, "early")]).await.expect("it is appended");
            tx
        }
    };
    tx.commit(&late(2, "with it")).await.expect("it commits");
    let (read, _) = rest(&root, following(&token)).await;
    let targets: Vec<_> = read.iter().map(|event| &*event.target_id).collect();
    assert_eq!(targets, ["early", "with it"]);
}

async fn a_token_belongs_to_its_list(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    let (_, token) = rest(&root, following("")).await;
    let ask = async |request| root.admin().list_audit_events(request).await;
    let filtered = ListAuditEventsRequest { caller: "root".to_owned(), ..following(&token) };
    assert_eq!(fields(ask(filtered).await), ["resume_token"]);
    let acting = ListAuditEventsRequest { acting_user: "ada".to_owned(), ..following(&token) };
    assert_eq!(fields(ask(acting).await), ["resume_token"]);
    for order in [AuditOrder::Unspecified, AuditOrder::NewestFirst] {
        let request = ListAuditEventsRequest { order: order.into(), ..following(&token) };
        assert_eq!(fields(ask(request).await), ["resume_token"]);
        let page_token = token.clone();
        let request = ListAuditEventsRequest { order: order.into(), page_token, ..following("") };
        assert_eq!(fields(ask(request).await), ["page_token"]);
    }
    for forged in ["x", "AAAA", &token[1..], &"A".repeat(10_000)] {
        assert_eq!(fields(ask(following(forged)).await), ["resume_token"], "{forged}");
    }
    let page_token = "x".to_owned();
    let both = ListAuditEventsRequest { page_token, ..following(&token) };
    assert_eq!(fields(ask(both).await), ["page_token"]);
    let order = ListAuditEventsRequest { order: 9, ..following("") };
    assert_eq!(fields(ask(order).await), ["order"]);
    let size = ListAuditEventsRequest { page_size: -1, ..following("") };
    assert_eq!(fields(ask(size).await), ["page_size"]);
}

async fn a_token_of_another_store_is_invalid(h: Harness) {
    let root = h.root().await;
    let (_, token) = rest(&root, following("")).await;
    let elsewhere = Arc::new(Database::sqlite());
    store::migrate(&elsewhere.location()).await.expect("it can be migrated");
    let other = Harness::start(elsewhere, |_| {}).await;
    let refused = other.root().await.admin().list_audit_events(following(&token)).await;
    assert_eq!(fields(refused), ["resume_token"]);
}

async fn a_token_that_is_ahead_of_a_restored_log_is_refused(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    let (_, behind) = rest(&root, following("")).await;
    for i in 0..4 {
        root.put_user(&format!("lost-{i}")).await;
    }
    let (lost, ahead) = rest(&root, following(&behind)).await;
    assert_eq!(lost.len(), 4);
    // As after a restore to a backup of before the four.
    let (free, bound) = if h.database.is_postgres() {
        (
            "ALTER TABLE audit_events DISABLE TRIGGER USER; ALTER TABLE audit_counter DISABLE TRIGGER USER;",
            "ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_refuse_update",
        )
    } else {
        (
            "UPDATE audit_retention SET enabled = 1; DROP TRIGGER audit_counter_refuse_update;",
            "UPDATE audit_retention SET enabled = 0",
        )
    };
    let restore = format!(
        "{free} DELETE FROM audit_events WHERE target_id LIKE 'lost-%'; \
         UPDATE audit_counter SET last = last - 4; {bound}"
    );
    raw::run(&h.database, &restore).await;
    let restored = (Code::OutOfRange, "AUDIT_LOG_RESTORED".to_owned());
    let ask = async |token: &str| root.admin().list_audit_events(following(token)).await;
    assert_eq!(refused(ask(&ahead).await), restored);
    // Also when the numbers are given again, to other events.
    for i in 0..9 {
        root.put_user(&format!("new-{i}")).await;
    }
    assert_eq!(rest(&root, following(&behind)).await.0.len(), 9, "nothing is missed");
    assert_eq!(refused(ask(&ahead).await), restored);
}

async fn the_log_is_listed_newest_first(h: Harness) {
    let root = h.root().await;
    for i in 0..5 {
        root.put_user(&format!("user-{i}")).await;
    }
    let mut all = events(&root, ListAuditEventsRequest::default()).await;
    all.reverse();
    let order = AuditOrder::NewestFirst.into();
    let request = ListAuditEventsRequest { order, page_size: 2, ..Default::default() };
    let newest = root.admin().list_audit_events(request.clone()).await.expect("a page");
    assert_eq!(newest.into_inner().resume_token, "");
    assert_eq!(events(&root, request).await, all);
}

async fn events_of_a_newer_program_are_listed(h: Harness) {
    let root = h.root().await;
    let (uuid, time) = if h.database.is_postgres() {
        ("gen_random_uuid()", "now()")
    } else {
        ("randomblob(16)", "0")
    };
    // Named as only a newer program, and an older one, name theirs.
    for action in ["planet.align", "store.new_epoch"] {
        let insert = format!(
            "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id) \
             VALUES ({uuid}, {time}, '{action}', 'x', 'planet', 'mars')"
        );
        raw::run(&h.database, &insert).await;
    }
    let all = events(&root, ListAuditEventsRequest::default()).await;
    let actions: BTreeSet<_> = all.iter().map(|event| &*event.action).collect();
    assert!(actions.contains("planet.align"), "{actions:?}");
    for (asked, found) in [
        ("planet.align", "planet.align"),
        ("store.new_epoch", "store.new_epoch"),
        ("store.renew_epoch", "store.new_epoch"),
    ] {
        let filter = ListAuditEventsRequest { action: asked.to_owned(), ..Default::default() };
        let events = events(&root, filter).await;
        assert_eq!(events.iter().map(|event| &*event.action).collect::<Vec<_>>(), [found]);
    }
    let kind = "planet".to_owned();
    let of_kind = ListAuditEventsRequest { target_kind: kind, ..Default::default() };
    assert_eq!(events(&root, of_kind).await.len(), 2);
    // A name that neither this program nor the log has is a mistake.
    let mistaken = ListAuditEventsRequest {
        action: "user.puts".to_owned(),
        target_kind: "foo".to_owned(),
        ..Default::default()
    };
    let answer = root.admin().list_audit_events(mistaken).await;
    assert_eq!(fields(answer), ["target_kind", "action"]);
    let store = h.database.open().await;
    let unnumbered = store.list_audit_events(&AuditFilter::default(), None, 100).await;
    assert_eq!(rest(&root, following("")).await.0.len(), unnumbered.expect("a page").len());
}
