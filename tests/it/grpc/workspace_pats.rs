//! The personal access tokens that have acted in a workspace: its owners see them, and can bar them.

use sophic_auth::grpc::pb::{
    self, BarPatRequest, CredentialState, Denial, ListAuditEventsRequest, ListWorkspacePatsRequest,
    Role, RotateRequest, Scope, UnbarPatRequest, WorkspacePat,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};

use super::refusal::reason;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;

on_every_store! {
    tokens_that_acted_in_a_workspace_are_listed_by_their_latest_use_there,
    the_listed_role_is_what_the_token_may_exercise_now,
    a_bar_denies_the_token_there_at_every_server_and_nowhere_else,
    a_bar_covers_the_successors_of_a_token,
    a_rotation_at_the_same_time_does_not_escape_a_bar,
    only_a_token_that_has_acted_in_the_workspace_can_be_barred,
    only_owners_and_callers_with_the_right_see_and_bar_tokens,
    a_bar_is_refused_while_a_replica_would_ignore_it,
    a_bar_and_its_removal_are_recorded_with_the_workspace,
    a_bar_ends_with_the_generation_of_the_workspace,
}

/// Olga owns acme, and Ada is a member of acme and globex.
async fn world(h: &Harness) -> Actor {
    let root = h.root().await;
    for workspace in ["acme", "globex"] {
        root.put_workspace(workspace).await;
    }
    for (user, role) in [("olga", Role::Owner), ("ada", Role::Member)] {
        root.put_user(user).await;
        root.put_membership("acme", user, role).await;
    }
    root.put_membership("globex", "ada", Role::Member).await;
    root
}

/// Creates a token of Ada. Returns its id and the token.
async fn pat_of_ada(root: &Actor) -> (String, String) {
    let made = root.create_pat("ada", &[Scope::Read], Role::Owner).await;
    (made.credential.expect("a credential").id, made.token)
}

async fn denial(actor: &Actor, token: &str, workspace: &str) -> Denial {
    actor.introspect(token, workspace, &[Scope::Read]).await.denial()
}

/// Uses the token in the workspace, and writes the use.
async fn act(h: &Harness, root: &Actor, token: &str, workspace: &str) {
    assert_eq!(denial(root, token, workspace).await, Denial::Unspecified);
    h.running.service.flush_last_uses().await;
}

async fn list(actor: &Actor, workspace: &str, user: &str) -> Result<Vec<WorkspacePat>, Status> {
    let (workspace, acting_user) = (workspace.to_owned(), user.to_owned());
    let request = ListWorkspacePatsRequest { workspace, acting_user, ..Default::default() };
    Ok(actor.auth().list_workspace_pats(request).await?.into_inner().pats)
}

async fn bar(actor: &Actor, workspace: &str, id: &str, user: &str) -> Result<WorkspacePat, Status> {
    let request = BarPatRequest {
        workspace: workspace.to_owned(),
        credential_id: id.to_owned(),
        acting_user: user.to_owned(),
        reason: "seen elsewhere".to_owned(),
    };
    Ok(actor.auth().bar_pat(request).await?.into_inner().pat.expect("it is given"))
}

async fn unbar(actor: &Actor, id: &str, user: &str) -> Result<WorkspacePat, Status> {
    let request = UnbarPatRequest {
        workspace: "acme".to_owned(),
        credential_id: id.to_owned(),
        acting_user: user.to_owned(),
        reason: String::new(),
    };
    Ok(actor.auth().unbar_pat(request).await?.into_inner().pat.expect("it is given"))
}

async fn rotate(root: &Actor, id: &str) -> Result<pb::RotateResponse, Status> {
    let request = RotateRequest { credential_id: id.to_owned(), ..Default::default() };
    Ok(root.auth().rotate(request).await?.into_inner())
}

fn ids(pats: &[WorkspacePat]) -> Vec<&str> {
    pats.iter().map(|pat| pat.credential_id.as_str()).collect()
}

