//! Calls that change nothing are bounded in the audit log like refusals, for every RPC, and are still answered.

use sophic_auth::grpc::pb::{
    self, BulkRevokeRequest, DeleteMembershipRequest, DeleteUserRequest, DeleteWorkspaceRequest,
    DisableRequest, EnableRequest, LeakedToken, ListCallersRequest, PutMembershipRequest,
    PutUserRequest, PutWorkspaceRequest, RevokeCallerRequest, RevokeLeakedRequest, RevokeRequest,
    Role, Scope, UpdateCallerRequest, UpdateCredentialRequest, User, Workspace, WorkspacePolicy,
};
use sophic_auth::model::Permission;
use sophic_auth::store::AuditFilter;

use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    calls_that_change_nothing_are_bounded_in_the_log,
}

/// Calls each RPC that may change nothing, in an order in which a second round changes nothing.
async fn every_one(root: &Actor, key: &str, dead: &str, caller: &str) {
    let (auth, directory, admin) = (|| root.auth(), || root.directory(), || root.admin());
    let credential_id = || key.to_owned();
    let disable = DisableRequest { credential_id: credential_id(), ..Default::default() };
    auth().disable(disable.clone()).await.expect("it is off");
    auth().disable(disable).await.expect("it is off");
    let enable = EnableRequest { credential_id: credential_id(), ..Default::default() };
    auth().enable(enable.clone()).await.expect("it is on");
    auth().enable(enable).await.expect("it is on");
    let credential =
        pb::Credential { id: key.to_owned(), name: "same".into(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["name".to_owned()] });
    let update =
        UpdateCredentialRequest { credential: Some(credential), update_mask, ..Default::default() };
    auth().update_credential(update).await.expect("it is called so");
    for token in [dead, "nobody's"] {
        root.revoke_token(token).await;
        let tokens = vec![LeakedToken { token: token.to_owned(), ..Default::default() }];
        auth().revoke_leaked(RevokeLeakedRequest { tokens }).await.expect("it is dead");
    }
    for dry_run in [true, false] {
        let creator = "nobody".to_owned();
        let bulk = BulkRevokeRequest { creator, dry_run, ..Default::default() };
        auth().bulk_revoke(bulk).await.expect("there is nothing to end");
    }
    let (workspace, user) = ("acme".to_owned(), "ada".to_owned());
    let policy = Some(WorkspacePolicy { keys_max: Some(9), ..Default::default() });
    let put = Workspace { id: "id-of-acme".to_owned(), policy, ..Default::default() };
    let put = PutWorkspaceRequest { workspace: Some(put) };
    directory().put_workspace(put.clone()).await.expect("it is put");
    let requests = vec![put];
    directory()
        .batch_put_workspaces(pb::BatchPutWorkspacesRequest { requests })
        .await
        .expect("it is put");
    let ada = User { id: user.clone(), disabled: Some(false), ..Default::default() };
    directory().put_user(PutUserRequest { user: Some(ada) }).await.expect("she is put");
    let role = Role::Member.into();
    let put = PutMembershipRequest { workspace: workspace.clone(), user, role };
    directory().put_membership(put).await.expect("it is put");
    let (missing, allow_missing) = ("nobody".to_owned(), true);
    let delete = DeleteWorkspaceRequest { workspace: missing.clone(), allow_missing };
    directory().delete_workspace(delete).await.expect("there is none");
    let delete = DeleteUserRequest { user: missing.clone(), allow_missing };
    directory().delete_user(delete).await.expect("there is none");
    let delete = DeleteMembershipRequest { workspace, user: missing, allow_missing };
    directory().delete_membership(delete).await.expect("there is none");
    let revoke = RevokeCallerRequest { caller: caller.to_owned() };
    admin().revoke_caller(revoke).await.expect("it is dead");
    let update = UpdateCallerRequest {
        caller: "other".to_owned(),
        name: "other".to_owned(),
        permissions: Vec::new(),
        ..Default::default()
    };
    admin().update_caller(update).await.expect("it is called so");
}

async fn calls_that_change_nothing_are_bounded_in_the_log(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    h.caller("gone", &[Permission::Introspect]).await;
    h.caller("other", &[Permission::Introspect]).await;
    let key = root.create_key("acme", &[Scope::Read]).await.credential.expect("a key").id;
    let dead = root.create_key("acme", &[Scope::Read]).await;
    root.revoke_token(&dead.token).await;
    let callers = root.admin().list_callers(ListCallersRequest::default()).await.expect("a page");
    let callers = callers.into_inner().callers;
    // The name of a revoked caller is free.
    let gone = callers.iter().find(|caller| caller.name == "gone").expect("it is there").id.clone();
    let store = h.database.open().await;
    let events = async || {
        let filter = AuditFilter { caller: Some("root".to_owned()), ..Default::default() };
        store.list_audit_events(&filter, None, 1_000).await.expect("events")
    };
    every_one(&root, &key, &dead.token, &gone).await;
    let first = events().await.len();
    // Below the limit each call is in the log.
    every_one(&root, &key, &dead.token, &gone).await;
    assert!(events().await.len() > first + 20, "{first}");
    let dead_again = RevokeRequest {
        credential: Some(pb::revoke_request::Credential::Token(dead.token.clone())),
        ..Default::default()
    };
    for _ in 0..100 {
        root.auth().revoke(dead_again.clone()).await.expect("it is dead");
    }
    let full = events().await;
    every_one(&root, &key, &dead.token, &gone).await;
    let after = events().await;
    let (known, new): (Vec<_>, Vec<_>) = after.iter().partition(|event| full.contains(event));
    assert_eq!(known.len(), full.len());
    let new: Vec<_> = new.iter().map(|event| &*event.action).collect();
    // Disabling and enabling it did change something.
    let switched = |action: &&str| ["credential.disable", "credential.enable"].contains(action);
    let (switches, others): (Vec<&str>, Vec<&str>) = new.into_iter().partition(switched);
    // A minute that passed in between allows one more event.
    assert!((2..=3).contains(&switches.len()) && others.len() <= 1, "{switches:?} {others:?}");
    let update_time = |workspace: pb::Workspace| workspace.update_time;
    let was = update_time(root.put_workspace("acme").await);
    assert_eq!(update_time(root.put_workspace("acme").await), was, "it was not changed");
}
