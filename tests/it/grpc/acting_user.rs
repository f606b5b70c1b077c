//! The rules for acting users (docs/api.md), for each of the four roles. Hidden credentials look like absent ones.

use sophic_auth::grpc::pb::{
    CreateKeyRequest, CreatePatRequest, CredentialKind, GetCredentialRequest,
    ListAuditEventsRequest, ListCredentialsRequest, PutUserRequest, PutWorkspaceRequest,
    RevokeRequest, Role, Scope, User, Workspace, revoke_request,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};

use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    keys_are_managed_by_admins_and_owners,
    pats_are_managed_only_by_their_user,
    lists_show_what_the_acting_user_may_manage,
    hidden_and_absent_credentials_get_the_same_answer,
    an_acting_user_must_exist_and_be_active,
    an_acting_user_is_required_without_the_permission_of_the_system,
    nothing_is_created_for_a_disabled_owner,
    by_token_no_acting_user_is_needed,
    an_unknown_acting_user_is_refused,
}

const ROLES: [(&str, Option<Role>); 5] = [
    ("vera", Some(Role::Viewer)),
    ("mia", Some(Role::Member)),
    ("adam", Some(Role::Admin)),
    ("olga", Some(Role::Owner)),
    ("stranger", None),
];

/// Acme with a user of each role and one without a role, a caller with all permissions, and the dashboard.
async fn cast(h: &Harness) -> (Actor, Actor) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    for (user, role) in ROLES {
        root.put_user(user).await;
        if let Some(role) = role {
            root.put_membership("acme", user, role).await;
        }
    }
    (root, h.dashboard().await)
}

fn key_for(workspace: &str, acting_user: &str) -> CreateKeyRequest {
    CreateKeyRequest {
        workspace: workspace.to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: acting_user.to_owned(),
        ..Default::default()
    }
}

fn pat_for(user: &str, acting_user: &str) -> CreatePatRequest {
    CreatePatRequest {
        user: user.to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: acting_user.to_owned(),
        ..Default::default()
    }
}

fn get(id: &str, acting_user: &str) -> GetCredentialRequest {
    GetCredentialRequest {
        credential_id: id.to_owned(),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    }
}

fn revoke(id: &str, acting_user: &str) -> RevokeRequest {
    RevokeRequest {
        credential: Some(revoke_request::Credential::CredentialId(id.to_owned())),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    }
}

async fn new_key(actor: &Actor) -> String {
    let made = actor.create_key("acme", &[Scope::Read]).await;
    made.credential.expect("it is given").id
}

async fn new_pat(actor: &Actor, user: &str) -> String {
    let made = actor.create_pat(user, &[Scope::Read], Role::Owner).await;
    made.credential.expect("it is given").id
}

fn forbidden(reason: &str) -> (Code, String) {
    (Code::PermissionDenied, reason.to_owned())
}

fn not_found(reason: &str) -> (Code, String) {
    (Code::NotFound, reason.to_owned())
}

async fn keys_are_managed_by_admins_and_owners(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    for (user, role) in ROLES {
        let id = new_key(&root).await;
        let created = dashboard.auth().create_key(key_for("acme", user)).await;
        let read = dashboard.auth().get_credential(get(&id, user)).await;
        let ended = dashboard.auth().revoke(revoke(&id, user)).await;
        match role {
            Some(Role::Admin | Role::Owner) => {
                let made = created.expect("they may").into_inner().credential.expect("it is given");
                assert_eq!(made.creator, format!("user:{user}"));
                read.expect("they may");
                ended.expect("they may");
            }
            Some(_) => {
                assert_eq!(refused(created), forbidden("ROLE_TOO_LOW"), "{user}");
                assert_eq!(refused(read), not_found("CREDENTIAL_NOT_FOUND"), "{user}");
                assert_eq!(refused(ended), not_found("CREDENTIAL_NOT_FOUND"), "{user}");
            }
            None => {
                assert_eq!(refused(created), not_found("WORKSPACE_NOT_FOUND"), "{user}");
                assert_eq!(refused(read), not_found("CREDENTIAL_NOT_FOUND"), "{user}");
                assert_eq!(refused(ended), not_found("CREDENTIAL_NOT_FOUND"), "{user}");
            }
        }
    }
}

