//! Pages of large items are small enough for a client with the default limits, and lose nothing between them.

use std::collections::BTreeMap;

use prost::Message as _;
use sophic_auth::grpc::pb::{
    AuditOrder, ListAuditEventsRequest, ListCredentialsRequest, ListUsersRequest,
    ListWorkspacePatsRequest, Role, Scope,
};
use sophic_auth::model::limits::{ANNOTATION_VALUE_BYTES_MAX, ANNOTATIONS_MAX};
use sophic_auth::model::{
    self, Annotations, Credential, CredentialId, Digest, DisplayName, EventId, Timestamp, User,
    UserId, WorkspaceId, WorkspaceUse,
};
use uuid::Uuid;

use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    large_events_are_listed_and_followed_to_the_end,
    large_entities_are_listed_to_the_end,
}

/// What a client of gRPC accepts by default.
const ACCEPTED_BYTES: usize = 4 * 1024 * 1024;

/// Lists all items, page by page, and asserts that no page is too large. Returns their ids, and the number of pages.
macro_rules! all {
    ($request:expr, $token:ident, $call:expr, $items:ident, $id:expr) => {{
        let (mut request, mut ids, mut pages) = ($request, Vec::new(), 0);
        within("the last page", async {
            loop {
                let page = $call(request.clone()).await.expect("a page").into_inner();
                assert!(page.encoded_len() < ACCEPTED_BYTES, "{}", page.encoded_len());
                assert!(!page.$items.is_empty());
                ids.extend(page.$items.into_iter().map($id));
                pages += 1;
                if page.next_page_token.is_empty() {
                    return;
                }
                request.$token = page.next_page_token;
            }
        })
        .await;
        (ids, pages)
    }};
}

async fn large_events_are_listed_and_followed_to_the_end(h: Harness) {
    let root = h.root().await;
    let at = |micros: i64| Timestamp::from_unix_micros(1_000_000 + micros).expect("a time");
    let event = |micros: i64, bytes: usize| model::AuditEvent {
        id: EventId::in_order(at(micros), [3; 10]),
        time: at(micros),
        action: "user.put".to_owned(),
        caller: "dashboard".to_owned(),
        acting_user: None,
        target_kind: "user".to_owned(),
        target_id: "ada".to_owned(),
        remote_address: None,
        before: Some(format!("\"{}\"", "b".repeat(bytes / 2))),
        after: Some(format!("\"{}\"", "a".repeat(bytes / 2))),
        reason: None,
        refusal: None,
    };
    let mut many: Vec<_> = (0..60).map(|i| event(i * 5_000, 100_000)).collect();
    // Larger than a page, and alone on its own.
    many[30] = event(150_000, 3_000_000);
    let store = h.database.open().await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&many[1..]).await.expect("they are appended");
    tx.commit(&many[0]).await.expect("it commits");
    let mut expected: Vec<_> = many.iter().map(|event| event.id.to_string()).collect();
    for order in [AuditOrder::Unspecified, AuditOrder::NewestFirst, AuditOrder::Commit] {
        for page_size in [0, 1_000] {
            let request = ListAuditEventsRequest {
                action: "user.put".to_owned(),
                order: order.into(),
                page_size,
                ..Default::default()
            };
            let list = async |request| root.admin().list_audit_events(request).await;
            let (ids, pages) = if order == AuditOrder::Commit {
                all!(request, resume_token, list, events, |event| event.id)
            } else {
                all!(request, page_token, list, events, |event| event.id)
            };
            if order == AuditOrder::NewestFirst {
                expected.reverse();
            }
            assert_eq!(ids, expected, "{order:?}");
            assert_eq!(pages, 5, "{order:?}");
            if order == AuditOrder::NewestFirst {
                expected.reverse();
            }
        }
    }
}

fn long_name() -> DisplayName {
    DisplayName::parse(&"👨‍👩‍👧‍👦".repeat(256)).expect("the longest name")
}

/// Credentials like this one, with as much text as they can have.
fn large(pat: &Credential, count: u128) -> Vec<Credential> {
    let entries = (0..ANNOTATIONS_MAX)
        .map(|i| (format!("key-{i}"), "x".repeat(ANNOTATION_VALUE_BYTES_MAX)))
        .collect::<BTreeMap<_, _>>();
    let annotations = Annotations::parse(entries).expect("annotations");
    let nth = |n: u128| {
        let id = CredentialId(Uuid::from_u128(pat.id.0.as_u128() + 1 + n));
        let (annotations, name) = (annotations.clone(), long_name());
        Credential { id, family_id: id, annotations, name, ..pat.clone() }
    };
    (0..count).map(nth).collect()
}

async fn large_entities_are_listed_to_the_end(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await;
    let id = CredentialId::parse(&pat.credential.expect("a credential").id).expect("an id");
    let store = h.database.open().await;
    let pat = store.find_credential(id).await.expect("a read").expect("its row");
    let ada = UserId::parse("ada").expect("an id");
    let ada = store.find_user(&ada).await.expect("a read").expect("her row");
    let many = large(&pat, 700);
    let mut tx = store.begin("test").await.expect("a transaction");
    for i in 0..700 {
        let id = UserId::parse(&format!("user-{i:03}")).expect("an id");
        tx.put_user(&User { id, display_name: long_name(), ..ada.clone() }).await.expect("a user");
    }
    tx.put_user(&User { display_name: long_name(), ..ada.clone() }).await.expect("a user");
    for credential in &many {
        let digest = Digest::of(&credential.id.to_string());
        tx.insert_credential(credential, &digest).await.expect("it is inserted");
    }
    let event = &store.list_audit_events(&Default::default(), None, 1).await.expect("a page")[0];
    let last = EventId::in_order(event.time, [9; 10]);
    tx.commit(&model::AuditEvent { id: last, ..event.clone() }).await.expect("it commits");
    let uses = many.iter().enumerate().map(|(n, credential)| WorkspaceUse {
        credential_id: credential.id,
        workspace_id: WorkspaceId::parse("id-of-acme").expect("an id"),
        generation: 0,
        time: Timestamp::from_unix_micros(1 + i64::try_from(n).expect("few")).expect("a time"),
    });
    store.write_last_uses(&[], &uses.collect::<Vec<_>>()).await.expect("they are written");

    let list = async |request| root.directory().list_users(request).await;
    let request = ListUsersRequest { page_size: 1_000, ..Default::default() };
    let (users, pages) = all!(request, page_token, list, users, |user| user.id);
    assert!((users.len(), users.is_sorted()) == (701, true) && pages > 1, "{pages}");
    let list = async |request| root.auth().list_credentials(request).await;
    let request = ListCredentialsRequest { page_size: 1_000, ..Default::default() };
    let (ids, pages) = all!(request, page_token, list, credentials, |credential| credential.id);
    let expected: Vec<_> = [&pat].into_iter().chain(&many).map(|pat| pat.id.to_string()).collect();
    assert!(ids == expected && pages > 1, "{} {pages}", ids.len());
    let list = async |request| root.auth().list_workspace_pats(request).await;
    let workspace = "acme".to_owned();
    let request = ListWorkspacePatsRequest { workspace, page_size: 1_000, ..Default::default() };
    let (mut ids, pages) = all!(request, page_token, list, pats, |pat| pat.credential_id);
    ids.reverse();
    assert!(ids == expected[1..] && pages > 1, "{} {pages}", ids.len());
}
