//! When one server has answered a change, all servers apply it.

use std::time::Duration;

use sophic_auth::grpc::pb::{
    Denial, PutUserRequest, RevokeRequest, Role, Scope, User, revoke_request,
};
use sophic_auth::model::Revision;
use sophic_auth::store::Published;
use tonic::Code;

use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_revoked_key_is_refused_at_every_server_when_revoke_returns,
    a_lowered_role_is_lower_at_every_server_when_put_returns,
    a_disabled_user_is_refused_at_every_server_when_put_returns,
    a_deleted_workspace_is_unknown_at_every_server_when_delete_returns,
    a_renamed_workspace_leaves_its_old_name_at_once,
    a_revoked_caller_is_refused_at_every_server_when_revoke_returns,
    a_key_that_was_just_made_is_known_at_every_server,
    a_revocation_does_not_wait_for_a_server_that_shut_down,
    a_revocation_waits_once_for_a_server_that_crashed,
}

async fn revoke(actor: &Actor, id: &str) -> Result<(), tonic::Status> {
    let credential = Some(revoke_request::Credential::CredentialId(id.to_owned()));
    let request = RevokeRequest { credential, ..Default::default() };
    actor.auth().revoke(request).await.map(drop)
}

async fn a_revoked_key_is_refused_at_every_server_when_revoke_returns(h: Harness) {
    let others = [h.another(|_| {}).await, h.another(|_| {}).await];
    let root = h.root().await;
    root.put_workspace("acme").await;
    for _ in 0..20 {
        let key = root.create_key("acme", &[Scope::Read]).await;
        let servers = [&h, &others[0], &others[1]].map(|server| root.via(server));
        for server in &servers {
            assert!(server.introspect(&key.token, "acme", &[Scope::Read]).await.allowed);
        }
        let id = key.credential.expect("a credential").id;
        revoke(&servers[1], &id).await.expect("it is revoked");
        for server in &servers {
            let answer = server.introspect(&key.token, "acme", &[Scope::Read]).await;
            assert_eq!(answer.denial(), Denial::TokenRevoked);
        }
    }
}

async fn a_lowered_role_is_lower_at_every_server_when_put_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Admin).await;
    let pat = root.create_pat("ada", &[Scope::Read, Scope::Admin], Role::Owner).await.token;
    let there = root.via(&other);
    for _ in 0..10 {
        assert!(there.introspect(&pat, "acme", &[Scope::Admin]).await.allowed);
        root.put_membership("acme", "ada", Role::Viewer).await;
        let answer = there.introspect(&pat, "acme", &[Scope::Admin]).await;
        assert_eq!(answer.denial(), Denial::InsufficientScope);
        root.put_membership("acme", "ada", Role::Admin).await;
        h.wait_until_read_by(&other).await;
    }
}

async fn a_disabled_user_is_refused_at_every_server_when_put_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    let there = root.via(&other);
    assert!(there.introspect(&pat, "acme", &[Scope::Read]).await.allowed);
    let user = User {
        id: "ada".to_owned(),
        display_name: "Ada".to_owned(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutUserRequest { user: Some(user) };
    root.directory().put_user(request).await.expect("a user is put");
    let answer = there.introspect(&pat, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::PrincipalDisabled);
}

async fn a_deleted_workspace_is_unknown_at_every_server_when_delete_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    let there = root.via(&other);
    for token in [&key, &pat] {
        assert!(there.introspect(token, "acme", &[Scope::Read]).await.allowed);
    }
    root.delete_workspace("acme").await;
    assert_eq!(there.introspect(&key, "acme", &[]).await.denial(), Denial::TokenRevoked);
    assert_eq!(there.introspect(&pat, "acme", &[]).await.denial(), Denial::NotAMember);
}

async fn a_renamed_workspace_leaves_its_old_name_at_once(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = h.root().await;
    let mut workspace = root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    let there = root.via(&other);
    assert!(there.introspect(&pat, "acme", &[]).await.allowed);
    assert_eq!(there.introspect(&pat, "emca", &[]).await.denial(), Denial::NotAMember);
    workspace.slug = "emca".to_owned();
    root.put(workspace).await;
    assert_eq!(there.introspect(&pat, "acme", &[]).await.denial(), Denial::NotAMember);
    assert!(there.introspect(&pat, "emca", &[]).await.allowed);
    assert!(there.introspect(&pat, "id-of-acme", &[]).await.allowed);
}

async fn a_revoked_caller_is_refused_at_every_server_when_revoke_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let (root, gateway) = (h.root().await, h.gateway().await);
    let there = gateway.via(&other);
    there.introspect("", "", &[]).await;
    let request = sophic_auth::grpc::pb::RevokeCallerRequest { caller: "gateway".to_owned() };
    root.admin().revoke_caller(request).await.expect("the caller is revoked");
    let request = sophic_auth::grpc::pb::IntrospectRequest::default();
    let refused = there.auth().introspect(request).await.expect_err("a dead caller");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

async fn a_key_that_was_just_made_is_known_at_every_server(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    for _ in 0..20 {
        let key = root.create_key("acme", &[Scope::Read]).await.token;
        assert!(root.via(&other).introspect(&key, "", &[]).await.allowed);
    }
}

async fn a_revocation_does_not_wait_for_a_server_that_shut_down(h: Harness) {
    let other = h.another(|config| config.cache.lease = Duration::from_secs(60)).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    other.running.stop().await;
    // The harness gives requests 15 seconds, a quarter of the lease.
    revoke(&root, &key.credential.expect("a credential").id).await.expect("it is revoked");
}

async fn a_revocation_waits_once_for_a_server_that_crashed(h: Harness) {
    let store =
        sophic_auth::store::open_existing(&h.database.location()).await.expect("the store opens");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = sophic_auth::model::ReplicaId(uuid::Uuid::from_u128(7));
    feed.register(id, Duration::from_secs(1)).await.expect("it is registered");
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    revoke(&root, &key.credential.expect("a credential").id).await.expect("it is revoked");
    let rows = store.list_replicas().await.expect("the rows").replicas;
    assert!(!rows.iter().any(|row| row.id == id), "it was given up");
    let nothing = Published { incarnation: None, applied: Revision(0), seq: 1, durable: false };
    let synced = feed.sync(id, &nothing, 10).await.expect("it answers");
    assert_eq!(synced, None);
}
