//! Personal access tokens that are limited to workspaces, and workspaces that govern the tokens that act in them.

use prost_types::{Duration, FieldMask};
use sophic_auth::grpc::pb::create_pat_request::Expiration;
use sophic_auth::grpc::pb::{
    CreateKeyRequest, CreatePatRequest, Credential, DeleteMembershipRequest,
    DeleteWorkspaceRequest, Denial, GetWorkspaceRequest, IntrospectRequest, PatPolicy,
    PutWorkspaceRequest, Role, RotateRequest, Scope, UpdateCredentialRequest, Workspace,
};
use tonic::Status;

use super::refusal::fields;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::store::rules::registration_of_0_1;
use crate::stores::on_every_store;

on_every_store! {
    a_limited_token_acts_only_in_the_workspaces_that_it_was_granted,
    a_token_is_limited_to_workspaces_of_its_user,
    a_limit_can_be_narrowed_and_never_widened,
    narrowing_does_not_tell_the_slug_of_a_workspace_whose_member_the_user_no_longer_is,
    a_token_without_a_limit_can_be_limited_later,
    a_key_cannot_be_limited,
    a_token_whose_last_workspace_was_deleted_acts_nowhere,
    a_denial_says_nothing_about_a_workspace_whose_member_the_user_is_not,
    a_limited_token_that_ended_with_its_user_keeps_no_earlier_release_away,
    a_successor_keeps_the_limit,
    a_narrowed_limit_is_known_at_every_server_when_the_update_returns,
    a_retry_with_the_same_limit_is_the_same_request,
    a_policy_for_tokens_applies_at_every_server_when_put_returns,
    a_policy_for_tokens_is_put_by_presence,
    a_policy_for_tokens_is_checked,
    a_policy_for_tokens_ends_with_its_workspace,
    the_user_sees_the_workspace_that_denies_their_token,
    an_answer_says_that_it_is_about_the_identity_only,
}

const DAY: i64 = 86_400;

/// Ada is an owner of acme and globex, and not a member of hooli.
async fn world(h: &Harness) -> Actor {
    let root = h.root().await;
    root.put_user("ada").await;
    for workspace in ["acme", "globex", "hooli"] {
        root.put_workspace(workspace).await;
    }
    for workspace in ["acme", "globex"] {
        root.put_membership(workspace, "ada", Role::Owner).await;
    }
    root
}

fn request(workspaces: &[&str]) -> CreatePatRequest {
    CreatePatRequest {
        user: "ada".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        workspaces: workspaces.iter().map(|name| (*name).to_owned()).collect(),
        ..CreatePatRequest::default()
    }
}

async fn create(root: &Actor, request: CreatePatRequest) -> Result<(Credential, String), Status> {
    let created = root.auth().create_pat(request).await?.into_inner();
    Ok((created.credential.expect("it is given"), created.token))
}

async fn limited(root: &Actor, workspaces: &[&str]) -> (Credential, String) {
    create(root, request(workspaces)).await.expect("a limited token")
}

async fn denial(root: &Actor, token: &str, workspace: &str) -> Denial {
    let answer = root.introspect(token, workspace, &[Scope::Read]).await;
    assert_eq!(answer.allowed, answer.denial() == Denial::Unspecified);
    answer.denial()
}

/// Returns the denials in acme, globex and hooli.
async fn denials(root: &Actor, token: &str) -> [Denial; 3] {
    [
        denial(root, token, "acme").await,
        denial(root, token, "globex").await,
        denial(root, token, "hooli").await,
    ]
}

async fn limit(root: &Actor, pat: &Credential, ids: &[&str]) -> Result<Credential, Status> {
    let request = UpdateCredentialRequest {
        credential: Some(Credential {
            id: pat.id.clone(),
            granted_workspace_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            ..Credential::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["granted_workspace_ids".to_owned()] }),
        acting_user: String::new(),
    };
    let updated = root.auth().update_credential(request).await?.into_inner();
    Ok(updated.credential.expect("it is given"))
}

