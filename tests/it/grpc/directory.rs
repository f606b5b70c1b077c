//! Workspaces, users and memberships through their RPCs, and the effect of changes on credentials.

use sophic_auth::grpc::pb::{
    CredentialState, DeleteMembershipRequest, DeleteUserRequest, DeleteWorkspaceRequest, Denial,
    GetMembershipRequest, GetUserRequest, GetWorkspaceRequest, ListCredentialsRequest,
    ListMembershipsRequest, ListUsersRequest, ListWorkspacesRequest, PutMembershipRequest,
    PutUserRequest, PutWorkspaceRequest, Role, Scope, User, Workspace,
};
use tonic::{Code, Status};

use super::refusal::refused;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_workspace_can_be_put_read_listed_and_deleted,
    a_user_can_be_put_read_listed_and_deleted,
    a_membership_can_be_put_read_listed_and_deleted,
    ids_and_slugs_share_one_namespace,
    a_released_slug_does_not_resolve_and_is_reserved_for_its_owner,
    deleting_a_workspace_revokes_its_keys_and_a_later_put_starts_with_none,
    deleting_a_user_revokes_their_pats_and_a_later_put_starts_with_none,
    a_membership_that_is_lowered_or_removed_takes_effect_at_once,
    deleting_an_absent_entity_is_an_error_unless_it_may_be_missing,
    absent_entities_are_not_found,
}

async fn put(root: &Actor, id: &str, slug: &str) -> Result<Workspace, Status> {
    let workspace = Workspace {
        id: id.to_owned(),
        slug: slug.to_owned(),
        display_name: format!("Workspace {slug}"),
        ..Default::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(workspace) };
    let response = root.directory().put_workspace(request).await?;
    Ok(response.into_inner().workspace.expect("it is given"))
}

async fn get(root: &Actor, name: &str) -> Result<Workspace, Status> {
    let request = GetWorkspaceRequest { workspace: name.to_owned() };
    let response = root.directory().get_workspace(request).await?;
    Ok(response.into_inner().workspace.expect("it is given"))
}

async fn delete(root: &Actor, name: &str) {
    let request = DeleteWorkspaceRequest { workspace: name.to_owned(), allow_missing: false };
    root.directory().delete_workspace(request).await.expect("it is deleted");
}

async fn delete_user(root: &Actor, id: &str) {
    let request = DeleteUserRequest { user: id.to_owned(), allow_missing: false };
    root.directory().delete_user(request).await.expect("they are deleted");
}

async fn a_workspace_can_be_put_read_listed_and_deleted(h: Harness) {
    let root = h.root().await;
    let made = put(&root, "w1", "acme").await.expect("it is put");
    assert_eq!(made.create_time, made.update_time);
    assert_eq!(get(&root, "acme").await.expect("by slug"), made);
    assert_eq!(get(&root, "w1").await.expect("by id"), made);
    let again = put(&root, "w1", "acme").await.expect("a second time");
    assert_eq!(again.create_time, made.create_time);
    put(&root, "w0", "first").await.expect("it is put");
    let list = root.directory().list_workspaces(ListWorkspacesRequest::default()).await;
    let list = list.expect("a page").into_inner();
    let ids: Vec<_> = list.workspaces.iter().map(|workspace| workspace.id.as_str()).collect();
    assert_eq!((ids, list.next_page_token.as_str()), (vec!["w0", "w1"], ""));
    delete(&root, "acme").await;
    let absent = (Code::NotFound, "WORKSPACE_NOT_FOUND".to_owned());
    assert_eq!(refused(get(&root, "acme").await), absent);
    assert_eq!(refused(get(&root, "w1").await), absent);
    let list = root.directory().list_workspaces(ListWorkspacesRequest::default()).await;
    assert_eq!(list.expect("a page").into_inner().workspaces.len(), 1);
}

