//! Rotate: one successor, an overlap, a family, and no partial result under races and crashes.

use std::collections::BTreeSet;

use prost_types::Duration;
use sophic_auth::grpc::pb::{
    self, CredentialState, Denial, ListCredentialsRequest, RevokeRequest, Role, RotateRequest,
    RotateResponse, Scope, create_key_request, revoke_request, rotate_request,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::refusal::{fields, reason, refused};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_successor_copies_its_predecessor_and_the_old_token_is_refused,
    with_an_overlap_both_are_active_and_the_old_one_expires,
    an_overlap_ends_no_later_than_the_old_credential_expires,
    a_successor_gets_the_lifetime_of_its_predecessor,
    a_credential_with_an_active_successor_is_not_rotated_again,
    an_inactive_credential_is_not_rotated,
    a_disabled_credentials_successor_is_disabled,
    a_stale_etag_rotates_nothing,
    a_family_is_listed_oldest_first,
    one_hundred_racing_rotations_create_one_successor,
    an_acting_user_rotates_what_they_may_see,
    the_old_token_is_refused_at_every_server_when_rotate_returns,
}

pub(crate) async fn rotate(
    actor: &Actor,
    request: RotateRequest,
) -> Result<RotateResponse, Status> {
    actor.auth().rotate(request).await.map(tonic::Response::into_inner)
}

pub(crate) fn of(id: &str) -> RotateRequest {
    RotateRequest { credential_id: id.to_owned(), ..Default::default() }
}

fn overlapping(id: &str, seconds: i64) -> RotateRequest {
    RotateRequest { overlap: Some(Duration { seconds, nanos: 0 }), ..of(id) }
}

fn id(credential: Option<&pb::Credential>) -> String {
    credential.expect("a credential").id.clone()
}

async fn family(actor: &Actor, id: &str) -> Vec<pb::Credential> {
    let request = ListCredentialsRequest { family_id: id.to_owned(), ..Default::default() };
    let response = actor.auth().list_credentials(request).await.expect("a page");
    response.into_inner().credentials
}

async fn key(h: &Harness) -> (Actor, pb::CreateKeyResponse) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    (root, key)
}

async fn a_successor_copies_its_predecessor_and_the_old_token_is_refused(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let request = pb::CreatePatRequest {
        user: "ada".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Read.into(), Scope::Capture.into()],
        max_role: Role::Viewer.into(),
        ip_allowlist: vec!["192.0.2.0/24".to_owned()],
        annotations: [("team".to_owned(), "search".to_owned())].into(),
        ..Default::default()
    };
    let made = root.auth().create_pat(request).await.expect("it is made").into_inner();
    let old = made.credential.expect("it is given");
    let rotated = rotate(&root, of(&old.id)).await.expect("it is rotated");
    let new = rotated.credential.expect("the successor");
    assert_eq!((&new.predecessor_id, &new.family_id), (&old.id, &old.family_id));
    assert_ne!((&new.id, &new.hint), (&old.id, &old.hint));
    let as_old = pb::Credential {
        id: old.id.clone(),
        hint: old.hint.clone(),
        create_time: old.create_time,
        creator: old.creator.clone(),
        predecessor_id: String::new(),
        etag: old.etag.clone(),
        ..new.clone()
    };
    assert_eq!(as_old, old);
    let predecessor = rotated.predecessor.expect("the old one");
    assert_eq!(predecessor.state(), CredentialState::Revoked);
    assert!(predecessor.revoke_time.is_some());
    let old_answer = root.introspect(&made.token, "acme", &[]).await;
    assert_eq!(old_answer.denial(), Denial::TokenRevoked);
    let new_answer = root.introspect(&rotated.token, "acme", &[]).await;
    assert_eq!(new_answer.denial(), Denial::IpNotAllowed);
    assert!(new_answer.active);
}

async fn with_an_overlap_both_are_active_and_the_old_one_expires(h: Harness) {
    let (root, key) = key(&h).await;
    let old = id(key.credential.as_ref());
    let rotated = rotate(&root, overlapping(&old, 3_600)).await.expect("it is rotated");
    let predecessor = rotated.predecessor.expect("the old one");
    let made = rotated.credential.expect("the successor").create_time.expect("a time");
    let end = predecessor.expire_time.expect("it ends");
    assert_eq!((end.seconds - made.seconds, end.nanos), (3_600, made.nanos));
    assert_eq!(predecessor.state(), CredentialState::Active);
    for token in [&key.token, &rotated.token] {
        assert!(root.introspect(token, "acme", &[Scope::Read]).await.allowed);
    }
    let answer = root.introspect(&key.token, "acme", &[]).await;
    assert_eq!(answer.credential.expect("it is returned").expire_time, Some(end));
}

