//! GetCredential by token: which credential a text is the token of, since when it has ended, and who ended it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreatePatRequest, CredentialState, DisableRequest,
    GetCredentialRequest, GetCredentialResponse, RevokeRequest, Role, Scope,
    UpdateCredentialRequest, revoke_request,
};
use sophic_auth::model::{AuditEvent, EventId, Permission};
use sophic_auth::store::AuditFilter;
use tonic::{Code, Status};

use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::stores::{Fixture as _, on_every_store};
use crate::transfer::{Over, keys, legacy};
use crate::waits::{eventually, within};

on_every_store! {
    a_token_names_its_credential,
    exactly_one_of_id_and_token_is_required,
    an_acting_user_finds_only_what_they_may_manage,
    a_hidden_token_counts_and_is_refused_like_an_unknown_one,
    a_hidden_token_is_refused_no_sooner_than_an_unknown_one,
    an_ended_credential_says_since_when_and_by_whom,
    the_end_is_found_behind_later_events,
    an_expired_credential_names_who_set_the_expiry,
    what_ends_with_its_owner_names_who_deleted_the_owner,
    an_imported_token_is_found_whatever_the_server_accepts,
}

pub(super) fn by_token(token: &str, acting_user: &str) -> GetCredentialRequest {
    GetCredentialRequest {
        token: token.to_owned(),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    }
}

async fn get(
    actor: &Actor,
    request: GetCredentialRequest,
) -> Result<GetCredentialResponse, Status> {
    actor.auth().get_credential(request).await.map(tonic::Response::into_inner)
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned())
}

/// Acme with an admin and a member, and another workspace with an admin.
async fn cast(h: &Harness) -> (Actor, Actor) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("other").await;
    for (user, workspace, role) in [
        ("adam", "acme", Role::Admin),
        ("mia", "acme", Role::Member),
        ("otto", "other", Role::Owner),
    ] {
        root.put_user(user).await;
        root.put_membership(workspace, user, role).await;
    }
    (root, h.dashboard().await)
}

async fn a_token_names_its_credential(h: Harness) {
    let (root, _) = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Viewer).await;
    let reader = h.caller("reader", &[Permission::CredentialsRead]).await;
    for (credential, token) in [(key.credential, key.token), (pat.credential, pat.token)] {
        let found = get(&reader, by_token(&token, "")).await.expect("it is found");
        assert_eq!((found.credential, found.end), (credential, None));
    }
    for text in ["nobody's", &root.authorization().expect("a token")[7..]] {
        assert_eq!(refused(get(&root, by_token(text, "")).await), not_found(), "{text}");
    }
    let writer = h.caller("writer", &[Permission::CredentialsWrite]).await;
    let required = (Code::PermissionDenied, "ACTING_USER_REQUIRED".to_owned());
    assert_eq!(refused(get(&writer, by_token("x", "")).await), required);
    let gateway = h.gateway().await;
    assert_eq!(refused(get(&gateway, by_token("x", "")).await).0, Code::PermissionDenied);
}

async fn exactly_one_of_id_and_token_is_required(h: Harness) {
    let root = h.root().await;
    let both = GetCredentialRequest { credential_id: "x".to_owned(), ..by_token("y", "") };
    for request in [both, GetCredentialRequest::default()] {
        assert_eq!(fields(get(&root, request).await), ["credential_id"]);
    }
}

async fn an_acting_user_finds_only_what_they_may_manage(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
    for (user, sees_key, sees_pat) in
        [("adam", true, false), ("mia", false, true), ("otto", false, false)]
    {
        for (token, sees) in [(&*key, sees_key), (&*pat, sees_pat), ("nobody's", false)] {
            let found = get(&dashboard, by_token(token, user)).await;
            if sees {
                assert!(found.expect("they may").credential.is_some(), "{user}");
            } else {
                assert_eq!(refused(found), not_found(), "{user}");
            }
        }
    }
    let inactive = (Code::PermissionDenied, "ACTING_USER_NOT_ACTIVE".to_owned());
    for token in [&*key, "nobody's"] {
        assert_eq!(refused(get(&dashboard, by_token(token, "ghost")).await), inactive);
    }
}

