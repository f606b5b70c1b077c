//! Erasure of a deleted user: what the log and the directory say of them in free text is gone, and what happened is
//! still known.

use std::collections::HashMap;

use sophic_auth::grpc::pb::{self, AuditEvent, ListAuditEventsRequest, Role, Scope};
use sophic_auth::model::{self, CredentialId, EventId, Permission, Timestamp, UserId};
use sophic_auth::service::{Context, Reason, RedactedUser};

use super::audit::events;
use super::audit_follow::{following, rest};
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;

on_every_store! {
    a_deleted_user_is_erased_and_the_log_still_says_what_happened,
    only_a_deleted_user_is_erased,
    a_long_log_is_redacted_in_batches,
    the_texts_of_requests_and_of_imports_are_erased,
    a_token_whose_events_are_purged_is_found_in_the_directory,
}

fn ada() -> UserId {
    UserId::parse("ada").expect("an id")
}

async fn redact(h: &Harness, user: UserId) -> Result<RedactedUser, Reason> {
    let context = Context::operator("test");
    let redacted = h.running.service.redact_user(context, user, |_| ()).await;
    redacted.map_err(|error| error.reason)
}

/// Every text that must go.
const SECRETS: [&str; 5] = ["User ada", "laptop of Ada", "Lovelace", "203.0.113", "because of Ada"];

/// A user with everything that the log keeps of people. Returns the id of their personal access token.
async fn live(h: &Harness, root: &Actor) -> String {
    let dashboard = h.dashboard().await;
    root.put_workspace("acme").await;
    for user in ["ada", "bob"] {
        root.put_user(user).await;
        root.put_membership("acme", user, Role::Owner).await;
    }
    let pat = pb::CreatePatRequest {
        user: "ada".to_owned(),
        name: "laptop of Ada".to_owned(),
        scopes: vec![Scope::Read.into()],
        max_role: Role::Owner.into(),
        annotations: HashMap::from([("owner".to_owned(), "Lovelace".to_owned())]),
        ip_allowlist: vec!["203.0.113.7/32".to_owned()],
        acting_user: "ada".to_owned(),
        ..Default::default()
    };
    let pat = dashboard.auth().create_pat(pat).await.expect("a token").into_inner();
    let id = pat.credential.expect("a credential").id;
    let key = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "laptop of Ada too".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: "ada".to_owned(),
        ..Default::default()
    };
    dashboard.auth().create_key(key).await.expect("a key");
    let revoke = |acting_user: &str, reason: &str| pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::CredentialId(id.clone())),
        acting_user: acting_user.to_owned(),
        reason: reason.to_owned(),
    };
    dashboard.auth().revoke(revoke("bob", "")).await.expect_err("not his");
    dashboard.auth().revoke(revoke("ada", "because of Ada")).await.expect("hers");
    // A use that was recorded before.
    let used = "UPDATE credentials SET last_use_ip = '203.0.113.9', last_use_time = create_time \
                WHERE user_id = 'ada'";
    raw::run(&h.database, used).await;
    id
}

/// What must stay of each event.
fn skeleton(events: &[AuditEvent]) -> Vec<(String, String, String, String, String)> {
    let of = |event: &AuditEvent| {
        let AuditEvent { id, action, acting_user, target_id, refusal, .. } = event.clone();
        (id, action, acting_user, target_id, refusal)
    };
    events.iter().map(of).collect()
}

