//! Puts change only fields that are set, can swap slugs in one call, and name the workspace of a taken slug.

use std::collections::HashMap;

use sophic_auth::grpc::pb::{
    self, BatchPutWorkspacesRequest, Denial, PutUserRequest, PutWorkspaceRequest, Role, Scope,
    User, Workspace,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::audit::of_action;
use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_put_changes_only_what_it_names,
    enabling_must_be_explicit,
    a_new_entity_needs_its_names,
    two_workspaces_swap_their_slugs_in_one_call,
    a_batch_of_puts_succeeds_or_fails_as_a_whole,
    a_taken_slug_names_its_workspace_if_the_caller_may_know,
}

fn of(id: &str) -> Workspace {
    Workspace { id: id.to_owned(), ..Default::default() }
}

fn named(id: &str, slug: &str) -> Workspace {
    let (slug, display_name) = (slug.to_owned(), id.to_owned());
    Workspace { slug, display_name, ..of(id) }
}

async fn put(actor: &Actor, workspace: Workspace) -> Result<Workspace, Status> {
    let request = PutWorkspaceRequest { workspace: Some(workspace) };
    let response = actor.directory().put_workspace(request).await?;
    Ok(response.into_inner().workspace.expect("it is given"))
}

async fn put_user(actor: &Actor, user: User) -> Result<User, Status> {
    let response = actor.directory().put_user(PutUserRequest { user: Some(user) }).await?;
    Ok(response.into_inner().user.expect("they are given"))
}

/// Exchanges the slugs of two workspaces whose ids are made from their first slugs.
pub(super) async fn swap_slugs(root: &Actor, one: &str, other: &str) {
    let of = |id: &str, slug: &str| Workspace {
        id: format!("id-of-{id}"),
        slug: slug.to_owned(),
        ..Default::default()
    };
    put_all(root, &[of(one, other), of(other, one)]).await.expect("they are exchanged");
}

async fn put_all(actor: &Actor, workspaces: &[Workspace]) -> Result<Vec<Workspace>, Status> {
    let put = |workspace: &Workspace| PutWorkspaceRequest { workspace: Some(workspace.clone()) };
    let requests = workspaces.iter().map(put).collect();
    let response =
        actor.directory().batch_put_workspaces(BatchPutWorkspacesRequest { requests }).await?;
    Ok(response.into_inner().workspaces)
}

async fn a_put_changes_only_what_it_names(h: Harness) {
    let root = h.root().await;
    let policy = Some(pb::WorkspacePolicy { keys_max: Some(9), ..Default::default() });
    let whole = Workspace { disabled: Some(true), policy, ..named("w1", "acme") };
    let whole = put(&root, whole).await.expect("it is put");
    let same = |put: &Workspace| Workspace { update_time: whole.update_time, ..put.clone() };
    let nothing = put(&root, of("w1")).await.expect("nothing is changed");
    assert_eq!(same(&nothing), whole);
    let renamed = Workspace { display_name: "Acme Inc".to_owned(), ..of("w1") };
    let renamed = put(&root, renamed).await.expect("it is renamed");
    assert_eq!(same(&renamed), Workspace { display_name: "Acme Inc".to_owned(), ..whole.clone() });
    let moved = put(&root, Workspace { slug: "acme-inc".to_owned(), ..of("w1") }).await;
    let moved = moved.expect("it has another slug");
    assert_eq!(same(&moved), Workspace { slug: "acme-inc".to_owned(), ..same(&renamed) });

    let bob = User { id: "bob".to_owned(), display_name: "Bob".to_owned(), ..Default::default() };
    put_user(&root, User { disabled: Some(true), ..bob.clone() }).await.expect("he is put");
    let robert = User { display_name: "Robert".to_owned(), ..bob.clone() };
    let robert = put_user(&root, robert).await.expect("he is renamed");
    assert_eq!(robert.disabled, Some(true));
    let id = User { display_name: String::new(), ..bob };
    let still = put_user(&root, id).await.expect("nothing is changed");
    assert_eq!((&*still.display_name, still.disabled), ("Robert", Some(true)));
    assert_eq!(still.create_time, robert.create_time);
}

async fn enabling_must_be_explicit(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Member).await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await.token;
    let ada = User { id: "ada".to_owned(), ..Default::default() };
    for (disabled, refused) in [(Some(true), true), (None, true), (Some(false), false)] {
        put(&root, Workspace { disabled, ..of("id-of-acme") }).await.expect("it is put");
        put_user(&root, User { disabled, ..ada.clone() }).await.expect("she is put");
        for token in [&key, &pat] {
            let answer = root.introspect(token, "acme", &[Scope::Read]).await;
            let denial = if refused { Denial::PrincipalDisabled } else { Denial::Unspecified };
            assert_eq!(answer.denial(), denial, "{disabled:?}");
        }
    }
}

async fn a_new_entity_needs_its_names(h: Harness) {
    let root = h.root().await;
    assert_eq!(fields(put(&root, of("w1")).await), ["workspace.slug", "workspace.display_name"]);
    let nobody = User { id: "bob".to_owned(), ..Default::default() };
    assert_eq!(fields(put_user(&root, nobody.clone()).await), ["user.display_name"]);
    // A deleted workspace starts afresh.
    put(&root, named("w1", "acme")).await.expect("it is put");
    root.delete_workspace("acme").await;
    assert_eq!(fields(put(&root, of("w1")).await).len(), 2);
    root.put_user("bob").await;
    root.delete_user("bob").await;
    assert_eq!(fields(put_user(&root, nobody).await), ["user.display_name"]);
}