async fn pats_are_managed_only_by_their_user(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    for (owner, _) in ROLES {
        let id = new_pat(&root, owner).await;
        // Not even by the owner of a workspace that both users belong to.
        for (user, _) in ROLES.into_iter().filter(|(user, _)| *user != owner) {
            let created = dashboard.auth().create_pat(pat_for(owner, user)).await;
            assert_eq!(refused(created), not_found("USER_NOT_FOUND"), "{user} for {owner}");
            let read = dashboard.auth().get_credential(get(&id, user)).await;
            assert_eq!(refused(read), not_found("CREDENTIAL_NOT_FOUND"), "{user} of {owner}");
            let ended = dashboard.auth().revoke(revoke(&id, user)).await;
            assert_eq!(refused(ended), not_found("CREDENTIAL_NOT_FOUND"), "{user} of {owner}");
        }
        let created = dashboard.auth().create_pat(pat_for(owner, owner)).await.expect("their own");
        let made = created.into_inner().credential.expect("it is given");
        assert_eq!((made.user_id.as_str(), made.creator), (owner, format!("user:{owner}")));
        dashboard.auth().get_credential(get(&id, owner)).await.expect("their own");
        dashboard.auth().revoke(revoke(&id, owner)).await.expect("their own");
    }
}

async fn list(actor: &Actor, request: ListCredentialsRequest) -> Result<Vec<String>, Status> {
    let page = actor.auth().list_credentials(request).await?.into_inner();
    Ok(page.credentials.into_iter().map(|credential| credential.id).collect())
}

async fn lists_show_what_the_acting_user_may_manage(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    root.put_workspace("other").await;
    root.put_membership("other", "vera", Role::Owner).await;
    let key = new_key(&root).await;
    let others = root.create_key("other", &[Scope::Read]).await.credential.expect("a key").id;
    let mut own = std::collections::HashMap::new();
    for (user, _) in ROLES {
        own.insert(user, new_pat(&root, user).await);
    }
    let seen = async |user: &str, kind: CredentialKind| {
        let request = ListCredentialsRequest {
            acting_user: user.to_owned(),
            kind: kind.into(),
            ..Default::default()
        };
        list(&dashboard, request).await.expect("a page")
    };
    let any = CredentialKind::Unspecified;
    assert_eq!(seen("vera", any).await, [others.clone(), own["vera"].clone()]);
    assert_eq!(seen("mia", any).await, [own["mia"].clone()]);
    assert_eq!(seen("adam", any).await, [key.clone(), own["adam"].clone()]);
    assert_eq!(seen("olga", any).await, [key.clone(), own["olga"].clone()]);
    assert_eq!(seen("stranger", any).await, [own["stranger"].clone()]);
    assert_eq!(seen("olga", CredentialKind::Key).await, std::slice::from_ref(&key));
    assert_eq!(seen("olga", CredentialKind::Pat).await, [own["olga"].clone()]);
    // A workspace that the user may not manage, and the tokens of another user.
    let in_acme = |user: &str| ListCredentialsRequest {
        acting_user: user.to_owned(),
        workspace: "acme".to_owned(),
        ..Default::default()
    };
    assert_eq!(list(&dashboard, in_acme("adam")).await.expect("a page"), [key]);
    assert_eq!(refused(list(&dashboard, in_acme("mia")).await), forbidden("ROLE_TOO_LOW"));
    let hidden = refused(list(&dashboard, in_acme("stranger")).await);
    assert_eq!(hidden, not_found("WORKSPACE_NOT_FOUND"));
    let of_ada = ListCredentialsRequest { user: "mia".to_owned(), ..in_acme("olga") };
    let of_ada = ListCredentialsRequest { workspace: String::new(), ..of_ada };
    assert_eq!(refused(list(&dashboard, of_ada).await), not_found("USER_NOT_FOUND"));
}

