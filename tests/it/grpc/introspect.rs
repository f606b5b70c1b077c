//! Introspect through the real server.

use sophic_auth::grpc::pb::{Denial, Role, Scope};

use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    a_key_is_allowed_what_it_was_granted,
    a_pat_acts_in_the_workspace_that_is_named,
}

async fn a_key_is_allowed_what_it_was_granted(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let answer = h.gateway().await.introspect(&key.token, "acme", &[Scope::Read]).await;
    assert!(answer.active && answer.allowed, "{answer:?}");
    assert_eq!(answer.http_status, 200);
}

async fn a_pat_acts_in_the_workspace_that_is_named(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let pat = root.create_pat("ada", &[Scope::Read, Scope::Capture], Role::Viewer).await;
    let answer = root.introspect(&pat.token, "acme", &[Scope::Capture]).await;
    assert_eq!(answer.denial(), Denial::InsufficientScope);
    assert_eq!(answer.role(), Role::Viewer);
}
