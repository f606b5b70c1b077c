//! Events that an audit log easily misses: the acting user of a call that was not decoded, calls that change nothing,
//! and credentials that are revoked with their owner.

use serde_json::{Value, json};
use sophic_auth::grpc::pb::{self, ListAuditEventsRequest, Role, Scope};
use sophic_auth::model::CredentialId;
use sophic_auth::service::view;
use sophic_auth::store::AuditFilter;
use tonic::Code;

use super::audit::{events, of_action};
use super::wire::{self, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    a_refusal_before_the_use_case_names_the_acting_user,
    a_refused_call_is_recorded_even_without_its_message,
    a_call_that_changes_nothing_is_recorded,
    a_flood_of_unknown_tokens_is_bounded_and_counted,
    a_flood_of_a_revoked_token_is_bounded_and_counted,
    every_credential_revoked_with_its_owner_has_its_event,
}

async fn a_refusal_before_the_use_case_names_the_acting_user(h: Harness) {
    let root = h.root().await;
    let gateway = h.gateway().await;
    let ada = || "ada".to_owned();
    // The gate refuses these calls before it decodes the message.
    let create = pb::CreateKeyRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().create_key(create.clone()).await.expect_err("may not");
    let create = pb::CreatePatRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().create_pat(create).await.expect_err("may not");
    let update = pb::UpdateCredentialRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().update_credential(update).await.expect_err("may not");
    let rotate = pb::RotateRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().rotate(rotate).await.expect_err("may not");
    let disable = pb::DisableRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().disable(disable).await.expect_err("may not");
    let enable = pb::EnableRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().enable(enable).await.expect_err("may not");
    let bulk = pb::BulkRevokeRequest { acting_user: ada(), ..Default::default() };
    gateway.auth().bulk_revoke(bulk).await.expect_err("may not");
    // Refused because a field is malformed.
    let misspelled = pb::CreateKeyRequest {
        workspace: "!".to_owned(),
        acting_user: ada(),
        ..Default::default()
    };
    root.auth().create_key(misspelled.clone()).await.expect_err("no such spelling");
    let nobody = pb::CreateKeyRequest { acting_user: "?".to_owned(), ..misspelled };
    root.auth().create_key(nobody).await.expect_err("no such spelling");

    let events = events(&root, ListAuditEventsRequest::default()).await;
    let refusals = events.iter().filter(|event| !event.refusal.is_empty());
    let logged: Vec<_> = refusals
        .map(|event| (&*event.action, &*event.caller, &*event.acting_user, &*event.refusal))
        .collect();
    let missing = |action| (action, "gateway", "ada", "PERMISSION_MISSING");
    let expected = [
        missing("key.create"),
        missing("pat.create"),
        missing("credential.update"),
        missing("credential.rotate"),
        missing("credential.disable"),
        missing("credential.enable"),
        missing("credential.bulk_revoke"),
        ("key.create", "root", "ada", "ARGUMENT_INVALID"),
        ("key.create", "root", "", "ARGUMENT_INVALID"),
    ];
    assert_eq!(logged, expected);
}

