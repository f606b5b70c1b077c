//! Redaction of the audit log and of ended credentials, and the filters that find what is about a workspace or a user.

use sophic_auth::model::{AuditEvent, Credential, LastUse, User};
use sophic_auth::store::{AuditFilter, AuditOrder};

use super::raw;
use super::samples::{acme_and_ada, at, digest, event, key, pat, user_id, workspace_id, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    events_are_found_by_the_workspace_and_the_user_that_they_are_about,
    the_newest_events_are_listed_first,
    an_action_is_found_under_both_of_its_names,
    what_an_event_is_about_has_an_index,
    only_the_texts_of_an_event_can_be_redacted,
    raw_sql_redacts_nothing,
    the_texts_of_ended_pats_are_erased,
    only_an_import_can_have_given_a_text_that_is_erased,
    erased_texts_leave_the_log_of_a_file,
}

fn about(kind: &str, id: &str, after: Option<&str>) -> AuditEvent {
    AuditEvent {
        target_kind: kind.to_owned(),
        target_id: id.to_owned(),
        after: after.map(str::to_owned),
        ..event()
    }
}

async fn insert(store: &TestStore, events: &[AuditEvent]) {
    let (last, others) = events.split_last().expect("an event");
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(others).await.expect("they are appended");
    tx.commit(last).await.expect("it commits");
}