/// Returns the workspace's id.
async fn id(root: &Actor, slug: &str) -> String {
    let request = GetWorkspaceRequest { workspace: slug.to_owned() };
    let found = root.directory().get_workspace(request).await.expect("it is there").into_inner();
    found.workspace.expect("it is given").id
}

async fn put_policy(root: &Actor, id: &str, policy: PatPolicy) -> Result<Workspace, Status> {
    let workspace =
        Workspace { id: id.to_owned(), pat_policy: Some(policy), ..Workspace::default() };
    let request = PutWorkspaceRequest { workspace: Some(workspace) };
    let put = root.directory().put_workspace(request).await?.into_inner();
    Ok(put.workspace.expect("it is given"))
}

async fn a_limited_token_acts_only_in_the_workspaces_that_it_was_granted(h: Harness) {
    let root = world(&h).await;
    let (pat, token) = limited(&root, &["acme"]).await;
    assert!(pat.limited);
    assert_eq!(pat.granted_workspace_ids, [id(&root, "acme").await]);
    let expected = [Denial::Unspecified, Denial::WorkspaceNotGranted, Denial::NotAMember];
    assert_eq!(denials(&root, &token).await, expected);
    let answer = root.introspect(&token, "globex", &[Scope::Read]).await;
    assert!(answer.active && answer.scopes.is_empty() && answer.role() == Role::Unspecified);
    assert_eq!(answer.http_status, 403);
    let (pat, token) = limited(&root, &[]).await;
    assert!(!pat.limited && pat.granted_workspace_ids.is_empty());
    assert_eq!(denial(&root, &token, "globex").await, Denial::Unspecified);
}

async fn a_token_is_limited_to_workspaces_of_its_user(h: Harness) {
    let root = world(&h).await;
    for wrong in ["hooli", "nowhere"] {
        let outcome = create(&root, request(&["acme", wrong])).await;
        assert_eq!(fields(outcome), ["workspaces[1]"], "{wrong}");
    }
    assert_eq!(fields(create(&root, request(&["not a name"])).await), ["workspaces[0]"]);
    let many = vec!["acme"; 65];
    assert_eq!(fields(create(&root, request(&many)).await), ["workspaces"]);
    // The same workspace by slug and by id is one.
    let by_id = id(&root, "acme").await;
    let (pat, _) = limited(&root, &["acme", &by_id]).await;
    assert_eq!(pat.granted_workspace_ids, [by_id]);
}

async fn a_limit_can_be_narrowed_and_never_widened(h: Harness) {
    let root = world(&h).await;
    let (acme, globex) = (id(&root, "acme").await, id(&root, "globex").await);
    let (pat, token) = limited(&root, &["acme", "globex"]).await;
    assert_eq!(fields(limit(&root, &pat, &[]).await), ["credential.granted_workspace_ids"]);
    let field = ["credential.granted_workspace_ids[1]"];
    assert_eq!(fields(limit(&root, &pat, &["acme", "hooli"]).await), field);
    let narrowed = limit(&root, &pat, &["globex"]).await.expect("fewer");
    assert_eq!(narrowed.granted_workspace_ids, std::slice::from_ref(&globex));
    assert_eq!(denial(&root, &token, "acme").await, Denial::WorkspaceNotGranted);
    // The same again changes nothing.
    assert_eq!(limit(&root, &pat, &[&globex]).await.expect("the same"), narrowed);
    assert_eq!(fields(limit(&root, &pat, &[&globex, &acme]).await), field);
    assert_eq!(denial(&root, &token, "acme").await, Denial::WorkspaceNotGranted);
}