async fn a_refused_call_is_recorded_even_without_its_message(h: Harness) {
    let root = h.root().await;
    let gateway = h.gateway().await;
    let path = "/sophic.auth.v1.AuthService/CreateKey";
    let half = b"\x00\x00\x00\x00\x09half".to_vec();
    let held_back = Frames::raw(half.clone()).without_end();
    let nothing = || Frames::raw(Vec::new());
    let all = [
        nothing(),
        nothing().without_end(),
        Frames::of(&[b"\xff\xff"]),
        Frames::raw(half),
        held_back,
        // A call whose deadline has passed already.
        nothing().without_end().with("grpc-timeout", "500m"),
    ];
    for frames in all {
        let frames = frames.with_authorization(gateway.authorization());
        let status = wire::status(&h, path, frames).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
    let events = of_action(&root, "key.create").await;
    let logged: Vec<_> =
        events.iter().map(|event| (&*event.acting_user, &*event.refusal)).collect();
    assert_eq!(logged, [("", "PERMISSION_MISSING"); 6]);
}

async fn a_call_that_changes_nothing_is_recorded(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.create_key("acme", &[Scope::Read]).await;
    let revision = h.running.service.revision().await.expect("a revision");
    let before = events(&root, ListAuditEventsRequest::default()).await.len();
    let strange = format!("sophic_key_{}", "a".repeat(38));
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::Token(strange)),
        acting_user: "ada".to_owned(),
        reason: "found in a log".to_owned(),
    };
    let revoked = root.auth().revoke(revoke).await.expect("an answer").into_inner();
    assert_eq!(revoked.effective_time, None);
    let dry = pb::BulkRevokeRequest {
        workspace: "acme".to_owned(),
        dry_run: true,
        reason: "how many?".to_owned(),
        ..Default::default()
    };
    let dry = root.auth().bulk_revoke(dry).await.expect("a count").into_inner();
    assert_eq!((revoked.revision, dry.revision), (revision.0, revision.0));
    let directory = || root.directory();
    let delete = pb::DeleteWorkspaceRequest { workspace: "x".to_owned(), allow_missing: true };
    directory().delete_workspace(delete).await.expect("it is missing");
    let delete = pb::DeleteUserRequest { user: "bob".to_owned(), allow_missing: true };
    directory().delete_user(delete).await.expect("they are missing");
    for workspace in ["acme", "x"] {
        let delete = pb::DeleteMembershipRequest {
            workspace: workspace.to_owned(),
            user: "ada".to_owned(),
            allow_missing: true,
        };
        directory().delete_membership(delete).await.expect("it is missing");
    }
    let all = events(&root, ListAuditEventsRequest::default()).await;
    let logged: Vec<_> = all[before..]
        .iter()
        .map(|event| {
            assert_eq!((&*event.caller, &*event.refusal, &*event.before), ("root", "", ""));
            let after: Value = serde_json::from_str(&event.after).expect("JSON");
            (&*event.action, &*event.acting_user, &*event.target_id, after, &*event.reason)
        })
        .collect();
    let missing = || json!({"real": false});
    let count = json!({"workspace": "acme", "dry_run": true, "count": 1});
    let nowhere = json!({"workspace": "x", "real": false});
    let no_member = |of: &str| json!({"workspace": of, "user_id": "ada", "real": false});
    let expected = [
        ("credential.revoke", "ada", "", missing(), "found in a log"),
        ("credential.bulk_revoke", "", "", count, "how many?"),
        ("workspace.delete", "", "", nowhere, ""),
        ("user.delete", "", "bob", missing(), ""),
        ("membership.delete", "", "", no_member("acme"), ""),
        ("membership.delete", "", "", no_member("x"), ""),
    ];
    assert_eq!(logged, expected);
    assert_eq!(h.running.service.revision().await.expect("a revision"), revision);
}