async fn events_are_found_by_the_workspace_and_the_user_that_they_are_about(store: TestStore) {
    let of_key = Some(r#"{"annotations":{"user_id":"ada"},"kind":"key","workspace_id":"w1"}"#);
    let of_pat = Some(r#"{"annotations":{"workspace_id":"w1"},"kind":"pat","user_id":"ada"}"#);
    let events = [
        about("workspace", "w1", None),
        about("workspace", "w2", None),
        about("user", "ada", None),
        about("membership", "w1/ada", None),
        about("membership", "w1/bob", None),
        about("membership", "w2/ada", None),
        about("credential", "k1", of_key),
        AuditEvent { before: of_key.map(str::to_owned), ..about("credential", "k1", None) },
        about("credential", "p1", of_pat),
        // Of a newer program: something that belongs to a workspace.
        about("bar", "w1/p1", None),
        about("caller", "w1", None),
        // Nothing is known of these, or they are odd.
        about("credential", "", Some(r#"{"workspace_id":"w1","user_id":"ada"}"#)),
        about("credential", "x", Some(r#"["w1"]"#)),
        about("credential", "x", Some("null")),
        about("credential", "x", Some("{")),
        about("credential", "x", Some("")),
        AuditEvent { refusal: Some("NO".to_owned()), ..about("workspace", "w1", None) },
    ];
    insert(&store, &events).await;
    let find = async |filter: AuditFilter| {
        let found = store.list_audit_events(&filter, None, 100).await.expect("a page");
        let places = found.iter().map(|found| {
            events.iter().position(|event| event == found).expect("one of the events")
        });
        places.collect::<Vec<_>>()
    };
    let none = AuditFilter::default;
    let w1 = || AuditFilter { workspace_id: Some(workspace_id("w1")), ..none() };
    assert_eq!(find(w1()).await, [0, 3, 4, 6, 7, 9, 16]);
    assert_eq!(find(AuditFilter { without_refusals: true, ..w1() }).await, [0, 3, 4, 6, 7, 9]);
    let of_target = AuditFilter { target_id: Some("k1".to_owned()), ..w1() };
    assert_eq!(find(of_target).await, [6, 7]);
    let ada = Some(user_id("ada"));
    let about_ada = AuditFilter { about_user: ada.clone(), ..none() };
    assert_eq!(find(about_ada).await, [2, 3, 5, 8]);
    assert_eq!(find(AuditFilter { pats_of: ada, ..none() }).await, [8]);
    let of_bob = AuditFilter { pats_of: Some(user_id("bob")), ..none() };
    assert!(find(of_bob).await.is_empty());
}

async fn the_newest_events_are_listed_first(store: TestStore) {
    let mut events: Vec<_> = (0..5).map(|_| event()).collect();
    insert(&store, &events).await;
    events.reverse();
    let newest = AuditFilter { order: AuditOrder::NewestFirst, ..AuditFilter::default() };
    let first = store.list_audit_events(&newest, None, 2).await.expect("a page");
    assert_eq!(first, events[..2]);
    let rest = store.list_audit_events(&newest, Some(first[1].id), 10).await.expect("a page");
    assert_eq!(rest, events[2..]);
    let end = store.list_audit_events(&newest, Some(events[4].id), 10).await.expect("a page");
    assert_eq!(end, []);
}

async fn an_action_is_found_under_both_of_its_names(store: TestStore) {
    let named = |action: &str| AuditEvent { action: action.to_owned(), ..event() };
    let events = [named("store.new_epoch"), named("store.renew_epoch"), named("newer.action")];
    insert(&store, &events).await;
    let find = async |action: &str| {
        let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
        store.list_audit_events(&filter, None, 10).await.expect("a page")
    };
    assert_eq!(find("store.new_epoch").await, events[..2]);
    assert_eq!(find("store.renew_epoch").await, events[..2]);
    assert_eq!(find("newer.action").await, events[2..]);
    assert_eq!(find("no.action").await, []);
}

async fn what_an_event_is_about_has_an_index(store: TestStore) {
    for (index, function) in [
        ("audit_events_workspace", "audit_event_workspace"),
        ("audit_events_user", "audit_event_user"),
    ] {
        let expression = if store.database.is_postgres() {
            format!("{function}(target_kind, target_id, before, after)")
        } else {
            let migration = include_str!("../../../migrations/sqlite/0019_expand_audit.sql");
            let begin = format!("CREATE INDEX {index} ON audit_events (");
            let (_, rest) = migration.split_once(&begin).expect("the index");
            format!("({})", rest.split_once(",\n    id);").expect("its end").0)
        };
        for order in ["id", "id DESC"] {
            let statement = format!(
                "SELECT id FROM audit_events WHERE {expression} = 'x' ORDER BY {order} LIMIT 50"
            );
            let plan = raw::explain(&store.database, &statement).await;
            assert!(plan.contains(index), "{index}: {plan}");
            assert!(!plan.contains("TEMP B-TREE") && !plan.contains("Sort"), "{index}: {plan}");
        }
    }
    for (condition, order, index) in [
        ("seq > 5 AND seq <= 9", "seq", "audit_events_seq"),
        ("seq IS NULL", "id", "audit_events_unnumbered"),
    ] {
        let table = if store.database.is_postgres() || order == "seq" {
            "audit_events"
        } else {
            "audit_events INDEXED BY audit_events_unnumbered"
        };
        let statement =
            format!("SELECT id FROM {table} WHERE {condition} ORDER BY {order} LIMIT 9");
        let plan = raw::explain(&store.database, &statement).await;
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{condition}: {plan}");
        assert!(!plan.contains("Sort"), "{condition}: {plan}");
    }
}

async fn only_the_texts_of_an_event_can_be_redacted(store: TestStore) {
    let text = |text: &str| Some(text.to_owned());
    let full = AuditEvent {
        remote_address: text("192.0.2.1"),
        before: text("{}"),
        after: text("{\"a\":1}"),
        reason: text("because"),
        ..event()
    };
    let other = event();
    insert(&store, &[full.clone(), other.clone()]).await;
    store.number_audit_events(10).await.expect("the head");
    let redacted = AuditEvent {
        remote_address: text("[redacted]"),
        before: text("\"b\""),
        after: text("0012"),
        reason: text("null"),
        ..full.clone()
    };
    let last = event();
    let mut tx = store.begin("test").await.expect("a transaction");
    let missing = event();
    let count = tx.redact_audit_events(&[redacted.clone(), missing]).await.expect("it may");
    assert_eq!(count, 1);
    tx.commit(&last).await.expect("it commits");
    let all = async || store.list_audit_events(&AuditFilter::default(), None, 10).await;
    let expected = [redacted.clone(), other.clone(), last.clone()];
    assert_eq!(all().await.expect("a page"), expected);
    assert_eq!(store.find_event_id(1).await.expect("a read"), Some(full.id), "its number stays");
    // Text neither appears nor disappears.
    for wrong in [
        AuditEvent { reason: text("new"), ..other.clone() },
        AuditEvent { after: None, ..redacted.clone() },
    ] {
        let mut tx = store.begin("test").await.expect("a transaction");
        tx.redact_audit_events(&[wrong]).await.expect_err("it is append-only");
    }
    assert_eq!(all().await.expect("a page"), expected);
}

async fn raw_sql_redacts_nothing(store: TestStore) {
    let full = AuditEvent { reason: Some("because".to_owned()), ..event() };
    insert(&store, std::slice::from_ref(&full)).await;
    let enable = if store.database.is_postgres() {
        "SET sophic_auth.audit_redaction = 'on'; "
    } else {
        "UPDATE audit_redaction SET enabled = 1; "
    };
    for (attempt, column) in [
        (String::new(), "reason"),
        (enable.to_owned(), "action"),
        (enable.to_owned(), "caller"),
        (enable.to_owned(), "target_id"),
        (enable.to_owned(), "target_kind"),
        (enable.to_owned(), "before"),
        (enable.to_owned(), "acting_user"),
        (enable.to_owned(), "refusal"),
    ] {
        let attempt = format!("{attempt}UPDATE audit_events SET {column} = 'x'");
        let error = raw::try_run(&store.database, &attempt).await.expect_err(&attempt);
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    for attempt in [
        format!("{enable}UPDATE audit_events SET seq = 1, reason = 'x'"),
        format!("{enable}DELETE FROM audit_events"),
    ] {
        let error = raw::try_run(&store.database, &attempt).await.expect_err(&attempt);
        assert!(error.contains("append-only"), "{attempt}: {error}");
    }
    let all = store.list_audit_events(&AuditFilter::default(), None, 10).await.expect("a page");
    assert_eq!(all, [full]);
}

async fn the_texts_of_ended_pats_are_erased(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, sophic_auth::model::Role::Owner).await;
    let (first, second, own) = (pat(&ada, 1), pat(&ada, 2), key(&acme, 3));
    write(&*store, async |tx| {
        for (number, credential) in [&first, &second, &own].into_iter().enumerate() {
            let digest = digest(u32::try_from(number).expect("few"));
            tx.insert_credential(credential, &digest).await.expect("it is inserted");
        }
    })
    .await;
    let used = LastUse { time: at(9), ip: Some("192.0.2.7".parse().expect("an address")) };
    store.write_last_uses(&[(first.id, used)], &[]).await.expect("it is recorded");
    let redact = async |limit| {
        let mut count = 0;
        write(&*store, async |tx| {
            count = tx.redact_pats(&ada.id, "[redacted]", limit).await.expect("it may");
        })
        .await;
        count
    };
    assert_eq!(redact(10).await, 0, "they are not revoked");
    let ended = User { generation: 1, generation_time: Some(at(10)), ..ada.clone() };
    write(&*store, async |tx| tx.put_user(&ended).await.expect("they are put")).await;
    let later = Credential { generation: 1, ..pat(&ada, 5) };
    write(&*store, async |tx| {
        tx.insert_credential(&later, &digest(9)).await.expect("it is inserted");
    })
    .await;
    assert_eq!([redact(1).await, redact(10).await, redact(10).await], [1, 1, 0]);
    let find = async |id| store.find_credential(id).await.expect("a read").expect("its row");
    let found = find(first.id).await;
    assert_eq!(found.name.as_str(), "[redacted]");
    assert!(found.annotations.entries().is_empty() && found.ip_allowlist.is_empty());
    assert_eq!(found.last_use, Some(LastUse { time: at(9), ip: None }));
    assert_eq!((found.version, found.hint), (first.version + 1, first.hint));
    for untouched in [&own, &later] {
        assert_eq!(find(untouched.id).await, *untouched);
    }
}

async fn only_an_import_can_have_given_a_text_that_is_erased(store: TestStore) {
    let (_, ada) = acme_and_ada(&*store, sophic_auth::model::Role::Owner).await;
    let erased = "[redacted]";
    let cases = [
        ("user:ada", "user:ada", "sophic_pat_...a1B2", "sophic_pat_...a1B2"),
        ("caller:dash.board-2", "caller:dash.board-2", "...4e86", "...4e86"),
        ("operator:root(bob)", "operator:root(bob)", "imported", "imported"),
        ("Ada Lovelace", erased, "ada@example.com", erased),
        ("user:Ada Lovelace", erased, "Ada...4e86", erased),
        ("caller:Ada", erased, "sophic_pat_...Ada L", erased),
        ("user:", erased, "sophic_pat_", erased),
    ];
    let pats = cases.iter().zip(1..).map(|((creator, _, hint, _), number)| Credential {
        creator: (*creator).to_owned(),
        hint: (*hint).to_owned(),
        ..pat(&ada, number)
    });
    let pats: Vec<_> = pats.collect();
    write(&*store, async |tx| {
        for (number, pat) in (1..).zip(&pats) {
            tx.insert_credential(pat, &digest(number)).await.expect("it is inserted");
        }
        let ended = User { generation: 1, generation_time: Some(at(10)), ..ada.clone() };
        tx.put_user(&ended).await.expect("they are put");
    })
    .await;
    for expected in [7, 0] {
        write(&*store, async |tx| {
            let count = tx.redact_pats(&ada.id, erased, 10).await.expect("it may");
            assert_eq!(count, expected);
        })
        .await;
    }
    for (pat, (_, creator, _, hint)) in pats.iter().zip(cases) {
        let found = store.find_credential(pat.id).await.expect("a read").expect("its row");
        assert_eq!((&*found.creator, &*found.hint), (creator, hint));
    }
}

async fn erased_texts_leave_the_log_of_a_file(store: TestStore) {
    let secret = "Lovelace was here";
    let event = AuditEvent { reason: Some(secret.to_owned()), ..event() };
    insert(&store, std::slice::from_ref(&event)).await;
    let redacted = AuditEvent { reason: Some("[redacted]".to_owned()), ..event };
    write(&*store, async |tx| {
        tx.redact_audit_events(&[redacted]).await.expect("it may");
    })
    .await;
    let Some(file) = store.database.file() else {
        return assert_eq!(store.empty_log().await, Ok(true));
    };
    let log = file.with_file_name(format!("{}-wal", file.file_name().expect("a name").display()));
    let has_secret = |file: &std::path::Path| {
        let bytes = std::fs::read(file).expect("the file");
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    assert!(has_secret(&log));
    assert_eq!(store.empty_log().await, Ok(true));
    assert!(!has_secret(&log) && !has_secret(&file));
    // Another process writes.
    let other = store.database.open().await;
    let tx = other.begin("test").await.expect("a transaction");
    assert_eq!(store.empty_log().await, Ok(false));
    drop(tx);
}
