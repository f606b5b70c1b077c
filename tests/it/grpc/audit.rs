//! The audit log, as its readers get it: changes and refusals, with caller, target and time.

use std::collections::HashMap;

use serde_json::Value;
use sophic_auth::grpc::pb::{self, AuditEvent, ListAuditEventsRequest, Role, Scope};
use sophic_auth::model::{CredentialId, Permission};
use sophic_auth::service::view;
use sophic_auth::store::AuditFilter;
use tonic::Code;

use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    changes_are_recorded_with_caller_and_target,
    a_refusal_by_a_use_case_is_recorded_with_its_reason,
    a_refusal_before_the_use_case_is_recorded_once,
    an_unauthenticated_call_is_not_recorded,
    a_flood_of_refusals_is_bounded_and_counted,
    the_list_is_filtered_by_each_field,
    the_next_page_begins_where_the_last_one_ended,
    no_token_and_no_digest_is_in_the_log,
    the_log_explains_the_state_of_every_credential,
    reading_the_log_takes_its_own_permission,
}

/// All events that match the filter, page by page.
pub(crate) async fn events(reader: &Actor, filter: ListAuditEventsRequest) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    let mut request = filter;
    within("the last page of the log", async {
        loop {
            let page = reader.admin().list_audit_events(request.clone()).await.expect("a page");
            let page = page.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            request.page_token = page.next_page_token;
        }
    })
    .await
}

/// The events of this action.
pub(crate) async fn of_action(reader: &Actor, action: &str) -> Vec<AuditEvent> {
    let filter = ListAuditEventsRequest { action: action.to_owned(), ..Default::default() };
    events(reader, filter).await
}

async fn changes_are_recorded_with_caller_and_target(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    let request = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: "ada".to_owned(),
        ..Default::default()
    };
    let dashboard = h.dashboard().await;
    let key = dashboard.auth().create_key(request).await.expect("a key").into_inner();
    let id = key.credential.expect("a credential").id;
    let [event] = &of_action(&root, "key.create").await[..] else { panic!("one event") };
    assert_eq!((&*event.caller, &*event.acting_user), ("dashboard", "ada"));
    assert_eq!((&*event.target_kind, &event.target_id), ("credential", &id));
    assert_eq!((&*event.remote_address, &*event.before, &*event.refusal), ("127.0.0.1", "", ""));
    assert!(event.after.contains(&id), "{event:?}");
    assert!(event.time.is_some() && event.id.len() == 36);
}

async fn a_refusal_by_a_use_case_is_recorded_with_its_reason(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let dashboard = h.dashboard().await;
    let create = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: "ada".to_owned(),
        ..Default::default()
    };
    let refused = dashboard.auth().create_key(create.clone()).await.expect_err("a member may not");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let nobody = pb::CreateKeyRequest { acting_user: String::new(), ..create };
    dashboard.auth().create_key(nobody).await.expect_err("it needs an acting user");
    let key = root.create_key("acme", &[Scope::Read]).await.credential.expect("a credential");
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::CredentialId(key.id.clone())),
        acting_user: "ada".to_owned(),
        ..Default::default()
    };
    let hidden = dashboard.auth().revoke(revoke).await.expect_err("a member may not see it");
    assert_eq!(hidden.code(), Code::NotFound);

    let filter = ListAuditEventsRequest { caller: "dashboard".to_owned(), ..Default::default() };
    let events = events(&root, filter).await;
    let logged: Vec<_> = events
        .iter()
        .map(|event| (&*event.action, &*event.acting_user, &*event.refusal, &*event.target_id))
        .collect();
    let expected = [
        ("key.create", "ada", "ROLE_TOO_LOW", ""),
        ("key.create", "", "ACTING_USER_REQUIRED", ""),
        ("credential.revoke", "ada", "CREDENTIAL_NOT_FOUND", &*key.id),
    ];
    assert_eq!(logged, expected);
    assert_eq!(events[0].after, r#"{"workspace":"acme"}"#, "what was asked for");
    let [made] = &of_action(&root, "key.create").await[2..] else { panic!("the key's own") };
    assert_eq!((&*made.refusal, &*made.caller), ("", "root"));
}

async fn a_refusal_before_the_use_case_is_recorded_once(h: Harness) {
    let root = h.root().await;
    let gateway = h.gateway().await;
    gateway.admin().create_caller(pb::CreateCallerRequest::default()).await.expect_err("may not");
    let misspelled = pb::CreateKeyRequest { workspace: "!".to_owned(), ..Default::default() };
    root.auth().create_key(misspelled).await.expect_err("no such spelling");
    // A call whose fields the use case refuses.
    root.put_workspace("acme").await;
    let nameless = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    root.auth().create_key(nameless).await.expect_err("a name is needed");
    // Reads are not recorded.
    gateway.directory().list_users(pb::ListUsersRequest::default()).await.expect_err("may not");

    let events = events(&root, ListAuditEventsRequest::default()).await;
    let refusals = events.iter().filter(|event| !event.refusal.is_empty());
    let logged: Vec<_> = refusals
        .map(|event| (&*event.action, &*event.caller, &*event.refusal, &*event.target_kind))
        .collect();
    let expected = [
        ("caller.create", "gateway", "PERMISSION_MISSING", "caller"),
        ("key.create", "root", "ARGUMENT_INVALID", "credential"),
        ("key.create", "root", "ARGUMENT_INVALID", "credential"),
    ];
    assert_eq!(logged, expected);
}