async fn a_flood_of_unknown_tokens_is_bounded_and_counted(h: Harness) {
    let gateway = h.gateway().await;
    for _ in 0..130 {
        let nobodys = pb::revoke_request::Credential::Token("nobody's".to_owned());
        let revoke = pb::RevokeRequest { credential: Some(nobodys), ..Default::default() };
        gateway.auth().revoke(revoke).await.expect("an answer all the same");
    }
    let service = &h.running.service;
    service.record_suppressed_refusals().await;
    let of = async |action: &str| {
        let filter = AuditFilter { action: Some(action.to_owned()), ..Default::default() };
        h.database.open().await.list_audit_events(&filter, None, 1_000).await.expect("events")
    };
    assert_eq!(of("credential.revoke").await.len(), 100);
    let [counted] = &of("refusal.suppress").await[..] else { panic!("one count") };
    assert_eq!(counted.caller, "gateway");
    assert_eq!(counted.after.as_deref(), Some(r#"{"unrecorded_refusals":30}"#));
}

async fn a_flood_of_a_revoked_token_is_bounded_and_counted(h: Harness) {
    use pb::revoke_request::Credential::{CredentialId, Token};
    let (root, gateway) = (h.root().await, h.gateway().await);
    root.put_workspace("acme").await;
    let made = root.create_key("acme", &[Scope::Read]).await;
    let id = made.credential.expect("it is given").id;
    let first = gateway.revoke_token(&made.token).await;
    let service = &h.running.service;
    let count = async |caller: &str, action: &str| {
        let (caller, action) = (Some(caller.to_owned()), Some(action.to_owned()));
        let filter = AuditFilter { caller, action, ..Default::default() };
        h.database.open().await.list_audit_events(&filter, None, 1_000).await.expect("events")
    };
    for (caller, name, credential) in
        [(&gateway, "gateway", Token(made.token.clone())), (&root, "root", CredentialId(id))]
    {
        let revoke = pb::RevokeRequest { credential: Some(credential), ..Default::default() };
        for _ in 0..130 {
            let again = caller.auth().revoke(revoke.clone()).await.expect("it is dead");
            let again = again.into_inner();
            assert_eq!(again.effective_time, first.effective_time);
            assert!(again.revision >= first.revision);
        }
        let first_of_all = usize::from(name == "gateway");
        assert_eq!(count(name, "credential.revoke").await.len(), 100 + first_of_all);
        service.record_suppressed_refusals().await;
        let [counted] = &count(name, "refusal.suppress").await[..] else { panic!("one count") };
        assert_eq!(counted.after.as_deref(), Some(r#"{"unrecorded_refusals":30}"#));
    }
    // Revoking an active token is recorded after any number of refusals.
    let made = root.create_key("acme", &[Scope::Read]).await;
    gateway.revoke_token(&made.token).await;
    assert_eq!(count("gateway", "credential.revoke").await.len(), 102);
}

async fn every_credential_revoked_with_its_owner_has_its_event(h: Harness) {
    let root = h.root().await;
    root.put_workspace("doomed").await;
    root.put_user("ada").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(root.create_key("doomed", &[Scope::Read]).await.credential.expect("a key").id);
        let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await;
        ids.push(pat.credential.expect("a token").id);
    }
    let dead = root.create_key("doomed", &[Scope::Read]).await.credential.expect("a key").id;
    let by_id = pb::revoke_request::Credential::CredentialId(dead.clone());
    let revoke = pb::RevokeRequest { credential: Some(by_id), ..Default::default() };
    root.auth().revoke(revoke).await.expect("it is revoked");
    let disable = pb::DisableRequest { credential_id: ids[0].clone(), ..Default::default() };
    root.auth().disable(disable).await.expect("it is off");
    let delete =
        pb::DeleteWorkspaceRequest { workspace: "doomed".to_owned(), ..Default::default() };
    root.directory().delete_workspace(delete).await.expect("it is deleted");
    let delete = pb::DeleteUserRequest { user: "ada".to_owned(), ..Default::default() };
    root.directory().delete_user(delete).await.expect("they are deleted");

    let revoked = of_action(&root, "credential.revoke").await;
    let logged: Vec<_> = revoked.iter().map(|event| (&*event.target_id, &*event.reason)).collect();
    let (workspace, user) = ("workspace id-of-doomed was deleted", "user ada was deleted");
    let expected = [
        (&*dead, ""),
        (&*ids[0], workspace),
        (&*ids[2], workspace),
        (&*ids[1], user),
        (&*ids[3], user),
    ];
    assert_eq!(logged, expected);
    for event in &revoked[1..] {
        let id = CredentialId::parse(&event.target_id).expect("an id");
        let service = &h.running.service;
        let row =
            h.database.open().await.find_credential(id).await.expect("a read").expect("a row");
        let after: Value = serde_json::from_str(&event.after).expect("JSON");
        assert_eq!(after, view::credential(&row, service.now()));
        let before: Value = serde_json::from_str(&event.before).expect("JSON");
        assert_eq!((&before["revoke_time"], &before["etag"]), (&Value::Null, &after["etag"]));
        assert_eq!((&*event.caller, &*event.remote_address), ("root", "127.0.0.1"));
    }
    for action in ["workspace.delete", "user.delete"] {
        let [event] = &of_action(&root, action).await[..] else { panic!("one event") };
        assert_eq!(event.after, r#"{"revoked_count":2}"#, "{action}");
    }
}