/// The whole status except the id in the request: nothing else may differ.
fn same(absent: Status, hidden: Status) {
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(absent.message(), hidden.message());
    assert_eq!(absent.details(), hidden.details());
    assert_eq!(absent.code(), hidden.code());
}

async fn hidden_and_absent_credentials_get_the_same_answer(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let (key, pat) = (new_key(&root).await, new_pat(&root, "olga").await);
    let absent = "0195f2d4-7c1e-7b3a-9d58-0242ac120002";
    for hidden in [key, pat] {
        let of = async |id: &str| dashboard.auth().get_credential(get(id, "mia")).await;
        same(of(absent).await.expect_err("absent"), of(&hidden).await.expect_err("hidden"));
        let of = async |id: &str| dashboard.auth().revoke(revoke(id, "mia")).await;
        same(of(absent).await.expect_err("absent"), of(&hidden).await.expect_err("hidden"));
    }
    let of = async |name: &str| dashboard.auth().create_key(key_for(name, "stranger")).await;
    same(of("nowhere").await.expect_err("absent"), of("acme").await.expect_err("hidden"));
    let of = async |user: &str| dashboard.auth().create_pat(pat_for(user, "mia")).await;
    same(of("nobody").await.expect_err("absent"), of("olga").await.expect_err("hidden"));
    let of = async |workspace: &str, user: &str| {
        let request = ListCredentialsRequest {
            workspace: workspace.to_owned(),
            user: user.to_owned(),
            acting_user: "stranger".to_owned(),
            ..Default::default()
        };
        list(&dashboard, request).await.expect_err("refused")
    };
    same(of("nowhere", "").await, of("acme", "").await);
    same(of("", "nobody").await, of("", "olga").await);
}

