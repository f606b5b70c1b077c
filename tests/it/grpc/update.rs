//! UpdateCredential: the fields of a mask, and that no update widens a credential.

use prost_types::{FieldMask, Timestamp};
use sophic_auth::grpc::pb::{self, Denial, Scope, UpdateCredentialRequest};
use tonic::{Code, Status};

use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    only_what_the_mask_names_is_changed,
    scopes_can_only_be_removed,
    an_expiry_can_only_be_brought_forward,
    a_mask_names_only_fields_that_can_change,
    new_values_are_checked_as_those_of_a_new_credential,
    a_stale_etag_changes_nothing,
    an_update_that_changes_nothing_keeps_the_etag,
    narrowing_is_known_at_every_server_when_it_returns,
    a_revoked_credential_is_not_changed,
}

async fn update(
    actor: &Actor,
    new: &pb::Credential,
    paths: &[&str],
) -> Result<pb::Credential, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = UpdateCredentialRequest {
        credential: Some(new.clone()),
        update_mask: Some(FieldMask { paths }),
        acting_user: String::new(),
    };
    let response = actor.auth().update_credential(request).await?.into_inner();
    Ok(response.credential.expect("it is given"))
}

async fn key(h: &Harness) -> (Actor, pb::Credential, String) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read, Scope::Admin]).await;
    (root, key.credential.expect("it is given"), key.token)
}

fn in_seconds(seconds: i64) -> Timestamp {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    Timestamp { seconds: i64::try_from(now).expect("before the end of time") + seconds, nanos: 0 }
}