async fn a_hidden_token_counts_and_is_refused_like_an_unknown_one(h: Harness) {
    let (root, _) = cast(&h).await;
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
    // Each caller has a rate of its own.
    for (caller, texts) in [("one", ["nobody's", &*pat]), ("two", [&*pat, "nobody's"])] {
        let dashboard = h.caller(caller, &[Permission::CredentialsWrite]).await.via(&server);
        let [first, second] = texts;
        let exceeded = within("the rate is exceeded", async {
            loop {
                let answer = refused(get(&dashboard, by_token(first, "adam")).await);
                if answer != not_found() {
                    break answer;
                }
            }
        })
        .await;
        assert_eq!(exceeded, (Code::ResourceExhausted, "UNKNOWN_TOKENS_TOO_MANY".to_owned()));
        let next = refused(get(&dashboard, by_token(second, "adam")).await);
        assert!(next == exceeded || next == not_found(), "{next:?}");
        // What the user may manage is found in spite of it.
        get(&dashboard, by_token(&pat, "mia")).await.expect("it is hers");
    }
}

async fn a_hidden_token_is_refused_no_sooner_than_an_unknown_one(h: Harness) {
    let (root, _) = cast(&h).await;
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
    let dashboard = h.caller("one", &[Permission::CredentialsWrite]).await.via(&server);
    // Below the rate and above it.
    for _ in 0..6 {
        for token in [&*pat, "nobody's"] {
            let begin = Instant::now();
            get(&dashboard, by_token(token, "adam")).await.expect_err("it is not his");
            assert!(begin.elapsed() >= NOT_FOUND_MIN, "{:?}", begin.elapsed());
            let revoke = RevokeRequest {
                credential: Some(revoke_request::Credential::Token(token.to_owned())),
                acting_user: "adam".to_owned(),
                ..Default::default()
            };
            let begin = Instant::now();
            let revoked = dashboard.auth().revoke(revoke).await.map(tonic::Response::into_inner);
            assert!(revoked.is_err() || revoked.is_ok_and(|done| done.effective_time.is_none()));
            assert!(begin.elapsed() >= NOT_FOUND_MIN, "{:?}", begin.elapsed());
        }
    }
    assert_eq!(refused(get(&dashboard, by_token(&pat, "adam")).await).0, Code::ResourceExhausted);
}

/// Time until an expiry. Long enough for the call that sets it.
const PAUSE: Duration = Duration::from_secs(2);
/// Shortest time until a token that the acting user may not see is refused.
const NOT_FOUND_MIN: Duration = Duration::from_millis(20);

fn id_of(response: GetCredentialResponse) -> String {
    response.credential.expect("a credential").id
}

async fn an_ended_credential_says_since_when_and_by_whom(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let token = root.create_key("acme", &[Scope::Read]).await.token;
    let id = id_of(get(&root, by_token(&token, "")).await.expect("it is found"));
    let disable = DisableRequest {
        credential_id: id.clone(),
        acting_user: "adam".to_owned(),
        reason: "seen from a strange address".to_owned(),
    };
    let disabled = dashboard.auth().disable(disable).await.expect("he may").into_inner();
    let found = get(&root, by_token(&token, "")).await.expect("it is found");
    let end = found.end.expect("it has ended");
    let disabled = disabled.credential.expect("a credential");
    assert_eq!((end.state(), end.time), (CredentialState::Disabled, disabled.disable_time));
    assert_eq!((&*end.caller, &*end.acting_user), ("dashboard", "adam"));
    assert_eq!((&*end.action, &*end.reason), ("credential.disable", "seen from a strange address"));
    let revoke = RevokeRequest {
        credential: Some(revoke_request::Credential::CredentialId(id.clone())),
        reason: "leaked".to_owned(),
        ..Default::default()
    };
    root.auth().revoke(revoke).await.expect("it is revoked");
    let by_id = GetCredentialRequest { credential_id: id, ..Default::default() };
    for request in [by_token(&token, ""), by_token(&token, "adam"), by_id] {
        let found = get(&root, request).await.expect("it is found");
        let end = found.end.expect("it has ended");
        let revoke_time = found.credential.expect("a credential").revoke_time;
        assert_eq!((end.state(), end.time), (CredentialState::Revoked, revoke_time));
        assert_eq!((&*end.caller, &*end.acting_user), ("root", ""));
        assert_eq!((&*end.action, &*end.reason), ("credential.revoke", "leaked"));
    }
}