async fn a_user_can_be_put_read_listed_and_deleted(h: Harness) {
    let root = h.root().await;
    let ada = root.put_user("ada").await;
    let get = async || {
        let request = GetUserRequest { user: "ada".to_owned() };
        root.directory().get_user(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(get().await.expect("they are there").user, Some(ada.clone()));
    let changed = User { display_name: "Ada King".to_owned(), disabled: Some(true), ..ada.clone() };
    let request = PutUserRequest { user: Some(changed) };
    let changed = root.directory().put_user(request).await.expect("they are put").into_inner();
    let changed = changed.user.expect("given");
    assert_eq!((changed.create_time, changed.disabled), (ada.create_time, Some(true)));
    let list = root.directory().list_users(ListUsersRequest::default()).await.expect("a page");
    assert_eq!(list.into_inner().users, [changed]);
    delete_user(&root, "ada").await;
    assert_eq!(refused(get().await), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
    let list = root.directory().list_users(ListUsersRequest::default()).await.expect("a page");
    assert!(list.into_inner().users.is_empty());
}

async fn a_membership_can_be_put_read_listed_and_deleted(h: Harness) {
    let root = h.root().await;
    put(&root, "w1", "acme").await.expect("it is put");
    root.put_user("ada").await;
    root.put_user("bob").await;
    root.put_membership("acme", "ada", Role::Viewer).await;
    root.put_membership("w1", "bob", Role::Owner).await;
    let get = async |user: &str| {
        let request = GetMembershipRequest { workspace: "acme".to_owned(), user: user.to_owned() };
        let response = root.directory().get_membership(request).await?;
        Ok::<_, Status>(response.into_inner().membership.expect("it is given"))
    };
    let ada = get("ada").await.expect("she is a member");
    assert_eq!((ada.workspace_id.as_str(), ada.role()), ("w1", Role::Viewer));
    root.put_membership("acme", "ada", Role::Admin).await;
    let raised = get("ada").await.expect("she is a member");
    assert_eq!((raised.role(), raised.create_time), (Role::Admin, ada.create_time));
    let list = async |workspace: &str, user: &str| {
        let request = ListMembershipsRequest {
            workspace: workspace.to_owned(),
            user: user.to_owned(),
            ..Default::default()
        };
        let response = root.directory().list_memberships(request).await.expect("a page");
        let users = response.into_inner().memberships.into_iter();
        users.map(|membership| membership.user_id).collect::<Vec<_>>()
    };
    assert_eq!(list("acme", "").await, ["ada", "bob"]);
    assert_eq!(list("", "bob").await, ["bob"]);
    assert_eq!(list("w1", "ada").await, ["ada"]);
    let request = DeleteMembershipRequest {
        workspace: "acme".to_owned(),
        user: "ada".to_owned(),
        allow_missing: false,
    };
    root.directory().delete_membership(request).await.expect("it is deleted");
    assert_eq!(refused(get("ada").await), (Code::NotFound, "MEMBERSHIP_NOT_FOUND".to_owned()));
    assert_eq!(list("acme", "").await, ["bob"]);
    let missing = |workspace: &str, user: &str| PutMembershipRequest {
        workspace: workspace.to_owned(),
        user: user.to_owned(),
        role: Role::Viewer.into(),
    };
    let outcome = root.directory().put_membership(missing("nowhere", "ada")).await;
    assert_eq!(refused(outcome), (Code::NotFound, "WORKSPACE_NOT_FOUND".to_owned()));
    let outcome = root.directory().put_membership(missing("acme", "nobody")).await;
    assert_eq!(refused(outcome), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
}

async fn ids_and_slugs_share_one_namespace(h: Harness) {
    let root = h.root().await;
    put(&root, "first-id", "first-slug").await.expect("it is put");
    let slug_taken = (Code::AlreadyExists, "SLUG_TAKEN".to_owned());
    let id_taken = (Code::AlreadyExists, "WORKSPACE_ID_TAKEN".to_owned());
    assert_eq!(refused(put(&root, "x", "first-slug").await), slug_taken);
    assert_eq!(refused(put(&root, "x", "first-id").await), slug_taken);
    assert_eq!(refused(put(&root, "first-slug", "other").await), id_taken);
    // The slug and the id of one workspace may be equal.
    put(&root, "same", "same").await.expect("it is put");
    put(&root, "first-id", "first-id").await.expect("its own id as its slug");
    assert_eq!(get(&root, "first-id").await.expect("it is there").slug, "first-id");
    // The id of a deleted workspace stays taken.
    delete(&root, "same").await;
    assert_eq!(refused(put(&root, "x", "same").await), slug_taken);
    put(&root, "same", "again").await.expect("it is put again");
}

async fn a_released_slug_does_not_resolve_and_is_reserved_for_its_owner(h: Harness) {
    let root = h.root().await;
    put(&root, "w1", "old").await.expect("it is put");
    root.put_user("ada").await;
    root.put_membership("w1", "ada", Role::Member).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    assert!(root.introspect(&pat, "old", &[Scope::Read]).await.allowed);
    put(&root, "w1", "new").await.expect("it is renamed");
    assert_eq!(refused(get(&root, "old").await).0, Code::NotFound);
    let answer = root.introspect(&pat, "old", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::NotAMember);
    assert!(root.introspect(&pat, "new", &[Scope::Read]).await.allowed);
    // No other workspace may use it, neither as a slug nor as an id.
    let slug_taken = (Code::AlreadyExists, "SLUG_TAKEN".to_owned());
    let id_taken = (Code::AlreadyExists, "WORKSPACE_ID_TAKEN".to_owned());
    assert_eq!(refused(put(&root, "w2", "old").await), slug_taken);
    assert_eq!(refused(put(&root, "old", "other").await), id_taken);
    put(&root, "w1", "old").await.expect("its owner takes it back");
    assert_eq!(refused(put(&root, "w2", "new").await), slug_taken);
    delete(&root, "old").await;
    assert_eq!(refused(put(&root, "w2", "old").await), slug_taken);
    assert_eq!(refused(put(&root, "w2", "new").await), slug_taken);
    put(&root, "w1", "old").await.expect("its owner takes it back from the dead");
}

async fn deleting_a_workspace_revokes_its_keys_and_a_later_put_starts_with_none(h: Harness) {
    let root = h.root().await;
    put(&root, "w1", "acme").await.expect("it is put");
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    delete(&root, "w1").await;
    let answer = root.introspect(&key.token, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenRevoked);
    let answer = root.introspect(&pat, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::NotAMember);
    put(&root, "w1", "acme").await.expect("it is put again");
    let answer = root.introspect(&key.token, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenRevoked);
    let answer = root.introspect(&pat, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::NotAMember);
    // Revoked keys stay in the list, and new ones are active.
    let request = ListCredentialsRequest {
        workspace: "acme".to_owned(),
        state: CredentialState::Revoked.into(),
        ..Default::default()
    };
    let dead = root.auth().list_credentials(request).await.expect("a page").into_inner();
    let id = key.credential.expect("it is given").id;
    assert_eq!(dead.credentials.iter().map(|one| &one.id).collect::<Vec<_>>(), [&id]);
    assert!(dead.credentials[0].revoke_time.is_some());
    let fresh = root.create_key("acme", &[Scope::Read]).await.token;
    assert!(root.introspect(&fresh, "acme", &[Scope::Read]).await.allowed);
}

async fn deleting_a_user_revokes_their_pats_and_a_later_put_starts_with_none(h: Harness) {
    let root = h.root().await;
    put(&root, "w1", "acme").await.expect("it is put");
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    delete_user(&root, "ada").await;
    let answer = root.introspect(&pat, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenRevoked);
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Owner).await;
    let answer = root.introspect(&pat, "acme", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenRevoked);
    let fresh = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    assert!(root.introspect(&fresh, "acme", &[Scope::Read]).await.allowed);
}

async fn a_membership_that_is_lowered_or_removed_takes_effect_at_once(h: Harness) {
    let root = h.root().await;
    put(&root, "w1", "acme").await.expect("it is put");
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let pat = root.create_pat("ada", &[Scope::Read, Scope::Capture], Role::Owner).await.token;
    let ask = async || root.introspect(&pat, "acme", &[Scope::Capture]).await;
    assert!(ask().await.allowed);
    root.put_membership("acme", "ada", Role::Viewer).await;
    assert_eq!(ask().await.denial(), Denial::InsufficientScope);
    root.put_membership("acme", "ada", Role::Admin).await;
    assert!(ask().await.allowed);
    let request = DeleteMembershipRequest {
        workspace: "acme".to_owned(),
        user: "ada".to_owned(),
        allow_missing: false,
    };
    root.directory().delete_membership(request).await.expect("it is deleted");
    assert_eq!(ask().await.denial(), Denial::NotAMember);
}

async fn deleting_an_absent_entity_is_an_error_unless_it_may_be_missing(h: Harness) {
    let root = h.root().await;
    put(&root, "w1", "acme").await.expect("it is put");
    for allow_missing in [false, true] {
        let request = DeleteWorkspaceRequest { workspace: "x".to_owned(), allow_missing };
        let workspace = root.directory().delete_workspace(request).await.map(drop);
        let request = DeleteUserRequest { user: "x".to_owned(), allow_missing };
        let user = root.directory().delete_user(request).await.map(drop);
        let request = |workspace: &str| DeleteMembershipRequest {
            workspace: workspace.to_owned(),
            user: "x".to_owned(),
            allow_missing,
        };
        let membership = root.directory().delete_membership(request("acme")).await.map(drop);
        let nowhere = root.directory().delete_membership(request("x")).await.map(drop);
        let outcomes = [
            (workspace, "WORKSPACE_NOT_FOUND"),
            (user, "USER_NOT_FOUND"),
            (membership, "MEMBERSHIP_NOT_FOUND"),
            (nowhere, "WORKSPACE_NOT_FOUND"),
        ];
        for (outcome, reason) in outcomes {
            if allow_missing {
                outcome.expect("it may be missing");
            } else {
                assert_eq!(refused(outcome), (Code::NotFound, reason.to_owned()));
            }
        }
    }
}

async fn absent_entities_are_not_found(h: Harness) {
    let root = h.root().await;
    let request = GetUserRequest { user: "nobody".to_owned() };
    let outcome = root.directory().get_user(request).await;
    assert_eq!(refused(outcome), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
    let request =
        GetMembershipRequest { workspace: "nowhere".to_owned(), user: "nobody".to_owned() };
    let outcome = root.directory().get_membership(request).await;
    assert_eq!(refused(outcome), (Code::NotFound, "WORKSPACE_NOT_FOUND".to_owned()));
    let request = ListMembershipsRequest { workspace: "nowhere".to_owned(), ..Default::default() };
    let outcome = root.directory().list_memberships(request).await;
    assert_eq!(refused(outcome), (Code::NotFound, "WORKSPACE_NOT_FOUND".to_owned()));
}