async fn an_acting_user_must_exist_and_be_active(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let (key, pat) = (new_key(&root).await, new_pat(&root, "olga").await);
    let olga = User {
        id: "olga".to_owned(),
        display_name: "Olga".to_owned(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutUserRequest { user: Some(olga) };
    root.directory().put_user(request).await.expect("they are put");
    let inactive = forbidden("ACTING_USER_NOT_ACTIVE");
    for user in ["olga", "nobody"] {
        assert_eq!(refused(dashboard.auth().create_key(key_for("acme", user)).await), inactive);
        assert_eq!(refused(dashboard.auth().create_pat(pat_for(user, user)).await), inactive);
        for id in [&key, &pat] {
            assert_eq!(refused(dashboard.auth().get_credential(get(id, user)).await), inactive);
            assert_eq!(refused(dashboard.auth().revoke(revoke(id, user)).await), inactive);
        }
        let request = ListCredentialsRequest { acting_user: user.to_owned(), ..Default::default() };
        assert_eq!(refused(list(&dashboard, request).await), inactive);
    }
    let misspelt = dashboard.auth().create_key(key_for("acme", "no user")).await;
    assert_eq!(fields(misspelt), ["acting_user"]);
}

async fn an_acting_user_is_required_without_the_permission_of_the_system(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let key = new_key(&root).await;
    let required = forbidden("ACTING_USER_REQUIRED");
    assert_eq!(refused(dashboard.auth().create_key(key_for("acme", "")).await), required);
    assert_eq!(refused(dashboard.auth().create_pat(pat_for("olga", "")).await), required);
    assert_eq!(refused(dashboard.auth().revoke(revoke(&key, "")).await), required);
    // A caller with credentials.read needs no acting user. One with only credentials.write needs one.
    dashboard.auth().get_credential(get(&key, "")).await.expect("it may read");
    list(&dashboard, ListCredentialsRequest::default()).await.expect("it may read");
    let writer = h.caller("writer", &[Permission::CredentialsWrite]).await;
    assert_eq!(refused(writer.auth().get_credential(get(&key, "")).await), required);
    assert_eq!(refused(list(&writer, ListCredentialsRequest::default()).await), required);
    writer.auth().get_credential(get(&key, "olga")).await.expect("on her behalf");
    // With credentials.admin no acting user is needed, but one that is named still restricts the call.
    let system = h.caller("system", &[Permission::CredentialsAdmin]).await;
    let made = system.auth().create_key(key_for("acme", "")).await.expect("it may").into_inner();
    assert_eq!(made.credential.expect("it is given").creator, "caller:system");
    let low = system.auth().create_key(key_for("acme", "mia")).await;
    assert_eq!(refused(low), forbidden("ROLE_TOO_LOW"));
    system.auth().revoke(revoke(&key, "")).await.expect("it may");
}

async fn nothing_is_created_for_a_disabled_owner(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let acme = Workspace {
        id: "id-of-acme".to_owned(),
        slug: "acme".to_owned(),
        display_name: "Acme".to_owned(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(acme) };
    root.directory().put_workspace(request).await.expect("it is put");
    let shut = (Code::FailedPrecondition, "WORKSPACE_DISABLED".to_owned());
    assert_eq!(refused(dashboard.auth().create_key(key_for("acme", "olga")).await), shut);
    assert_eq!(refused(root.auth().create_key(key_for("acme", "")).await), shut);
    let user = User {
        id: "mia".to_owned(),
        display_name: "Mia".to_owned(),
        disabled: Some(true),
        ..Default::default()
    };
    root.directory().put_user(PutUserRequest { user: Some(user) }).await.expect("they are put");
    let disabled = (Code::FailedPrecondition, "USER_DISABLED".to_owned());
    assert_eq!(refused(root.auth().create_pat(pat_for("mia", "")).await), disabled);
}

async fn by_token_no_acting_user_is_needed(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let gateway = h.gateway().await;
    let token = root.create_pat("olga", &[Scope::Read], Role::Owner).await.token;
    let ended = gateway.revoke_token(&token).await;
    assert!(ended.effective_time.is_some() && ended.revision > 0, "{ended:?}");
    // By id the same caller is refused.
    let id = new_pat(&root, "olga").await;
    let by_id = gateway.auth().revoke(revoke(&id, "")).await;
    assert_eq!(refused(by_id).0, Code::PermissionDenied);
    // For every text (RFC 7009 §2.2).
    for text in ["", "nobody's", &token] {
        dashboard.revoke_token(text).await;
    }
}

async fn an_unknown_acting_user_is_refused(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let gateway = h.gateway().await;
    let disabled = User { id: "mia".to_owned(), disabled: Some(true), ..Default::default() };
    let disabled = User { display_name: "Mia".to_owned(), ..disabled };
    root.directory().put_user(PutUserRequest { user: Some(disabled) }).await.expect("it is put");
    root.delete_user("vera").await;
    let token = root.create_pat("olga", &[Scope::Read], Role::Owner).await.token;
    let by_token = |text: &str, acting_user: &str| RevokeRequest {
        credential: Some(revoke_request::Credential::Token(text.to_owned())),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    };
    for user in ["ghost", "mia", "vera"] {
        for caller in [&gateway, &dashboard, &root] {
            for text in [&*token, "nobody's"] {
                let outcome = caller.auth().revoke(by_token(text, user)).await;
                assert_eq!(refused(outcome), forbidden("ACTING_USER_NOT_ACTIVE"), "{user}");
            }
        }
    }
    assert!(root.introspect(&token, "acme", &[Scope::Read]).await.allowed, "nothing was changed");
    let misspelled = gateway.auth().revoke(by_token(&token, "a ghost")).await;
    assert_eq!(fields(misspelled), ["acting_user"]);
    gateway.auth().revoke(by_token(&token, "olga")).await.expect("she is there");
    let action = "credential.revoke".to_owned();
    let filter = ListAuditEventsRequest { action, ..Default::default() };
    let events = root.admin().list_audit_events(filter).await.expect("events").into_inner().events;
    for event in events {
        let believed = event.refusal.is_empty();
        assert_eq!(believed, event.acting_user == "olga", "{event:?}");
    }
}