async fn narrowing_does_not_tell_the_slug_of_a_workspace_whose_member_the_user_no_longer_is(
    h: Harness,
) {
    let root = world(&h).await;
    let globex = id(&root, "globex").await;
    let (pat, _) = limited(&root, &["acme", "globex"]).await;
    let request = DeleteMembershipRequest {
        workspace: "globex".to_owned(),
        user: "ada".to_owned(),
        allow_missing: false,
    };
    root.directory().delete_membership(request).await.expect("it is deleted");
    let renamed =
        Workspace { id: globex.clone(), slug: "secret".to_owned(), ..Workspace::default() };
    let request = PutWorkspaceRequest { workspace: Some(renamed) };
    root.directory().put_workspace(request).await.expect("it is renamed");
    for slug in ["secret", "globex", "nowhere"] {
        let field = ["credential.granted_workspace_ids[0]"];
        assert_eq!(fields(limit(&root, &pat, &[slug]).await), field, "{slug}");
    }
    let narrowed = limit(&root, &pat, &[&globex]).await.expect("by its id");
    assert_eq!(narrowed.granted_workspace_ids, [globex]);
}

async fn a_token_without_a_limit_can_be_limited_later(h: Harness) {
    let root = world(&h).await;
    let (pat, token) = limited(&root, &[]).await;
    let field = ["credential.granted_workspace_ids[0]"];
    assert_eq!(fields(limit(&root, &pat, &["hooli"]).await), field);
    let now_limited = limit(&root, &pat, &["acme"]).await.expect("it is limited");
    assert!(now_limited.limited);
    assert_eq!(denial(&root, &token, "globex").await, Denial::WorkspaceNotGranted);
    assert_eq!(fields(limit(&root, &pat, &["globex"]).await), field);
}

async fn a_key_cannot_be_limited(h: Harness) {
    let root = world(&h).await;
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..CreateKeyRequest::default()
    };
    let key = root.auth().create_key(request).await.expect("a key").into_inner();
    let key = key.credential.expect("it is given");
    let field = ["credential.granted_workspace_ids"];
    assert_eq!(fields(limit(&root, &key, &["acme"]).await), field);
    assert_eq!(fields(limit(&root, &key, &[]).await), field);
}

async fn a_token_whose_last_workspace_was_deleted_acts_nowhere(h: Harness) {
    let root = world(&h).await;
    let acme = id(&root, "acme").await;
    let (pat, token) = limited(&root, &["acme"]).await;
    let request = DeleteWorkspaceRequest { workspace: "acme".to_owned(), allow_missing: false };
    root.directory().delete_workspace(request).await.expect("it is deleted");
    assert_eq!(denial(&root, &token, "acme").await, Denial::NotAMember);
    assert_eq!(denial(&root, &token, "globex").await, Denial::WorkspaceNotGranted);
    // A workspace with the same id is another workspace.
    let again = Workspace {
        id: acme.clone(),
        slug: "acme".to_owned(),
        display_name: "Acme".to_owned(),
        ..Workspace::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(again) };
    root.directory().put_workspace(request).await.expect("it is put again");
    root.put_membership("acme", "ada", Role::Owner).await;
    assert_eq!(denial(&root, &token, "acme").await, Denial::WorkspaceNotGranted);
    // It can still be named, as nothing is granted by that.
    let same = limit(&root, &pat, &[&acme]).await.expect("the same");
    assert!(same.limited);
    assert_eq!(denial(&root, &token, "acme").await, Denial::WorkspaceNotGranted);
}

async fn a_denial_says_nothing_about_a_workspace_whose_member_the_user_is_not(h: Harness) {
    let root = world(&h).await;
    let forbidden = PatPolicy { forbidden: Some(true), ..PatPolicy::default() };
    put_policy(&root, &id(&root, "hooli").await, forbidden).await.expect("it is put");
    let (_, token) = limited(&root, &["acme"]).await;
    let ask = async |workspace: &str| {
        let mut answer = root.introspect(&token, workspace, &[Scope::Read]).await;
        answer.revision = 0;
        answer
    };
    let hidden = ask("hooli").await;
    assert_eq!(hidden, ask("nowhere").await);
    assert_eq!(hidden.denial(), Denial::NotAMember);
    let request = DeleteMembershipRequest {
        workspace: "globex".to_owned(),
        user: "ada".to_owned(),
        allow_missing: false,
    };
    root.directory().delete_membership(request).await.expect("it is deleted");
    assert_eq!(ask("globex").await, hidden);
}