async fn the_end_is_found_behind_later_events(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let mut credential = key.credential.expect("it is given");
    let disable = DisableRequest {
        credential_id: credential.id.clone(),
        acting_user: "adam".to_owned(),
        ..Default::default()
    };
    dashboard.auth().disable(disable).await.expect("he may");
    let end = async || get(&root, by_token(&key.token, "")).await.expect("it is found").end;
    // More than two pages of events.
    for number in 0..45 {
        credential.name = format!("ci {number}");
        let update = UpdateCredentialRequest {
            credential: Some(pb::Credential { etag: String::new(), ..credential.clone() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["name".to_owned()] }),
            ..Default::default()
        };
        root.auth().update_credential(update).await.expect("it is changed");
    }
    let found = end().await.expect("it has ended");
    assert_eq!((&*found.acting_user, &*found.action), ("adam", "credential.disable"));
    // More than are examined. The credential has ended all the same.
    let store = h.database.open().await;
    let newest = store.list_audit_events(&AuditFilter::default(), None, 1_000).await;
    let newest = newest.expect("a page").pop().expect("an event");
    let mut tx = store.begin("test").await.expect("a transaction");
    let numbered = |number: u128| {
        let id = EventId(uuid::Uuid::from_u128(newest.id.0.as_u128() + number));
        AuditEvent { id, ..newest.clone() }
    };
    tx.insert_audit_events(&(1..1_000).map(numbered).collect::<Vec<_>>()).await.expect("they fit");
    tx.commit(&numbered(1_000)).await.expect("it commits");
    let found = end().await.expect("it has ended");
    assert_eq!((found.state(), &*found.action), (CredentialState::Disabled, ""));
}

async fn an_expired_credential_names_who_set_the_expiry(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let mut credential = key.credential.expect("it is given");
    credential.expire_time = Some((std::time::SystemTime::now() + PAUSE).into());
    let update = UpdateCredentialRequest {
        credential: Some(credential),
        update_mask: Some(prost_types::FieldMask { paths: vec!["expire_time".to_owned()] }),
        acting_user: "adam".to_owned(),
    };
    dashboard.auth().update_credential(update).await.expect("he may");
    eventually("it has expired", async || {
        get(&root, by_token(&key.token, "")).await.expect("it is found").end.is_some()
    })
    .await;
    let end = get(&root, by_token(&key.token, "")).await.expect("it is found").end;
    let end = end.expect("it has ended");
    assert_eq!(end.state(), CredentialState::Expired);
    assert_eq!((&*end.caller, &*end.acting_user), ("dashboard", "adam"));
    assert_eq!(&*end.action, "credential.update");
}

async fn what_ends_with_its_owner_names_who_deleted_the_owner(h: Harness) {
    let (root, _) = cast(&h).await;
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    let key = root.auth().create_key(request).await.expect("it is made").into_inner().token;
    let request = CreatePatRequest {
        user: "mia".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    let pat = root.auth().create_pat(request).await.expect("it is made").into_inner().token;
    let cleaner = h.caller("cleaner", &[Permission::DirectoryWrite]).await;
    cleaner.delete_workspace("acme").await;
    cleaner.delete_user("mia").await;
    for (token, reason) in
        [(key, "workspace id-of-acme was deleted"), (pat, "user mia was deleted")]
    {
        let found = get(&root, by_token(&token, "")).await.expect("it is found");
        let end = found.end.expect("it has ended");
        let revoke_time = found.credential.expect("a credential").revoke_time;
        assert_eq!((end.state(), end.time), (CredentialState::Revoked, revoke_time));
        assert_eq!((&*end.caller, &*end.action), ("cleaner", "credential.revoke"));
        assert_eq!(end.reason, reason);
    }
}

async fn an_imported_token_is_found_whatever_the_server_accepts(h: Harness) {
    let over = Over::set_up(Arc::clone(&h.database)).await;
    let root = h.root().await;
    over.import_csv(&keys([1])).await;
    assert!(!root.introspect(&legacy(1), "acme", &[]).await.active, "it is not accepted here");
    let found = get(&root, by_token(&legacy(1), "")).await.expect("it is found");
    assert!(found.credential.is_some() && found.end.is_none());
}