async fn an_overlap_ends_no_later_than_the_old_credential_expires(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let request = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        expiration: Some(create_key_request::Expiration::Ttl(Duration { seconds: 600, nanos: 0 })),
        ..Default::default()
    };
    let key = root.auth().create_key(request).await.expect("it is made").into_inner();
    let old = key.credential.expect("it is given");
    let rotated = rotate(&root, overlapping(&old.id, 86_400)).await.expect("it is rotated");
    assert_eq!(rotated.predecessor.expect("the old one").expire_time, old.expire_time);
}

async fn a_successor_gets_the_lifetime_of_its_predecessor(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let request = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        expiration: Some(create_key_request::Expiration::Ttl(Duration { seconds: 600, nanos: 0 })),
        ..Default::default()
    };
    let key = root.auth().create_key(request).await.expect("it is made").into_inner();
    let old = key.credential.expect("it is given");
    let lifetime = |credential: &pb::Credential| {
        let micros = |time: Option<prost_types::Timestamp>| {
            let time = time.expect("a time");
            time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
        };
        micros(credential.expire_time) - micros(credential.create_time)
    };
    let rotated = rotate(&root, of(&old.id)).await.expect("it is rotated");
    let new = rotated.credential.expect("the successor");
    assert_eq!(lifetime(&new), lifetime(&old));
    // The request may name another lifetime.
    let ttl = rotate_request::Expiration::Ttl(Duration { seconds: 7_200, nanos: 0 });
    let request = RotateRequest { expiration: Some(ttl), ..of(&new.id) };
    let again = rotate(&root, request).await.expect("it is rotated");
    assert_eq!(lifetime(&again.credential.expect("the successor")), 7_200_000_000);
}

async fn a_credential_with_an_active_successor_is_not_rotated_again(h: Harness) {
    let (root, key) = key(&h).await;
    let old = id(key.credential.as_ref());
    let first = rotate(&root, overlapping(&old, 3_600)).await.expect("it is rotated");
    let successor = id(first.credential.as_ref());
    let status = rotate(&root, of(&old)).await.expect_err("it has one");
    assert_eq!((status.code(), &*reason(&status)), (Code::FailedPrecondition, "ALREADY_ROTATED"));
    let info = status.get_details_error_info().expect("details");
    assert_eq!(info.metadata.get("successor_id"), Some(&successor));
    // Once that successor is revoked, the old credential may get another.
    let credential = Some(revoke_request::Credential::CredentialId(successor));
    let request = RevokeRequest { credential, ..Default::default() };
    root.auth().revoke(request).await.expect("it is revoked");
    rotate(&root, of(&old)).await.expect("it is rotated");
    assert_eq!(family(&root, &old).await.len(), 3);
}

async fn an_inactive_credential_is_not_rotated(h: Harness) {
    let (root, key) = key(&h).await;
    let old = id(key.credential.as_ref());
    let rotated = rotate(&root, of(&old)).await.expect("it is rotated");
    let again = rotate(&root, of(&old)).await;
    assert_eq!(refused(again), (Code::FailedPrecondition, "CREDENTIAL_REVOKED".to_owned()));
    let nobody = rotate(&root, of("0195f2d4-7c1e-7b3a-9d58-0242ac120002")).await;
    assert_eq!(refused(nobody), (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned()));
    let wrong = RotateRequest {
        overlap: Some(Duration { seconds: -1, nanos: 0 }),
        request_id: "one".to_owned(),
        ..of(&id(rotated.credential.as_ref()))
    };
    assert_eq!(
        fields(rotate(&root, RotateRequest { request_id: String::new(), ..wrong.clone() }).await),
        ["overlap"]
    );
    assert_eq!(
        fields(rotate(&root, RotateRequest { overlap: None, ..wrong }).await),
        ["request_id"]
    );
    root.put(pb::Workspace {
        id: "id-of-acme".to_owned(),
        slug: "acme".to_owned(),
        display_name: "Acme".to_owned(),
        disabled: Some(true),
        ..Default::default()
    })
    .await;
    let disabled = rotate(&root, of(&id(rotated.credential.as_ref()))).await;
    assert_eq!(refused(disabled), (Code::FailedPrecondition, "WORKSPACE_DISABLED".to_owned()));
}