async fn a_deleted_user_is_erased_and_the_log_still_says_what_happened(h: Harness) {
    let root = h.root().await;
    let id = live(&h, &root).await;
    root.delete_user("ada").await;
    let all = || ListAuditEventsRequest::default();
    let before = events(&root, all()).await;
    let text = |events: &[AuditEvent]| format!("{events:?}");
    for secret in SECRETS.iter().filter(|secret| **secret != "203.0.113.9") {
        assert!(text(&before).contains(secret), "{secret}");
    }
    let (_, token) = rest(&root, following("")).await;
    let redacted = redact(&h, ada()).await.expect("she is deleted");
    assert!(redacted.event_count == 7 && redacted.credential_count == 1, "{redacted:?}");

    let after = events(&root, all()).await;
    let (old, new) = after.split_at(before.len());
    assert_eq!(skeleton(old), skeleton(&before));
    for secret in SECRETS {
        assert!(!text(&after).contains(secret), "{secret}: {after:?}");
    }
    assert!(new.iter().all(|event| (&*event.action, &*event.target_id) == ("user.redact", "ada")));
    let counts = new.iter().map(|event| {
        let counts: serde_json::Value = serde_json::from_str(&event.after).expect("JSON");
        counts["event_count"].as_u64().expect("a count")
    });
    assert_eq!(counts.sum::<u64>(), redacted.event_count);
    for event in old {
        let of_ada =
            event.acting_user == "ada" || event.target_id == id || event.target_id == "ada";
        let address = if of_ada { "[redacted]" } else { "127.0.0.1" };
        if event.caller != "operator:harness" && !event.target_id.ends_with("/ada") {
            assert_eq!(event.remote_address, address, "{event:?}");
        }
    }
    let created = old.iter().find(|event| event.action == "pat.create").expect("the event");
    let view: serde_json::Value = serde_json::from_str(&created.after).expect("JSON");
    assert_eq!((&view["id"], &view["user_id"]), (&id.clone().into(), &"ada".into()));
    assert_eq!(
        (&view["name"], &view["scopes"]),
        (&"[redacted]".into(), &serde_json::json!(["read"]))
    );
    assert!(text(old).contains("User bob"), "others are not touched");

    // The log is the same one for a follower.
    let (followed, _) = rest(&root, following(&token)).await;
    assert_eq!(followed, new);
    let store = h.database.open().await;
    let pat = store.find_credential(CredentialId::parse(&id).expect("an id")).await;
    let pat = pat.expect("a read").expect("its row");
    assert_eq!((pat.name.as_str(), pat.annotations.entries().len()), ("[redacted]", 0));
    assert_eq!(pat.last_use.expect("a use").ip, None);
    let mut tx = store.begin("test").await.expect("a transaction");
    let user = tx.find_user_row(&ada(), sophic_auth::store::Lock::Share).await;
    assert_eq!(user.expect("a read").expect("a row").display_name.as_str(), "[redacted]");
    drop(tx);

    // Once more changes nothing, and is recorded.
    assert_eq!(redact(&h, ada()).await, Ok(RedactedUser::default()));
    let again = events(&root, all()).await;
    assert_eq!(again[..after.len()], after[..]);
    assert_eq!(again.len(), after.len() + 1);
}

fn bulk(reason: &str) -> pb::BulkRevokeRequest {
    let reason = reason.to_owned();
    pb::BulkRevokeRequest { reason, ..Default::default() }
}

/// Requests to revoke with texts about Ada, and one about Bob.
async fn requests(h: &Harness, root: &Actor) {
    let dashboard = h.caller("portal", &[Permission::CredentialsWrite]).await;
    let text = || "user:Ada Lovelace".to_owned();
    let on_behalf = |workspace: &str| pb::BulkRevokeRequest {
        workspace: workspace.to_owned(),
        creator: text(),
        acting_user: "ada".to_owned(),
        dry_run: true,
        ..bulk("because of Ada")
    };
    dashboard.auth().bulk_revoke(on_behalf("acme")).await.expect("a dry run");
    dashboard.auth().bulk_revoke(on_behalf("")).await.expect_err("she must name a workspace");
    let user = || "ada".to_owned();
    for request in [
        // A dry run records the reason, a revocation the filter.
        pb::BulkRevokeRequest { user: user(), dry_run: true, ..bulk("Lovelace left") },
        pb::BulkRevokeRequest {
            creator: "user:ada".to_owned(),
            dry_run: true,
            ..bulk("Lovelace left")
        },
        pb::BulkRevokeRequest { user: user(), creator: text(), ..bulk("") },
        pb::BulkRevokeRequest {
            creator: "user:bob".to_owned(),
            dry_run: true,
            ..bulk("Bob moved")
        },
    ] {
        root.auth().bulk_revoke(request).await.expect("it may");
    }
}