async fn tokens_that_acted_in_a_workspace_are_listed_by_their_latest_use_there(h: Harness) {
    let root = world(&h).await;
    let (first, first_token) = pat_of_ada(&root).await;
    let (second, second_token) = pat_of_ada(&root).await;
    let (_, denied) = pat_of_ada(&root).await;
    // One token in two workspaces between two flushes.
    assert_eq!(denial(&root, &first_token, "globex").await, Denial::Unspecified);
    act(&h, &root, &first_token, "acme").await;
    assert!(!root.introspect(&denied, "acme", &[Scope::Admin]).await.allowed);
    act(&h, &root, &second_token, "acme").await;
    let pats = list(&root, "acme", "olga").await.expect("a page");
    assert_eq!(ids(&pats), [second.as_str(), first.as_str()]);
    let pat = &pats[0];
    assert_eq!((pat.user_id.as_str(), pat.user_display_name.as_str()), ("ada", "User ada"));
    assert!(pat.hint.starts_with("sophic_pat_"), "{pat:?}");
    let micros = |pat: &WorkspacePat| {
        pat.last_use_time.map(|time| (time.seconds, time.nanos)).expect("it was used")
    };
    assert!(micros(pat) > micros(&pats[1]));
    assert_eq!(
        (pat.role(), pat.barred, pat.state()),
        (Role::Member, false, CredentialState::Active)
    );
    assert_eq!(ids(&list(&root, "globex", "").await.expect("a page")), [first.as_str()]);
    act(&h, &root, &first_token, "acme").await;
    let mut page_token = String::new();
    for expected in [&first, &second] {
        let request = ListWorkspacePatsRequest {
            workspace: "id-of-acme".to_owned(),
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let page = root.auth().list_workspace_pats(request).await.expect("a page").into_inner();
        assert_eq!(ids(&page.pats), [expected.as_str()]);
        page_token = page.next_page_token;
    }
    assert_eq!(page_token, "");
}

async fn the_listed_role_is_what_the_token_may_exercise_now(h: Harness) {
    let root = world(&h).await;
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "acme").await;
    let role = async || {
        let pats = list(&root, "acme", "").await.expect("a page");
        assert_eq!(ids(&pats), [id.as_str()]);
        pats[0].role()
    };
    root.put_membership("acme", "ada", Role::Viewer).await;
    assert_eq!(role().await, Role::Viewer);
    let forbid = async |forbidden| {
        let pat_policy =
            Some(pb::PatPolicy { forbidden: Some(forbidden), ..pb::PatPolicy::default() });
        let id = "id-of-acme".to_owned();
        root.put(pb::Workspace { id, pat_policy, ..Default::default() }).await;
    };
    forbid(true).await;
    assert_eq!(role().await, Role::Unspecified);
    forbid(false).await;
    assert_eq!(role().await, Role::Viewer);
    let disabled = |disabled| pb::Workspace {
        id: "id-of-acme".to_owned(),
        disabled: Some(disabled),
        ..Default::default()
    };
    root.put(disabled(true)).await;
    assert_eq!(role().await, Role::Unspecified);
    root.put(disabled(false)).await;
    let disable = pb::DisableRequest { credential_id: id.clone(), ..Default::default() };
    root.auth().disable(disable).await.expect("it is disabled");
    assert_eq!(role().await, Role::Unspecified);
    let enable = pb::EnableRequest { credential_id: id.clone(), ..Default::default() };
    root.auth().enable(enable).await.expect("it is enabled");
    assert_eq!(role().await, Role::Viewer);
    root.delete_user("ada").await;
    assert_eq!(role().await, Role::Unspecified);
    let pats = list(&root, "acme", "olga").await.expect("a page");
    assert_eq!(pats[0].state(), CredentialState::Revoked);
    // Another person, whose name the owners have not seen.
    root.put_user("ada").await;
    let pats = list(&root, "acme", "olga").await.expect("a page");
    let shown = (pats[0].user_id.as_str(), pats[0].user_display_name.as_str(), pats[0].state());
    assert_eq!(shown, ("ada", "", CredentialState::Revoked));
}