async fn an_unauthenticated_call_is_not_recorded(h: Harness) {
    let root = h.root().await;
    let before = events(&root, ListAuditEventsRequest::default()).await.len();
    let anonymous = h.anonymous();
    anonymous.admin().create_caller(pb::CreateCallerRequest::default()).await.expect_err("who?");
    assert_eq!(events(&root, ListAuditEventsRequest::default()).await.len(), before);
}

async fn a_flood_of_refusals_is_bounded_and_counted(h: Harness) {
    let gateway = h.gateway().await;
    for _ in 0..130 {
        gateway.directory().put_user(pb::PutUserRequest::default()).await.expect_err("may not");
    }
    let database = std::sync::Arc::clone(&h.database);
    h.running.stop().await;
    let again = Harness::start(database, |_| {}).await;
    let store = again.database.open().await;
    let of = async |action: &str| {
        let filter = AuditFilter { action: Some(action.to_owned()), ..Default::default() };
        store.list_audit_events(&filter, None, 1_000).await.expect("events")
    };
    assert_eq!(of("user.put").await.len(), 100);
    let [counted] = &of("refusal.suppress").await[..] else { panic!("one count") };
    assert_eq!(counted.caller, "gateway");
    assert_eq!(counted.after.as_deref(), Some(r#"{"unrecorded_refusals":30}"#));
}

async fn the_list_is_filtered_by_each_field(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_user("bob").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    let all = events(&root, ListAuditEventsRequest::default()).await;
    assert!(all.is_sorted_by_key(|event| event.id.clone()), "oldest first");
    let middle = &all[2];
    let none = ListAuditEventsRequest::default;
    let cases = [
        ListAuditEventsRequest { start_time: middle.time, ..none() },
        ListAuditEventsRequest { end_time: middle.time, ..none() },
        ListAuditEventsRequest { caller: "root".to_owned(), ..none() },
        ListAuditEventsRequest { filter_acting_user: "ada".to_owned(), ..none() },
        ListAuditEventsRequest { target_kind: "user".to_owned(), ..none() },
        ListAuditEventsRequest { target_id: "bob".to_owned(), ..none() },
        ListAuditEventsRequest { action: "user.put".to_owned(), ..none() },
        ListAuditEventsRequest {
            action: "user.put".to_owned(),
            target_id: "ada".to_owned(),
            target_kind: "user".to_owned(),
            caller: "root".to_owned(),
            start_time: all[0].time,
            ..none()
        },
        ListAuditEventsRequest { target_id: "nobody".to_owned(), ..none() },
    ];
    for filter in cases {
        let micros =
            |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
        let fits = |asked: &str, is: &str| asked.is_empty() || asked == is;
        let expected = all.iter().filter(|event| {
            filter.start_time.is_none_or(|start| micros(event.time) >= micros(Some(start)))
                && filter.end_time.is_none_or(|end| micros(event.time) < micros(Some(end)))
                && fits(&filter.caller, &event.caller)
                && fits(&filter.filter_acting_user, &event.acting_user)
                && fits(&filter.target_kind, &event.target_kind)
                && fits(&filter.target_id, &event.target_id)
                && fits(&filter.action, &event.action)
        });
        let expected: Vec<_> = expected.map(|event| event.id.clone()).collect();
        let found: Vec<_> =
            events(&root, filter.clone()).await.into_iter().map(|event| event.id).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

async fn the_next_page_begins_where_the_last_one_ended(h: Harness) {
    let root = h.root().await;
    for i in 0..7 {
        root.put_user(&format!("user-{i}")).await;
    }
    let filter = |page_size, page_token: &str| ListAuditEventsRequest {
        action: "user.put".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let paged = events(&root, filter(2, "")).await;
    let targets: Vec<_> = paged.iter().map(|event| &*event.target_id).collect();
    assert_eq!(targets, (0..7).map(|i| format!("user-{i}")).collect::<Vec<_>>());
    let page = root.admin().list_audit_events(filter(2, "")).await.expect("a page").into_inner();
    let elsewhere = ListAuditEventsRequest {
        action: "user.delete".to_owned(),
        page_token: page.next_page_token,
        ..Default::default()
    };
    let refused = root.admin().list_audit_events(elsewhere).await.expect_err("another filter");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

async fn no_token_and_no_digest_is_in_the_log(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let leaked = root.create_key("acme", &[Scope::Read]).await.token;
    // People paste tokens into the wrong fields.
    let pasted = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: format!("the new {leaked}"),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    root.auth().create_key(pasted).await.expect("a key");
    let unknown = pb::CreateKeyRequest {
        workspace: leaked.clone(),
        name: "x".to_owned(),
        ..Default::default()
    };
    root.auth().create_key(unknown).await.expect_err("no such workspace");
    let tokens = vec![pb::LeakedToken {
        token: leaked.clone(),
        url: format!("https://example.com/search?q={leaked}"),
        reason: format!("found {leaked}"),
    }];
    root.auth().revoke_leaked(pb::RevokeLeakedRequest { tokens }).await.expect("an answer");
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::Token(leaked.clone())),
        reason: format!("I leaked {leaked}"),
        ..Default::default()
    };
    root.auth().revoke(revoke).await.expect("it is revoked");
    let rotated = pb::RotateCallerRequest { caller: "root".to_owned(), ..Default::default() };
    let fresh = root.admin().rotate_caller(rotated).await.expect("a token").into_inner().token;

    let log =
        format!("{:?}", events(&h.with_token(&fresh), ListAuditEventsRequest::default()).await);
    let digest = sophic_auth::model::Digest::of(&leaked);
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!log.contains(&leaked) && !log.contains(&fresh), "a token is in the log");
    assert!(!log.contains(&leaked[15..30]), "a part of a token is in the log");
    assert!(!log.contains(&hex), "a digest is in the log");
    assert!(log.contains("https://example.com/search?q=sophic_key_[redacted]"), "{log}");
}

/// Runs a script of all changes to credentials, then rebuilds the rows from only the log.
async fn the_log_explains_the_state_of_every_credential(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("doomed").await;
    root.put_user("ada").await;
    for _ in 0..4 {
        root.create_key("acme", &[Scope::Read, Scope::Admin]).await;
    }
    for _ in 0..3 {
        root.create_pat("ada", &[Scope::Read], Role::Owner).await;
    }
    let leaked = root.create_key("doomed", &[Scope::Read]).await.token;
    let tokens = vec![pb::LeakedToken { token: leaked, ..Default::default() }];
    root.auth().revoke_leaked(pb::RevokeLeakedRequest { tokens }).await.expect("an answer");
    let one = root.create_key("acme", &[Scope::Read]).await.credential.expect("a credential").id;
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::CredentialId(one)),
        ..Default::default()
    };
    root.auth().revoke(revoke).await.expect("it is revoked");
    let bulk = pb::BulkRevokeRequest { user: "ada".to_owned(), ..Default::default() };
    root.auth().bulk_revoke(bulk).await.expect("they are revoked");
    root.create_pat("ada", &[Scope::Read], Role::Viewer).await;
    for _ in 0..2 {
        root.create_key("doomed", &[Scope::Read]).await;
    }
    let delete =
        pb::DeleteWorkspaceRequest { workspace: "doomed".to_owned(), ..Default::default() };
    root.directory().delete_workspace(delete).await.expect("it is deleted");
    let delete = pb::DeleteUserRequest { user: "ada".to_owned(), ..Default::default() };
    root.directory().delete_user(delete).await.expect("they are deleted");

    let service = &h.running.service;
    let filter =
        ListAuditEventsRequest { target_kind: "credential".to_owned(), ..Default::default() };
    let mut logged: HashMap<String, Value> = HashMap::new();
    for event in events(&root, filter).await {
        if event.target_id.is_empty() || !event.refusal.is_empty() {
            continue;
        }
        if event.before.is_empty() {
            assert!(!logged.contains_key(&event.target_id), "made twice: {event:?}");
        } else {
            let before: Value = serde_json::from_str(&event.before).expect("JSON");
            assert_eq!(logged.get(&event.target_id), Some(&before), "{event:?}");
        }
        let after = serde_json::from_str(&event.after).expect("JSON");
        logged.insert(event.target_id, after);
    }
    let everything = pb::ListCredentialsRequest { page_size: 1_000, ..Default::default() };
    let listed = root.auth().list_credentials(everything).await.expect("a page").into_inner();
    let listed = listed.credentials;
    assert_eq!((listed.len(), logged.len()), (12, 12));
    for credential in listed {
        let id = CredentialId::parse(&credential.id).expect("an id");
        let row =
            h.database.open().await.find_credential(id).await.expect("a read").expect("a row");
        assert_eq!(logged[&credential.id], view::credential(&row, service.now()));
    }
}

async fn reading_the_log_takes_its_own_permission(h: Harness) {
    let auditor = h.caller("auditor", &[Permission::AuditRead]).await;
    let read = auditor.admin().list_audit_events(ListAuditEventsRequest::default()).await;
    assert!(!read.expect("a page").into_inner().events.is_empty());
    let gateway = h.gateway().await;
    let refused = gateway.admin().list_audit_events(ListAuditEventsRequest::default()).await;
    assert_eq!(refused.expect_err("it may not").code(), Code::PermissionDenied);
    let [event] = &of_action(&auditor, "audit.list").await[..] else { panic!("one event") };
    assert_eq!((&*event.caller, &*event.refusal), ("gateway", "PERMISSION_MISSING"));
}