async fn two_workspaces_swap_their_slugs_in_one_call(h: Harness) {
    let root = h.root().await;
    let other = h.another(|_| {}).await;
    put(&root, named("w1", "blue")).await.expect("it is put");
    put(&root, named("w2", "green")).await.expect("it is put");
    let key = root.create_key("blue", &[Scope::Read]).await.token;
    for server in [&h, &other] {
        assert!(root.via(server).introspect(&key, "blue", &[]).await.allowed);
    }
    let slug = |id: &str, slug: &str| Workspace { slug: slug.to_owned(), ..of(id) };
    let swap = [slug("w1", "green"), slug("w2", "blue")];
    // A retry changes nothing.
    for _ in 0..2 {
        let swapped = put_all(&root, &swap).await.expect("they are put");
        let found: Vec<_> = swapped.iter().map(|one| (&*one.id, &*one.slug)).collect();
        assert_eq!(found, [("w1", "green"), ("w2", "blue")]);
        assert_eq!(swapped[0].display_name, "w1");
    }
    for server in [&h, &other] {
        let root = root.via(server);
        assert!(root.introspect(&key, "green", &[]).await.allowed);
        let denial = root.introspect(&key, "blue", &[]).await.denial();
        assert_eq!(denial, Denial::WorkspaceMismatch);
    }
    let events = of_action(&root, "workspace.put").await;
    let targets: Vec<_> = events[2..].iter().map(|event| &*event.target_id).collect();
    assert_eq!(targets, ["w1", "w2", "w1", "w2"]);
    // Neither slug is left reserved: a third workspace can take part in a ring of three.
    put(&root, named("w3", "red")).await.expect("it is put");
    let ring = [slug("w1", "blue"), slug("w2", "red"), slug("w3", "green")];
    put_all(&root, &ring).await.expect("they are put");
    put(&root, slug("w3", "grey")).await.expect("it is renamed");
    let taken = (Code::AlreadyExists, "SLUG_TAKEN".to_owned());
    assert_eq!(refused(put(&root, slug("w1", "green")).await), taken);
    other.running.stop().await;
}

async fn a_batch_of_puts_succeeds_or_fails_as_a_whole(h: Harness) {
    let root = h.root().await;
    put(&root, named("w1", "blue")).await.expect("it is put");
    let revision = h.running.service.revision().await.expect("a revision");
    let taken = (Code::AlreadyExists, "SLUG_TAKEN".to_owned());
    let stays = [named("w2", "green"), named("w3", "blue")];
    assert_eq!(refused(put_all(&root, &stays).await), taken, "w1 is not there to give it up");
    let id = [named("abc", "green"), named("w3", "abc")];
    assert_eq!(refused(put_all(&root, &id).await), taken, "a slug that is an id of the call");
    let twice = [named("w2", "green"), named("w3", "green")];
    assert_eq!(fields(put_all(&root, &twice).await), ["requests[1].workspace.slug"]);
    let twice = [named("w2", "green"), named("w2", "red")];
    assert_eq!(fields(put_all(&root, &twice).await), ["requests[1].workspace.id"]);
    let wrong = [named("w2", "green"), named("w 3", "Red")];
    let both = ["requests[1].workspace.id", "requests[1].workspace.slug"];
    assert_eq!(fields(put_all(&root, &wrong).await)[..2], both);
    assert_eq!(fields(put_all(&root, &[]).await), ["requests"]);
    assert_eq!(h.running.service.revision().await.expect("a revision"), revision);
}

async fn a_taken_slug_names_its_workspace_if_the_caller_may_know(h: Harness) {
    let root = h.root().await;
    let writer = h.caller("writer", &[Permission::DirectoryWrite]).await;
    for (id, slug) in [("w1", "gone"), ("w2", "old"), ("w2", "new")] {
        put(&root, named(id, slug)).await.expect("it is put");
    }
    root.delete_workspace("gone").await;
    let metadata = async |actor: &Actor, slug: &str| {
        let status = put(actor, named("w9", slug)).await.expect_err("it is taken");
        let info = status.get_details_error_info().expect("a reason");
        assert_eq!(info.reason, "SLUG_TAKEN");
        (info.metadata, status.message().to_owned())
    };
    for (slug, id) in [("gone", "w1"), ("old", "w2")] {
        let (known, message) = metadata(&root, slug).await;
        assert_eq!(known["reclaimed_by_id"], id);
        let until = &known["reserved_until"];
        assert!(until.ends_with('Z') && message.contains(until), "{message}");
        assert_eq!(metadata(&writer, slug).await.0, HashMap::new());
    }
    let (known, _) = metadata(&root, "new").await;
    assert_eq!(known, HashMap::from([("held_by_id".to_owned(), "w2".to_owned())]));
    assert_eq!(metadata(&writer, "new").await.0, HashMap::new());
    put(&root, named("w1", "gone")).await.expect("its id reclaims it");
}
