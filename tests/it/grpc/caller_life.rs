//! Updating, rotating and revoking callers.

use sophic_auth::grpc::pb::{
    CreateCallerRequest, ListAuditEventsRequest, ListCallersRequest, RevokeCallerRequest,
    RotateCallerRequest, UpdateCallerRequest,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};

use super::audit::of_action;
use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    a_callers_permissions_and_name_can_be_changed,
    a_removed_permission_is_refused_at_once,
    rotating_a_caller_replaces_its_token,
    no_caller_gains_permissions_through_another_caller,
    a_revoked_caller_and_one_with_a_certificate_are_not_rotated,
    a_revoked_caller_is_found_only_by_its_id,
    a_callers_new_name_must_be_free_and_something_must_change,
}

fn update(caller: &str, name: &str, permissions: &[&str]) -> UpdateCallerRequest {
    UpdateCallerRequest {
        caller: caller.to_owned(),
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn rotate(caller: &str) -> RotateCallerRequest {
    RotateCallerRequest { caller: caller.to_owned(), ..Default::default() }
}

/// A rotation without an overlap.
fn at_once(caller: &str) -> RotateCallerRequest {
    RotateCallerRequest { overlap: Some(prost_types::Duration::default()), ..rotate(caller) }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Code {
    outcome.expect_err("it is refused").code()
}

async fn a_callers_permissions_and_name_can_be_changed(h: Harness) {
    let root = h.root().await;
    let gateway = h.gateway().await;
    let request = update("gateway", "edge", &["introspect", "directory.read"]);
    let changed = root.admin().update_caller(request).await.expect("it is changed").into_inner();
    let changed = changed.caller.expect("a caller");
    assert_eq!(changed.name, "edge");
    assert_eq!(changed.permissions, ["introspect", "directory.read"]);
    // The token is unchanged, and may do more now.
    gateway
        .directory()
        .list_users(sophic_auth::grpc::pb::ListUsersRequest::default())
        .await
        .expect("it may");
    let by_id = update(&changed.id, "gateway", &[]);
    let changed = root.admin().update_caller(by_id).await.expect("it is changed").into_inner();
    assert_eq!(changed.caller.expect("a caller").permissions.len(), 2);
    let [first, _] = &of_action(&root, "caller.update").await[..] else { panic!("two events") };
    assert!(first.before.contains("\"gateway\"") && first.after.contains("\"edge\""), "{first:?}");
}

async fn a_removed_permission_is_refused_at_once(h: Harness) {
    let root = h.root().await;
    let auditor = h.caller("auditor", &[Permission::AuditRead, Permission::Introspect]).await;
    auditor.admin().list_audit_events(ListAuditEventsRequest::default()).await.expect("it may");
    let request = update("auditor", "", &["introspect"]);
    root.admin().update_caller(request).await.expect("it is changed");
    let refused = auditor.admin().list_audit_events(ListAuditEventsRequest::default()).await;
    assert_eq!(code(refused), Code::PermissionDenied);
}

async fn rotating_a_caller_replaces_its_token(h: Harness) {
    let root = h.root().await;
    let gateway = h.gateway().await;
    gateway.introspect("x", "", &[]).await;
    let rotated =
        root.admin().rotate_caller(at_once("gateway")).await.expect("a token").into_inner();
    let caller = rotated.caller.expect("a caller");
    assert!(rotated.token.starts_with("sophic_svc_"));
    assert_eq!(caller.name, "gateway");
    let refused =
        gateway.auth().introspect(sophic_auth::grpc::pb::IntrospectRequest::default()).await;
    assert_eq!(code(refused), Code::Unauthenticated);
    h.with_token(&rotated.token).introspect("x", "", &[]).await;
    let callers = root.admin().list_callers(ListCallersRequest::default()).await.expect("a page");
    let listed = callers.into_inner().callers.into_iter().find(|listed| listed.id == caller.id);
    assert_eq!(listed.expect("it is listed").hint, caller.hint);
    assert_eq!(of_action(&root, "caller.rotate").await.len(), 1);
}

async fn no_caller_gains_permissions_through_another_caller(h: Harness) {
    h.root().await;
    h.gateway().await;
    let clerk = h.caller("clerk", &[Permission::CallersAdmin]).await;
    let more = clerk.admin().update_caller(update("gateway", "", &["audit.read"])).await;
    assert_eq!(code(more), Code::PermissionDenied);
    let own =
        clerk.admin().update_caller(update("clerk", "", &["callers.admin", "introspect"])).await;
    assert_eq!(code(own), Code::PermissionDenied);
    // Its new token would have the permissions of root.
    assert_eq!(code(clerk.admin().rotate_caller(rotate("root")).await), Code::PermissionDenied);
    clerk.admin().rotate_caller(rotate("clerk")).await.expect("its own it may");
}

async fn a_revoked_caller_is_found_only_by_its_id(h: Harness) {
    let root = h.root().await;
    h.gateway().await;
    let revoke = |caller: &str| RevokeCallerRequest { caller: caller.to_owned() };
    let revoked = root.admin().revoke_caller(revoke("gateway")).await.expect("it is revoked");
    let revoked = revoked.into_inner().caller.expect("a caller");
    assert_eq!(code(root.admin().revoke_caller(revoke("gateway")).await), Code::NotFound);
    let again = root.admin().revoke_caller(revoke(&revoked.id)).await.expect("it stays so");
    assert_eq!(again.into_inner().caller, Some(revoked));
    h.gateway().await;
    root.admin().revoke_caller(revoke("gateway")).await.expect("it is the new one");
}

async fn a_revoked_caller_and_one_with_a_certificate_are_not_rotated(h: Harness) {
    let root = h.root().await;
    h.gateway().await;
    let revoke = RevokeCallerRequest { caller: "gateway".to_owned() };
    let revoked = root.admin().revoke_caller(revoke).await.expect("it is revoked").into_inner();
    let id = revoked.caller.expect("a caller").id;
    assert_eq!(code(root.admin().rotate_caller(rotate(&id)).await), Code::FailedPrecondition);
    assert_eq!(code(root.admin().rotate_caller(rotate("gateway")).await), Code::NotFound);
    let update = update(&id, "", &["introspect"]);
    assert_eq!(code(root.admin().update_caller(update).await), Code::FailedPrecondition);
    let known = CreateCallerRequest {
        name: "mesh".to_owned(),
        permissions: vec!["introspect".to_owned()],
        certificate_san: "spiffe://sophic/mesh".to_owned(),
        ..Default::default()
    };
    root.admin().create_caller(known).await.expect("it is made");
    assert_eq!(code(root.admin().rotate_caller(rotate("mesh")).await), Code::FailedPrecondition);
}

async fn a_callers_new_name_must_be_free_and_something_must_change(h: Harness) {
    let root = h.root().await;
    h.gateway().await;
    let taken = root.admin().update_caller(update("gateway", "root", &[])).await;
    assert_eq!(code(taken), Code::AlreadyExists);
    let nothing = root.admin().update_caller(update("gateway", "", &[])).await;
    assert_eq!(code(nothing), Code::InvalidArgument);
    let misspelled = root.admin().update_caller(update("gateway", "A b", &["fly"])).await;
    assert_eq!(code(misspelled), Code::InvalidArgument);
}
