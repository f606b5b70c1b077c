//! Credentials from creation to revocation, as the RPCs show them.

use std::collections::HashMap;

use sophic_auth::grpc::pb::{
    CreateKeyRequest, CreatePatRequest, CredentialKind, CredentialState, GetCredentialRequest,
    RevokeRequest, Role, Scope, create_key_request, create_pat_request, revoke_request,
};
use tonic::Code;

use super::refusal::refused;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_key_is_returned_as_it_was_created,
    a_pat_is_returned_as_it_was_created,
    tokens_differ_and_are_shown_once,
    revoking_is_idempotent_and_keeps_the_first_time,
    an_absent_credential_is_not_found,
}

async fn get(actor: &Actor, id: &str) -> sophic_auth::grpc::pb::Credential {
    let request = GetCredentialRequest { credential_id: id.to_owned(), ..Default::default() };
    let response = actor.auth().get_credential(request).await.expect("it is there");
    response.into_inner().credential.expect("it is given")
}

async fn a_key_is_returned_as_it_was_created(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "Größe 🚀".to_owned(),
        // Duplicates are removed, and the order is fixed.
        scopes: vec![Scope::Admin.into(), Scope::Read.into(), Scope::Admin.into()],
        expiration: Some(create_key_request::Expiration::ExpireTime(prost_types::Timestamp {
            seconds: 4_102_444_800,
            nanos: 123_456_789,
        })),
        ip_allowlist: vec!["192.0.2.77/24".to_owned(), "2001:db8::1".to_owned()],
        annotations: HashMap::from([("team/core".to_owned(), "search \"1\"".to_owned())]),
        ..Default::default()
    };
    let response = root.auth().create_key(request).await.expect("it is made").into_inner();
    let made = response.credential.expect("it is given");
    assert_eq!(made.kind(), CredentialKind::Key);
    assert_eq!((made.workspace_id.as_str(), made.user_id.as_str()), ("id-of-acme", ""));
    assert_eq!(made.name, "Größe 🚀");
    assert_eq!(made.scopes().collect::<Vec<_>>(), [Scope::Read, Scope::Admin]);
    assert_eq!(made.max_role(), Role::Unspecified);
    assert_eq!(made.ip_allowlist, ["192.0.2.0/24", "2001:db8::1/128"]);
    assert_eq!(made.annotations["team/core"], "search \"1\"");
    assert_eq!(made.state(), CredentialState::Active);
    // Microseconds are kept.
    assert_eq!(made.expire_time.map(|time| time.nanos), Some(123_456_000));
    assert_eq!(made.creator, "caller:root");
    assert_eq!((&made.family_id, made.predecessor_id.as_str()), (&made.id, ""));
    assert_eq!((made.disable_time, made.revoke_time, made.last_use_time), (None, None, None));
    let (start, end) = made.hint.split_once("...").expect("both ends");
    assert_eq!(start, "sophic_key_");
    assert_eq!(end, &response.token[39..43]);
    assert_eq!(get(&root, &made.id).await, made);
}

async fn a_pat_is_returned_as_it_was_created(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    let request = CreatePatRequest {
        user: "ada".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Capture.into()],
        max_role: Role::Member.into(),
        expiration: Some(create_pat_request::Expiration::Ttl(prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        })),
        ..Default::default()
    };
    let response = root.auth().create_pat(request).await.expect("it is made").into_inner();
    let made = response.credential.expect("it is given");
    assert_eq!(made.kind(), CredentialKind::Pat);
    assert_eq!((made.workspace_id.as_str(), made.user_id.as_str()), ("", "ada"));
    assert_eq!(made.max_role(), Role::Member);
    let (begin, end) = (made.create_time.expect("a time"), made.expire_time.expect("a time"));
    // Counted from the request, a moment before the credential was created.
    let lived = (end.seconds - begin.seconds) * 1_000_000_000 + i64::from(end.nanos - begin.nanos);
    assert!((3_500_000_000_000..=3_600_000_000_000).contains(&lived), "{lived}");
    assert!(response.token.starts_with("sophic_pat_"));
    assert_eq!(get(&root, &made.id).await, made);
    // Without a downscope it is the highest role.
    let unbounded = root.create_pat("ada", &[Scope::Read], Role::Unspecified).await;
    assert_eq!(unbounded.credential.expect("it is given").max_role(), Role::Owner);
}

async fn tokens_differ_and_are_shown_once(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut tokens = Vec::new();
    for _ in 0..20 {
        let made = root.create_key("acme", &[Scope::Read]).await;
        let id = made.credential.expect("it is given").id;
        assert!(!format!("{:?}", get(&root, &id).await).contains(&made.token[11..]));
        tokens.push(made.token);
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 20);
}

async fn revoking_is_idempotent_and_keeps_the_first_time(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let made = root.create_key("acme", &[Scope::Read]).await;
    let id = made.credential.expect("it is given").id;
    let revoke = async || {
        let request = RevokeRequest {
            credential: Some(revoke_request::Credential::CredentialId(id.clone())),
            reason: "left in a public repository".to_owned(),
            ..Default::default()
        };
        root.auth().revoke(request).await.expect("it is revoked").into_inner()
    };
    let (first, second) = (revoke().await, revoke().await);
    assert_eq!(first.effective_time, second.effective_time);
    assert!(second.revision >= first.revision);
    assert_eq!(root.revoke_token(&made.token).await.effective_time, first.effective_time);
    let dead = get(&root, &id).await;
    assert_eq!(dead.state(), CredentialState::Revoked);
    assert_eq!(dead.revoke_time, first.effective_time);
}

async fn an_absent_credential_is_not_found(h: Harness) {
    let root = h.root().await;
    let id = "0195f2d4-7c1e-7b3a-9d58-0242ac120002";
    let request = GetCredentialRequest { credential_id: id.to_owned(), ..Default::default() };
    let absent = (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned());
    assert_eq!(refused(root.auth().get_credential(request).await), absent);
    let request = RevokeRequest {
        credential: Some(revoke_request::Credential::CredentialId(id.to_owned())),
        ..Default::default()
    };
    assert_eq!(refused(root.auth().revoke(request).await), absent);
    // It succeeds for the text of no credential too.
    let nothing = root.revoke_token("sophic_key_nobodys").await;
    assert_eq!(nothing.effective_time, None);
}
