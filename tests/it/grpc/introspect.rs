//! The fields of an answer besides its decision. `faces/table.rs` has the decision table, row by row.

use std::time::Duration;

use sophic_auth::grpc::pb::introspect_response::Principal;
use sophic_auth::grpc::pb::{
    CreateKeyRequest, CredentialKind, Denial, IntrospectResponse, PutUserRequest,
    PutWorkspaceRequest, Role, RoleCap, Scope, User, Workspace, create_key_request,
};
use sophic_auth::model::{CredentialId, Permission};
use sophic_auth::store::{self, Lock};

use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    row_2_malformed_misspelt_and_unknown_tokens_get_one_answer,
    row_3_a_disabled_token_is_dead,
    row_4_a_disabled_principal_is_refused,
    row_7_a_pat_needs_a_workspace,
    row_8_unknown_disabled_and_foreign_workspaces_get_one_answer,
    row_11_a_key_is_allowed_what_it_was_granted,
    the_lifetime_of_an_answer_ends_with_the_credential,
    the_scenario_of_the_first_issue_works,
}

const ALL: [Scope; 3] = [Scope::Read, Scope::Capture, Scope::Admin];
const PLAIN: &str = r#"Bearer realm="sophic""#;

/// A directory: acme with ada (member), vera (viewer) and olga (owner), and other, which olga owns.
async fn directory(h: &Harness) -> Actor {
    let root = h.root().await;
    for slug in ["acme", "other"] {
        root.put_workspace(slug).await;
    }
    let members = [("ada", Role::Member), ("vera", Role::Viewer), ("olga", Role::Owner)];
    for (user, role) in members {
        root.put_user(user).await;
        root.put_membership("acme", user, role).await;
    }
    root.put_membership("other", "olga", Role::Owner).await;
    root
}

/// Asserts this denial, and that an inactive token does not reveal its owner.
fn check(answer: &IntrospectResponse, denial: Denial, status: i32) {
    assert_eq!((answer.denial(), answer.http_status), (denial, status), "{answer:?}");
    assert!(!answer.allowed);
    assert!(answer.www_authenticate.starts_with(PLAIN), "{answer:?}");
    let active = status != 401;
    assert_eq!(answer.active, active);
    assert_eq!(answer.principal.is_some(), active);
    assert_eq!(answer.credential.is_some(), active);
    if !active {
        assert!(answer.workspace.is_none() && answer.scopes.is_empty(), "{answer:?}");
    }
}