async fn a_limited_token_that_ended_with_its_user_keeps_no_earlier_release_away(h: Harness) {
    let root = world(&h).await;
    limited(&root, &["acme"]).await;
    let register = registration_of_0_1(&h.database, 2);
    let refusal = raw::try_run(&h.database, &register).await.expect_err("a rule is in use");
    assert!(refusal.contains("earlier release"), "{refusal}");
    root.delete_user("ada").await;
    raw::try_run(&h.database, &register).await.expect("no rule is left");
}

async fn a_successor_keeps_the_limit(h: Harness) {
    let root = world(&h).await;
    let (pat, _) = limited(&root, &["acme"]).await;
    let request = RotateRequest { credential_id: pat.id.clone(), ..RotateRequest::default() };
    let rotated = root.auth().rotate(request).await.expect("it is rotated").into_inner();
    let successor = rotated.credential.expect("it is given");
    assert_eq!(successor.granted_workspace_ids, pat.granted_workspace_ids);
    let expected = [Denial::Unspecified, Denial::WorkspaceNotGranted, Denial::NotAMember];
    assert_eq!(denials(&root, &rotated.token).await, expected);
}

async fn a_narrowed_limit_is_known_at_every_server_when_the_update_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = world(&h).await;
    let there = root.via(&other);
    for _ in 0..10 {
        let (pat, token) = limited(&root, &["acme", "globex"]).await;
        assert_eq!(denial(&there, &token, "globex").await, Denial::Unspecified);
        limit(&root, &pat, &["acme"]).await.expect("fewer");
        assert_eq!(denial(&there, &token, "globex").await, Denial::WorkspaceNotGranted);
    }
}

async fn a_retry_with_the_same_limit_is_the_same_request(h: Harness) {
    let root = world(&h).await;
    let request_id = "0195f2d4-7c1e-7b3a-9d58-0242ac120077".to_owned();
    let of = |workspaces: &[&str]| CreatePatRequest {
        request_id: request_id.clone(),
        ..request(workspaces)
    };
    let (first, _) = create(&root, of(&["acme"])).await.expect("it is created");
    let (again, token) = create(&root, of(&["acme"])).await.expect("the same");
    assert_eq!(first.id, again.id);
    assert_eq!(denial(&root, &token, "globex").await, Denial::WorkspaceNotGranted);
    for other in [&["globex"][..], &[], &["acme", "globex"]] {
        assert_eq!(fields(create(&root, of(other)).await), ["request_id"]);
    }
}

async fn a_policy_for_tokens_applies_at_every_server_when_put_returns(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = world(&h).await;
    let there = root.via(&other);
    let acme = id(&root, "acme").await;
    let (_, forever) = limited(&root, &[]).await;
    let ttl = |seconds| Some(Expiration::Ttl(Duration { seconds, nanos: 0 }));
    let day = CreatePatRequest { expiration: ttl(DAY), ..request(&[]) };
    let (_, day) = create(&root, day).await.expect("it is created");
    let week = CreatePatRequest { expiration: ttl(7 * DAY), ..request(&[]) };
    let (_, week) = create(&root, week).await.expect("it is created");
    let most = |seconds| Some(Duration { seconds, nanos: 0 });
    let none =
        PatPolicy { forbidden: Some(false), expiry_required: Some(false), lifetime_max: most(0) };
    for (policy, allowed) in [
        (PatPolicy { forbidden: Some(true), ..none }, [false, false, false]),
        (none, [true, true, true]),
        (PatPolicy { expiry_required: Some(true), ..none }, [false, true, true]),
        (PatPolicy { lifetime_max: most(2 * DAY), ..none }, [false, true, false]),
    ] {
        put_policy(&root, &acme, policy).await.expect("it is put");
        for (token, allowed) in [&forever, &day, &week].into_iter().zip(allowed) {
            for server in [&root, &there] {
                let expected = if allowed { Denial::Unspecified } else { Denial::PatNotPermitted };
                assert_eq!(denial(server, token, "acme").await, expected, "{policy:?}");
                assert_eq!(denial(server, token, "globex").await, Denial::Unspecified);
            }
        }
    }
}