async fn only_what_the_mask_names_is_changed(h: Harness) {
    let (root, old, _) = key(&h).await;
    let new = pb::Credential {
        id: old.id.clone(),
        name: "Neuer Name".to_owned(),
        annotations: [("team".to_owned(), "search".to_owned())].into(),
        ip_allowlist: vec!["192.0.2.7".to_owned()],
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    let named = update(&root, &new, &["name"]).await.expect("it is changed");
    assert_ne!(named.etag, old.etag);
    let expected =
        pb::Credential { name: new.name.clone(), etag: named.etag.clone(), ..old.clone() };
    assert_eq!(named, expected);
    let all = ["annotations", "ip_allowlist", "scopes"];
    let changed = update(&root, &new, &all).await.expect("it is changed");
    assert_eq!(changed.annotations, new.annotations);
    assert_eq!(changed.ip_allowlist, ["192.0.2.7/32"]);
    assert_eq!(changed.scopes, new.scopes);
    let empty = pb::Credential { id: old.id, ..Default::default() };
    let cleared = update(&root, &empty, &["annotations", "ip_allowlist"]).await.expect("cleared");
    assert!(cleared.annotations.is_empty() && cleared.ip_allowlist.is_empty());
    assert_eq!(cleared.name, new.name);
}

async fn scopes_can_only_be_removed(h: Harness) {
    let (root, old, _) = key(&h).await;
    let with = |scopes: &[Scope]| pb::Credential {
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        ..old.clone()
    };
    for wrong in [&[Scope::Read, Scope::Capture][..], &[Scope::Capture], &[]] {
        let old = pb::Credential { etag: String::new(), ..with(wrong) };
        assert_eq!(fields(update(&root, &old, &["scopes"]).await), ["credential.scopes"]);
    }
    let narrowed = update(&root, &with(&[Scope::Read]), &["scopes"]).await.expect("fewer");
    assert_eq!(narrowed.scopes, [i32::from(Scope::Read)]);
    let back = pb::Credential { etag: String::new(), ..with(&[Scope::Read, Scope::Admin]) };
    assert_eq!(fields(update(&root, &back, &["scopes"]).await), ["credential.scopes"]);
}

async fn an_expiry_can_only_be_brought_forward(h: Harness) {
    let (root, old, _) = key(&h).await;
    let with = |expire_time| pb::Credential { expire_time, etag: String::new(), ..old.clone() };
    let field = ["credential.expire_time"];
    for wrong in [None, Some(in_seconds(-5)), Some(Timestamp { seconds: i64::MAX, nanos: 0 })] {
        assert_eq!(fields(update(&root, &with(wrong), &["expire_time"]).await), field);
    }
    let soon = Some(in_seconds(1_000));
    let first = update(&root, &with(soon), &["expire_time"]).await.expect("an expiry");
    assert_eq!(first.expire_time, soon);
    // Repeating the update changes nothing.
    update(&root, &with(soon), &["expire_time"]).await.expect("the same");
    let sooner = Some(in_seconds(500));
    update(&root, &with(sooner), &["expire_time"]).await.expect("sooner");
    assert_eq!(fields(update(&root, &with(soon), &["expire_time"]).await), field);
    assert_eq!(fields(update(&root, &with(None), &["expire_time"]).await), field);
}

async fn a_mask_names_only_fields_that_can_change(h: Harness) {
    let (root, old, _) = key(&h).await;
    for paths in [&[][..], &["*"], &["name", "max_role"], &["hint"], &["credential.name"], &[""]] {
        assert_eq!(fields(update(&root, &old, paths).await), ["update_mask"], "{paths:?}");
    }
    let request = UpdateCredentialRequest::default();
    let outcome = root.auth().update_credential(request).await;
    assert_eq!(fields(outcome), ["credential.id", "update_mask"]);
}

async fn new_values_are_checked_as_those_of_a_new_credential(h: Harness) {
    let (root, old, _) = key(&h).await;
    let new = pb::Credential {
        id: old.id,
        name: " padded ".to_owned(),
        annotations: [("No".to_owned(), String::new())].into(),
        ip_allowlist: vec!["nowhere".to_owned()],
        ..Default::default()
    };
    let outcome = update(&root, &new, &["name", "annotations", "ip_allowlist"]).await;
    let wrong = ["credential.name", "credential.annotations", "credential.ip_allowlist"];
    assert_eq!(fields(outcome), wrong);
}

async fn a_stale_etag_changes_nothing(h: Harness) {
    let (root, old, _) = key(&h).await;
    let first = pb::Credential { name: "first".to_owned(), ..old.clone() };
    let first = update(&root, &first, &["name"]).await.expect("the etag is right");
    let second = pb::Credential { name: "second".to_owned(), ..old };
    let outcome = update(&root, &second, &["name"]).await;
    assert_eq!(refused(outcome), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let third = pb::Credential { name: "third".to_owned(), ..first };
    update(&root, &third, &["name"]).await.expect("the etag is right");
}

async fn an_update_that_changes_nothing_keeps_the_etag(h: Harness) {
    let (root, old, _) = key(&h).await;
    let same = update(&root, &old, &["name", "scopes", "annotations", "ip_allowlist"]).await;
    assert_eq!(same.expect("it is the same"), old);
}

async fn narrowing_is_known_at_every_server_when_it_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let (root, old, token) = key(&h).await;
    let there = root.via(&other);
    assert!(there.introspect(&token, "acme", &[Scope::Admin]).await.allowed);
    let fewer = pb::Credential { scopes: vec![Scope::Read.into()], ..old.clone() };
    update(&root, &fewer, &["scopes"]).await.expect("fewer scopes");
    let answer = there.introspect(&token, "acme", &[Scope::Admin]).await;
    assert_eq!(answer.denial(), Denial::InsufficientScope);
    assert!(there.introspect(&token, "acme", &[Scope::Read]).await.allowed);
    let inside = vec!["192.0.2.0/24".to_owned()];
    let inside = pb::Credential { ip_allowlist: inside, etag: String::new(), ..old };
    update(&root, &inside, &["ip_allowlist"]).await.expect("an allowlist");
    let answer = there.introspect(&token, "acme", &[]).await;
    assert_eq!(answer.denial(), Denial::IpNotAllowed);
}

async fn a_revoked_credential_is_not_changed(h: Harness) {
    let (root, old, token) = key(&h).await;
    let credential = Some(pb::revoke_request::Credential::Token(token));
    let request = pb::RevokeRequest { credential, ..Default::default() };
    root.auth().revoke(request).await.expect("it is revoked");
    let old = pb::Credential { etag: String::new(), ..old };
    let outcome = update(&root, &old, &["name"]).await;
    assert_eq!(refused(outcome), (Code::FailedPrecondition, "CREDENTIAL_REVOKED".to_owned()));
}