fn check_dead(answer: &IntrospectResponse, denial: Denial) {
    check(answer, denial, 401);
    assert!(answer.www_authenticate.contains(r#"error="invalid_token""#), "{answer:?}");
}

async fn row_2_malformed_misspelt_and_unknown_tokens_get_one_answer(h: Harness) {
    let root = directory(&h).await;
    let token = root.create_key("acme", &ALL).await.token;
    let elsewhere = Harness::start(crate::stores::Database::sqlite().into(), |_| {}).await;
    let stranger = directory(&elsewhere).await.create_key("acme", &ALL).await.token;
    h.wait_until_read_by(&h).await;
    let mut answers = Vec::new();
    let mut misspelt = token.clone().into_bytes();
    misspelt[20] ^= 1;
    let misspelt = String::from_utf8(misspelt).expect("text");
    for text in [&stranger, &misspelt, "malformed", &token[..48]] {
        let answer = root.introspect(text, "acme", &[Scope::Read]).await;
        check_dead(&answer, Denial::TokenUnknown);
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    elsewhere.running.stop().await;
}

async fn row_3_a_disabled_token_is_dead(h: Harness) {
    let root = directory(&h).await;
    let made = root.create_key("acme", &ALL).await;
    let id = made.credential.expect("it is given").id;
    disable(&h, &id).await;
    let answer = root.introspect(&made.token, "acme", &[Scope::Read]).await;
    check_dead(&answer, Denial::TokenDisabled);
}

/// Changes the store itself, before the first introspection.
async fn disable(h: &Harness, id: &str) {
    let id = CredentialId::parse(id).expect("an id");
    let store = store::open(&h.database.location()).await.expect("the store opens");
    let mut tx = store.begin("test").await.expect("a transaction");
    let mut credential =
        tx.find_credential(id, Lock::Update).await.expect("a read").expect("it is there");
    credential.disable_time = Some(credential.create_time);
    tx.update_credential(&credential).await.expect("it is changed");
    // Any event will do: this one is copied from the log with a new id.
    let mut event =
        store.list_audit_events(&Default::default(), None, 1).await.expect("a page").remove(0);
    event.id = sophic_auth::model::EventId(id.0);
    tx.commit(&event).await.expect("it commits");
}

async fn row_4_a_disabled_principal_is_refused(h: Harness) {
    let root = directory(&h).await;
    let key = root.create_key("acme", &ALL).await.token;
    let pat = root.create_pat("olga", &ALL, Role::Owner).await.token;
    let foreign = root.create_pat("vera", &ALL, Role::Owner).await.token;
    set_disabled(&root, true).await;
    let answer = root.introspect(&key, "acme", &[Scope::Read]).await;
    check_dead(&answer, Denial::PrincipalDisabled);
    let answer = root.introspect(&pat, "other", &[Scope::Read]).await;
    check_dead(&answer, Denial::PrincipalDisabled);
    // For an active user, a disabled workspace looks like an absent one.
    let answer = root.introspect(&foreign, "acme", &[Scope::Read]).await;
    check(&answer, Denial::NotAMember, 403);
    set_disabled(&root, false).await;
    for (token, workspace) in [(&key, "acme"), (&pat, "other"), (&foreign, "acme")] {
        assert!(root.introspect(token, workspace, &[Scope::Read]).await.allowed);
    }
}

/// Acme and olga.
async fn set_disabled(root: &Actor, disabled: bool) {
    let workspace = Workspace {
        id: "id-of-acme".to_owned(),
        slug: "acme".to_owned(),
        display_name: "Acme".to_owned(),
        disabled: Some(disabled),
        ..Default::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(workspace) };
    root.directory().put_workspace(request).await.expect("it is put");
    let user = User {
        id: "olga".to_owned(),
        display_name: "Olga".to_owned(),
        disabled: Some(disabled),
        ..Default::default()
    };
    root.directory().put_user(PutUserRequest { user: Some(user) }).await.expect("they are put");
}

async fn row_7_a_pat_needs_a_workspace(h: Harness) {
    let root = directory(&h).await;
    let pat = root.create_pat("ada", &ALL, Role::Owner).await.token;
    let answer = root.introspect(&pat, "", &[Scope::Read]).await;
    check(&answer, Denial::WorkspaceRequired, 400);
    assert!(answer.www_authenticate.contains(r#"error="invalid_request""#), "{answer:?}");
    assert!(answer.workspace.is_none());
    assert!(matches!(answer.principal, Some(Principal::User(user)) if user.id == "ada"));
}

async fn row_8_unknown_disabled_and_foreign_workspaces_get_one_answer(h: Harness) {
    let root = directory(&h).await;
    let shut = Workspace {
        id: "id-of-shut".to_owned(),
        slug: "shut".to_owned(),
        display_name: "Shut".to_owned(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(shut) };
    root.directory().put_workspace(request).await.expect("it is put");
    root.put_membership("shut", "ada", Role::Owner).await;
    let pat = root.create_pat("ada", &ALL, Role::Owner).await.token;
    let mut answers = Vec::new();
    for name in ["nowhere", "other", "id-of-other", "shut", "id-of-shut", "not a name", "ACME"] {
        let answer = root.introspect(&pat, name, &[Scope::Read]).await;
        check(&answer, Denial::NotAMember, 403);
        assert_eq!(answer.www_authenticate, PLAIN);
        assert!(answer.workspace.is_none() && answer.scopes.is_empty(), "{answer:?}");
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

async fn row_11_a_key_is_allowed_what_it_was_granted(h: Harness) {
    let root = directory(&h).await;
    let key = root.create_key("acme", &ALL).await;
    let answer =
        h.gateway().await.introspect(&key.token, "acme", &[Scope::Read, Scope::Admin]).await;
    assert!(answer.active && answer.allowed, "{answer:?}");
    assert_eq!((answer.denial(), answer.http_status), (Denial::Unspecified, 200));
    assert_eq!(answer.www_authenticate, "");
    assert_eq!(answer.scopes().collect::<Vec<_>>(), [Scope::Read, Scope::Admin]);
    assert_eq!((answer.role(), answer.role_capped_by()), (Role::Unspecified, RoleCap::Unspecified));
    let made = key.credential.expect("it is given");
    let Some(Principal::WorkspaceKey(principal)) = &answer.principal else { panic!("no key") };
    assert_eq!(principal.workspace_id, "id-of-acme");
    assert_eq!((&principal.credential_id, &principal.name), (&made.id, &made.name));
    let credential = answer.credential.as_ref().expect("the credential");
    assert_eq!(credential.kind(), CredentialKind::Key);
    assert_eq!((&credential.id, &credential.hint), (&made.id, &made.hint));
    assert_eq!(credential.create_time, made.create_time);
    assert!(answer.revision > 0 && !answer.stale);
}

async fn the_lifetime_of_an_answer_ends_with_the_credential(h: Harness) {
    let root = directory(&h).await;
    let ttl = |seconds| {
        Some(create_key_request::Expiration::Ttl(prost_types::Duration { seconds, nanos: 0 }))
    };
    let lifetime = async |expiration| {
        let request = CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: "brief".to_owned(),
            scopes: vec![Scope::Read.into()],
            expiration,
            ..Default::default()
        };
        let made = root.auth().create_key(request).await.expect("it is made").into_inner();
        let answer = root.introspect(&made.token, "acme", &[]).await;
        let cache_ttl = answer.cache_ttl.expect("a lifetime");
        Duration::try_from(cache_ttl).expect("a duration")
    };
    let forever = lifetime(None).await;
    assert!(forever > Duration::ZERO);
    assert_eq!(lifetime(ttl(86_400)).await, forever);
    let brief = lifetime(ttl(20)).await;
    assert!(brief <= Duration::from_secs(20) && brief > Duration::ZERO, "{brief:?}");
    let unknown = root.introspect("nobody's", "acme", &[]).await;
    assert_eq!(unknown.cache_ttl.unwrap_or_default(), prost_types::Duration::default());
}

/// The scenario in the first issue.
async fn the_scenario_of_the_first_issue_works(h: Harness) {
    let root = directory(&h).await;
    let gateway = h.caller("edge", &[Permission::Introspect]).await;
    let key = root.create_key("acme", &[Scope::Read, Scope::Capture]).await.token;
    assert!(gateway.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    let elsewhere = gateway.introspect(&key, "other", &[Scope::Read]).await;
    assert_eq!((elsewhere.allowed, elsewhere.http_status), (false, 403));
    assert_eq!(gateway.introspect(&key, "acme", &[Scope::Capture]).await.http_status, 403);

    root.put_membership("other", "ada", Role::Viewer).await;
    let pat = root.create_pat("ada", &[Scope::Read, Scope::Capture], Role::Owner).await.token;
    assert!(gateway.introspect(&pat, "acme", &[Scope::Capture]).await.allowed);
    let viewed = gateway.introspect(&pat, "other", &[Scope::Capture]).await;
    assert_eq!(viewed.denial(), Denial::InsufficientScope);
    assert_eq!(viewed.role_capped_by(), RoleCap::Membership);
    assert_eq!(viewed.role_lacks_scopes().collect::<Vec<_>>(), [Scope::Capture]);
    assert_eq!(gateway.introspect(&pat, "", &[]).await.denial(), Denial::WorkspaceRequired);

    let bounded = root.create_pat("olga", &[Scope::Read, Scope::Admin], Role::Viewer).await.token;
    let answer = gateway.introspect(&bounded, "acme", &[Scope::Read]).await;
    assert_eq!((answer.role(), answer.role_capped_by()), (Role::Viewer, RoleCap::Token));
    assert!(answer.allowed);

    for token in [key, pat, bounded] {
        // The holder of a token may revoke it.
        gateway.revoke_token(&token).await;
        let answer = gateway.introspect(&token, "acme", &[Scope::Read]).await;
        check_dead(&answer, Denial::TokenRevoked);
    }
}