async fn a_policy_for_tokens_is_put_by_presence(h: Harness) {
    let root = world(&h).await;
    let acme = id(&root, "acme").await;
    let forbidden = PatPolicy { forbidden: Some(true), ..PatPolicy::default() };
    put_policy(&root, &acme, forbidden).await.expect("it is put");
    let expiring = PatPolicy { expiry_required: Some(true), ..PatPolicy::default() };
    let put = put_policy(&root, &acme, expiring).await.expect("it is put");
    let both = PatPolicy { forbidden: Some(true), expiry_required: Some(true), lifetime_max: None };
    assert_eq!(put.pat_policy, Some(both));
    // A dashboard that does not know the policy leaves it.
    root.put_workspace("acme").await;
    let request = GetWorkspaceRequest { workspace: "acme".to_owned() };
    let found = root.directory().get_workspace(request).await.expect("it is there").into_inner();
    assert_eq!(found.workspace.expect("it is given").pat_policy, Some(both));
    let removed =
        PatPolicy { forbidden: Some(false), expiry_required: Some(false), lifetime_max: None };
    let put = put_policy(&root, &acme, removed).await.expect("it is put");
    assert_eq!(put.pat_policy, None);
}

async fn a_policy_for_tokens_is_checked(h: Harness) {
    let root = world(&h).await;
    let acme = id(&root, "acme").await;
    for wrong in [Duration { seconds: -1, nanos: 0 }, Duration { seconds: 0, nanos: 1 }] {
        let policy = PatPolicy { lifetime_max: Some(wrong), ..PatPolicy::default() };
        let outcome = put_policy(&root, &acme, policy).await;
        assert_eq!(fields(outcome), ["workspace.pat_policy.lifetime_max"]);
    }
}

async fn a_policy_for_tokens_ends_with_its_workspace(h: Harness) {
    let root = world(&h).await;
    let acme = id(&root, "acme").await;
    let forbidden = PatPolicy { forbidden: Some(true), ..PatPolicy::default() };
    put_policy(&root, &acme, forbidden).await.expect("it is put");
    let request = DeleteWorkspaceRequest { workspace: "acme".to_owned(), allow_missing: false };
    root.directory().delete_workspace(request).await.expect("it is deleted");
    let again = Workspace {
        id: acme,
        slug: "acme".to_owned(),
        display_name: "Acme".to_owned(),
        ..Workspace::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(again) };
    let put = root.directory().put_workspace(request).await.expect("it is put").into_inner();
    assert_eq!(put.workspace.expect("it is given").pat_policy, None);
}

async fn the_user_sees_the_workspace_that_denies_their_token(h: Harness) {
    let root = world(&h).await;
    let (_, token) = limited(&root, &["acme"]).await;
    let answer = root.introspect(&token, "globex", &[Scope::Read]).await;
    assert_eq!(answer.workspace.expect("it is given").slug, "globex");
}

async fn an_answer_says_that_it_is_about_the_identity_only(h: Harness) {
    let root = world(&h).await;
    let (_, token) = limited(&root, &[]).await;
    for (token, scopes, identity_only) in [
        (token.as_str(), &[][..], true),
        (&token, &[Scope::Read], false),
        ("", &[], true),
        ("sophic_pat_nothing", &[], true),
        ("sophic_pat_nothing", &[Scope::Read], false),
    ] {
        for fresh in [false, true] {
            let request = IntrospectRequest {
                token: token.to_owned(),
                workspace: "acme".to_owned(),
                required_scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
                fresh,
                ..IntrospectRequest::default()
            };
            let answer = root.auth().introspect(request).await.expect("an answer").into_inner();
            assert_eq!(answer.identity_only, identity_only, "{token} {scopes:?}");
        }
    }
}