async fn a_disabled_credentials_successor_is_disabled(h: Harness) {
    let (root, key) = key(&h).await;
    let old = id(key.credential.as_ref());
    let request = pb::DisableRequest { credential_id: old.clone(), ..Default::default() };
    root.auth().disable(request).await.expect("it is disabled");
    let rotated = rotate(&root, of(&old)).await.expect("it is rotated");
    assert_eq!(rotated.credential.expect("the successor").state(), CredentialState::Disabled);
    let answer = root.introspect(&rotated.token, "acme", &[]).await;
    assert_eq!(answer.denial(), Denial::TokenDisabled);
}

async fn a_stale_etag_rotates_nothing(h: Harness) {
    let (root, key) = key(&h).await;
    let old = key.credential.expect("it is given");
    let stale = RotateRequest { etag: "\"ff\"".to_owned(), ..of(&old.id) };
    assert_eq!(refused(rotate(&root, stale).await), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    assert!(root.introspect(&key.token, "acme", &[]).await.allowed);
    let fresh = RotateRequest { etag: old.etag, ..of(&old.id) };
    rotate(&root, fresh).await.expect("it is rotated");
}

async fn a_family_is_listed_oldest_first(h: Harness) {
    let (root, key) = key(&h).await;
    let mut ids = vec![id(key.credential.as_ref())];
    root.create_key("acme", &[Scope::Read]).await;
    for _ in 0..3 {
        let rotated = rotate(&root, overlapping(ids.last().expect("one"), 3_600)).await;
        ids.push(id(rotated.expect("it is rotated").credential.as_ref()));
    }
    let listed: Vec<_> = family(&root, &ids[0]).await.into_iter().map(|one| one.id).collect();
    assert_eq!(listed, ids);
}

async fn one_hundred_racing_rotations_create_one_successor(h: Harness) {
    let (root, key) = key(&h).await;
    let old = id(key.credential.as_ref());
    let mut racing = Vec::new();
    for number in 0..100 {
        let (root, request) =
            (root.clone(), overlapping(&old, if number % 2 == 0 { 60 } else { 0 }));
        racing.push(tokio::spawn(async move { rotate(&root, request).await }));
    }
    let mut made = BTreeSet::new();
    let mut tokens = Vec::new();
    for task in racing {
        match task.await.expect("it ends") {
            Ok(rotated) => {
                made.insert(id(rotated.credential.as_ref()));
                tokens.push(rotated.token);
            }
            Err(status) => {
                // With an overlap the old one is active and has a successor. Without one it is revoked.
                assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
            }
        }
    }
    assert_eq!((made.len(), tokens.len()), (1, 1));
    assert_eq!(family(&root, &old).await.len(), 2);
    assert!(root.introspect(&tokens[0], "acme", &[Scope::Read]).await.allowed);
}

async fn an_acting_user_rotates_what_they_may_see(h: Harness) {
    let (root, key) = key(&h).await;
    let old = id(key.credential.as_ref());
    for (user, role) in [("ada", Role::Admin), ("bob", Role::Member)] {
        root.put_user(user).await;
        root.put_membership("acme", user, role).await;
    }
    let dashboard = h.dashboard().await;
    let by = |user: &str| RotateRequest { acting_user: user.to_owned(), ..of(&old) };
    let refusals = [
        ("", Code::PermissionDenied, "ACTING_USER_REQUIRED"),
        ("bob", Code::NotFound, "CREDENTIAL_NOT_FOUND"),
        ("eve", Code::PermissionDenied, "ACTING_USER_NOT_ACTIVE"),
    ];
    for (user, code, reason) in refusals {
        assert_eq!(
            refused(rotate(&dashboard, by(user)).await),
            (code, reason.to_owned()),
            "{user}"
        );
    }
    let rotated = rotate(&dashboard, by("ada")).await.expect("an admin may");
    assert_eq!(rotated.credential.expect("the successor").creator, "user:ada");
}

async fn the_old_token_is_refused_at_every_server_when_rotate_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let (root, key) = key(&h).await;
    let there = root.via(&other);
    assert!(there.introspect(&key.token, "acme", &[Scope::Read]).await.allowed);
    let rotated = rotate(&root, of(&id(key.credential.as_ref()))).await.expect("it is rotated");
    let old = there.introspect(&key.token, "acme", &[]).await;
    assert_eq!(old.denial(), Denial::TokenRevoked);
    assert!(there.introspect(&rotated.token, "acme", &[Scope::Read]).await.allowed);
}