async fn a_bar_denies_the_token_there_at_every_server_and_nowhere_else(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = world(&h).await;
    let there = root.via(&other);
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "acme").await;
    for _ in 0..5 {
        assert_eq!(denial(&there, &token, "acme").await, Denial::Unspecified);
        let barred = bar(&root, "acme", &id, "olga").await.expect("it is barred");
        assert!(barred.barred && barred.role() == Role::Unspecified, "{barred:?}");
        assert_eq!(denial(&there, &token, "acme").await, Denial::PatNotPermitted);
        assert_eq!(denial(&there, &token, "globex").await, Denial::Unspecified);
        let again = bar(&there, "acme", &id, "olga").await.expect("it is barred already");
        assert_eq!(again, barred);
        let admitted = unbar(&root, &id, "olga").await.expect("it is admitted");
        assert!(!admitted.barred && admitted.role() == Role::Member, "{admitted:?}");
        assert_eq!(unbar(&root, &id, "olga").await.expect("it is admitted"), admitted);
        h.wait_until_read_by(&other).await;
    }
}

async fn a_bar_covers_the_successors_of_a_token(h: Harness) {
    let root = world(&h).await;
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "acme").await;
    let early = rotate(&root, &id).await.expect("it is rotated");
    bar(&root, "acme", &id, "olga").await.expect("it is barred");
    assert_eq!(denial(&root, &early.token, "acme").await, Denial::PatNotPermitted);
    let early_id = early.credential.expect("a credential").id;
    let late = rotate(&root, &early_id).await.expect("it is rotated");
    assert_eq!(denial(&root, &late.token, "acme").await, Denial::PatNotPermitted);
    let late = late.credential.map(|late| (late.id, late.barred_workspace_ids));
    let (late_id, barred) = late.expect("a credential");
    assert_eq!(barred, ["id-of-acme"]);
    // What was barred as a successor can be named, although it has not acted there.
    unbar(&root, &late_id, "olga").await.expect("it is admitted");
    assert!(list(&root, "acme", "olga").await.expect("a page").iter().all(|pat| !pat.barred));
}

async fn a_rotation_at_the_same_time_does_not_escape_a_bar(h: Harness) {
    let root = world(&h).await;
    for _ in 0..10 {
        let (id, token) = pat_of_ada(&root).await;
        act(&h, &root, &token, "acme").await;
        let (rotated, barred) = tokio::join!(rotate(&root, &id), bar(&root, "acme", &id, "olga"));
        barred.expect("it is barred");
        let successor = rotated.expect("it is rotated").token;
        assert_eq!(denial(&root, &successor, "acme").await, Denial::PatNotPermitted);
    }
}

async fn only_a_token_that_has_acted_in_the_workspace_can_be_barred(h: Harness) {
    let root = world(&h).await;
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "globex").await;
    let key = root.create_key("acme", &[Scope::Read]).await.credential.expect("a credential").id;
    for id in [id.as_str(), key.as_str(), super::changing::NOBODY] {
        let refused = bar(&root, "acme", id, "olga").await.expect_err("it has not acted there");
        assert_eq!(reason(&refused), "CREDENTIAL_NOT_FOUND");
        let refused = unbar(&root, id, "olga").await.expect_err("it has not acted there");
        assert_eq!(reason(&refused), "CREDENTIAL_NOT_FOUND");
    }
    assert_eq!(denial(&root, &token, "globex").await, Denial::Unspecified);
}