async fn the_texts_of_requests_and_of_imports_are_erased(h: Harness) {
    let root = h.root().await;
    let id = CredentialId::parse(&live(&h, &root).await).expect("an id");
    // As an import can give them.
    let store = h.database.open().await;
    let pat = store.find_credential(id).await.expect("a read").expect("its row");
    let imported = model::Credential {
        id: CredentialId(uuid::Uuid::from_u128(id.0.as_u128() + 1)),
        creator: "Ada Lovelace".to_owned(),
        hint: "ada@example.com".to_owned(),
        revoke_time: None,
        ..pat
    };
    let mut tx = store.begin("test").await.expect("a transaction");
    let digest = model::Digest::of("imported");
    tx.insert_credential(&imported, &digest).await.expect("it is inserted");
    let event = &store.list_audit_events(&Default::default(), None, 1).await.expect("a page")[0];
    let last = EventId::in_order(event.time, [9; 10]);
    tx.commit(&model::AuditEvent { id: last, ..event.clone() }).await.expect("it commits");
    requests(&h, &root).await;
    root.delete_user("ada").await;
    let text = async || format!("{:?}", events(&root, ListAuditEventsRequest::default()).await);
    let secrets = ["because of Ada", "Lovelace", "ada@example.com"];
    let before = text().await;
    for secret in secrets {
        assert!(before.contains(secret), "{secret}: {before}");
    }
    redact(&h, ada()).await.expect("she is deleted");
    let after = text().await;
    for secret in secrets {
        assert!(!after.contains(secret), "{secret}: {after}");
    }
    assert!(after.contains("Bob moved") && after.contains("user:ada"), "{after}");
    let found = store.find_credential(imported.id).await.expect("a read").expect("its row");
    assert_eq!((&*found.creator, &*found.hint), ("[redacted]", "[redacted]"));
    assert_eq!(redact(&h, ada()).await, Ok(RedactedUser::default()));
}

async fn a_token_whose_events_are_purged_is_found_in_the_directory(h: Harness) {
    let root = h.root().await;
    let id = live(&h, &root).await;
    let service = &h.running.service;
    let cutoff = service.now();
    service.purge_audit(Context::operator("test"), cutoff, |_| ()).await.expect("it is purged");
    let dashboard = h.caller("portal", &[Permission::CredentialsWrite]).await;
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::CredentialId(id.clone())),
        acting_user: "bob".to_owned(),
        ..Default::default()
    };
    dashboard.auth().revoke(revoke).await.expect_err("not his");
    root.delete_user("ada").await;
    let refused = async || {
        let filter = ListAuditEventsRequest { target_id: id.clone(), ..Default::default() };
        let found = events(&root, filter).await;
        let [refused] = &found[..] else { panic!("only one names it: {found:?}") };
        refused.remote_address.clone()
    };
    assert_eq!(refused().await, "127.0.0.1");
    redact(&h, ada()).await.expect("she is deleted");
    assert_eq!(refused().await, "[redacted]");
}

async fn only_a_deleted_user_is_erased(h: Harness) {
    let root = h.root().await;
    live(&h, &root).await;
    let before = events(&root, ListAuditEventsRequest::default()).await;
    assert_eq!(redact(&h, ada()).await, Err(Reason::UserNotDeleted));
    let nobody = UserId::parse("nobody").expect("an id");
    assert_eq!(redact(&h, nobody).await, Err(Reason::UserNotFound));
    let after = events(&root, ListAuditEventsRequest::default()).await;
    assert_eq!(after[..before.len()], before[..]);
    let refusals: Vec<_> = after[before.len()..].iter().map(|event| &*event.refusal).collect();
    assert_eq!(refusals, ["USER_NOT_DELETED", "USER_NOT_FOUND"]);
    // Created again after the deletion, she is not deleted.
    root.delete_user("ada").await;
    root.put_user("ada").await;
    assert_eq!(redact(&h, ada()).await, Err(Reason::UserNotDeleted));
}

async fn a_long_log_is_redacted_in_batches(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    root.delete_user("ada").await;
    let at = |micros: i64| Timestamp::from_unix_micros(1_000_000 + micros).expect("a time");
    let event = |micros: i64| model::AuditEvent {
        id: EventId::in_order(at(micros), [3; 10]),
        time: at(micros),
        action: "key.create".to_owned(),
        caller: "dashboard".to_owned(),
        acting_user: Some(ada()),
        target_kind: "credential".to_owned(),
        target_id: String::new(),
        remote_address: Some("203.0.113.7".to_owned()),
        before: None,
        after: None,
        reason: None,
        refusal: None,
    };
    let many: Vec<_> = (0..1_201).map(|i| event(i * 5_000)).collect();
    let store = h.database.open().await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&many[1..]).await.expect("they are appended");
    tx.commit(&many[0]).await.expect("it commits");
    let redacted = redact(&h, ada()).await.expect("she is deleted");
    assert!(redacted.event_count > 1_201, "{redacted:?}");
    let action = "user.redact".to_owned();
    let batches = events(&root, ListAuditEventsRequest { action, ..Default::default() }).await;
    assert!(batches.len() >= 4, "{batches:?}");
    let left = events(&root, ListAuditEventsRequest::default()).await;
    assert!(left.iter().all(|event| event.remote_address != "203.0.113.7"));
}