async fn only_owners_and_callers_with_the_right_see_and_bar_tokens(h: Harness) {
    let root = world(&h).await;
    for (user, role) in [("adam", Role::Admin), ("vera", Role::Viewer)] {
        root.put_user(user).await;
        root.put_membership("acme", user, role).await;
    }
    root.put_user("stranger").await;
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "acme").await;
    let dashboard = h.caller("web", &[Permission::CredentialsWrite]).await;
    for (user, expected) in [
        ("adam", "ROLE_TOO_LOW"),
        ("ada", "ROLE_TOO_LOW"),
        ("vera", "ROLE_TOO_LOW"),
        ("stranger", "WORKSPACE_NOT_FOUND"),
        ("nobody", "ACTING_USER_NOT_ACTIVE"),
        ("", "ACTING_USER_REQUIRED"),
    ] {
        let refusals = [
            list(&dashboard, "acme", user).await.expect_err("refused"),
            bar(&dashboard, "acme", &id, user).await.expect_err("refused"),
            unbar(&dashboard, &id, user).await.expect_err("refused"),
        ];
        assert_eq!(refusals.map(|refused| reason(&refused)), [expected; 3], "{user}");
    }
    list(&dashboard, "acme", "olga").await.expect("a page");
    bar(&dashboard, "acme", &id, "olga").await.expect("it is barred");
    let reader = h.caller("reader", &[Permission::CredentialsRead]).await;
    assert_eq!(list(&reader, "acme", "").await.expect("a page").len(), 1);
    let refused = unbar(&reader, &id, "olga").await.expect_err("it may only read");
    assert_eq!(refused.code(), Code::PermissionDenied);
    unbar(&root, &id, "").await.expect("it is admitted");
    let unknown = list(&root, "unknown", "").await.expect_err("there is no such workspace");
    assert_eq!(reason(&unknown), "WORKSPACE_NOT_FOUND");
}

async fn a_bar_is_refused_while_a_replica_would_ignore_it(h: Harness) {
    let root = world(&h).await;
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "acme").await;
    raw::run(&h.database, "UPDATE replicas SET rules = 0").await;
    let refused = bar(&root, "acme", &id, "olga").await.expect_err("a replica is too old");
    assert_eq!(reason(&refused), "REPLICA_TOO_OLD");
    assert_eq!(denial(&root, &token, "acme").await, Denial::Unspecified);
    raw::run(&h.database, "UPDATE replicas SET rules = 1").await;
    bar(&root, "acme", &id, "olga").await.expect("it is barred");
}

async fn a_bar_and_its_removal_are_recorded_with_the_workspace(h: Harness) {
    let root = world(&h).await;
    let (id, token) = pat_of_ada(&root).await;
    let refused = bar(&root, "acme", &id, "olga").await;
    assert_eq!(reason(&refused.expect_err("it has not acted")), "CREDENTIAL_NOT_FOUND");
    act(&h, &root, &token, "acme").await;
    bar(&root, "acme", &id, "olga").await.expect("it is barred");
    unbar(&root, &id, "olga").await.expect("it is admitted");
    let request = ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
    let page = root.admin().list_audit_events(request).await.expect("a page").into_inner();
    let of_bars = page.events.iter().filter(|event| event.target_id == id);
    let of_bars: Vec<_> = of_bars.filter(|event| event.action.ends_with("bar")).collect();
    let actions: Vec<_> = of_bars.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["pat.bar", "pat.bar", "pat.unbar"]);
    assert_eq!(of_bars[0].refusal, "CREDENTIAL_NOT_FOUND");
    for (event, barred) in of_bars[1..].iter().zip([true, false]) {
        let view = |text: &str| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_str(text).expect("an object")
        };
        let (before, after) = (view(&event.before), view(&event.after));
        assert_eq!(after["workspace_id"], "id-of-acme", "{event:?}");
        assert_eq!((&before["barred"], &after["barred"]), (&(!barred).into(), &barred.into()));
        // The owners read it, and see no more of the token than in the list.
        let mut names: Vec<_> = after.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["barred", "create_time", "hint", "id", "user_id", "workspace_id"]);
        assert_eq!(event.acting_user, "olga");
    }
    assert_eq!(of_bars[1].reason, "seen elsewhere");
}

async fn a_bar_ends_with_the_generation_of_the_workspace(h: Harness) {
    let root = world(&h).await;
    let (id, token) = pat_of_ada(&root).await;
    act(&h, &root, &token, "acme").await;
    bar(&root, "acme", &id, "").await.expect("it is barred");
    root.delete_workspace("acme").await;
    root.put_workspace("acme").await;
    root.put_membership("acme", "ada", Role::Member).await;
    assert_eq!(list(&root, "acme", "").await.expect("a page"), []);
    assert_eq!(denial(&root, &token, "acme").await, Denial::Unspecified);
    act(&h, &root, &token, "acme").await;
    let pats = list(&root, "acme", "").await.expect("a page");
    assert_eq!((ids(&pats), pats[0].barred), (vec![id.as_str()], false));
}
