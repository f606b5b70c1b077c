//! The client without its cache: connecting, answers, batches, management of credentials, errors.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sophic_auth::model::Permission;
use sophic_auth_client::pb::{
    CreateKeyRequest, GetCredentialRequest, ListCredentialsRequest, RevokeRequest, Scope,
    revoke_request,
};
use sophic_auth_client::{Client, Counters, Denial, ErrorKind, Presented, Principal, Role, Scopes};

use super::stage::{NOBODYS_KEY, Stage, caller_token, remembered};
use crate::proxy::{Mode, Proxy};
use crate::stores::on_every_store;
use crate::waits::eventually;

on_every_store! {
    an_answer_names_the_principal_and_its_scopes,
    a_question_without_scopes_is_answered_and_allows_nothing,
    a_malformed_token_is_refused_without_a_call,
    a_batch_is_answered_in_its_order,
    credentials_are_managed,
    an_error_says_what_to_do,
    an_idempotent_call_is_retried,
}

async fn an_answer_names_the_principal_and_its_scopes(stage: Stage) {
    let client = stage.builder().without_cache().build().expect("a client");
    let by_key = client.introspect(&stage.reading()).await.expect("an answer");
    assert!(by_key.is_allowed() && by_key.is_active() && !by_key.is_stale());
    assert!(matches!(by_key.principal(), Some(Principal::WorkspaceKey(_))));
    assert_eq!(by_key.workspace().map(|workspace| workspace.slug.as_str()), Some("acme"));
    assert_eq!((by_key.http_status(), by_key.denial()), (200, None));

    let presented = Presented::new(&stage.pat).in_workspace("globex").requiring(Scopes::CAPTURE);
    let viewer = client.introspect(&presented).await.expect("an answer");
    assert_eq!((viewer.is_allowed(), viewer.is_active()), (false, true));
    assert_eq!(viewer.denial(), Some(Denial::InsufficientScope));
    assert_eq!(viewer.missing_scopes(), Scopes::CAPTURE);
    assert_eq!((viewer.role(), viewer.scopes()), (Some(Role::Viewer), Scopes::READ));
    assert_eq!(viewer.user_id(), Some("ada"));
    assert_eq!(viewer.http_status(), 403);
    assert!(viewer.www_authenticate().contains("insufficient_scope"));
}

async fn a_question_without_scopes_is_answered_and_allows_nothing(stage: Stage) {
    let plain = stage.builder().without_cache().build().expect("a client");
    let (caching, _) = stage.client().await;
    let who = Presented::new(&stage.pat).in_workspace("acme");
    let batch = plain.introspect_batch(&[who, who.requiring(Scopes::READ)]).await;
    let mut batch = batch.expect("answers").into_iter();
    let remembered = remembered(&caching, &who).await;
    let asked = plain.introspect(&who).await.expect("an answer");
    for answer in [batch.next().expect("an answer"), remembered, asked] {
        assert!(answer.response().identity_only, "the service says it too");
        assert_eq!((answer.is_identity_only(), answer.is_allowed()), (true, false));
        assert_eq!((answer.denial(), answer.user_id()), (None, Some("ada")));
    }
    let reading = batch.next().expect("an answer");
    assert_eq!((reading.is_identity_only(), reading.is_allowed()), (false, true));
    // The same question with and without scopes is not one question to the cache.
    let answer = caching.introspect(&who.requiring(Scopes::READ)).await.expect("an answer");
    assert!(answer.is_allowed());
    let answer = plain.introspect(&who.in_workspace("initech")).await.expect("an answer");
    assert_eq!((answer.is_identity_only(), answer.is_allowed()), (true, false));
    assert_eq!(answer.denial(), Some(Denial::NotAMember));
}

async fn a_malformed_token_is_refused_without_a_call(stage: Stage) {
    let counters = Arc::new(Counters::default());
    let builder = stage.builder().without_cache().observer(counters.clone());
    let client = builder.build().expect("a client");
    let almost = format!("{}x", stage.key);
    for token in ["", "abc", "sophic_key_", &stage.caller_token, &almost] {
        let offline = client.introspect(&Presented::new(token)).await.expect("an answer");
        // The service gives exactly the same answer.
        let asked = stage.root.introspect(token, "", &[]).await;
        assert_eq!(offline.denial().map(i32::from), Some(asked.denial));
        assert_eq!(i32::from(offline.http_status()), asked.http_status);
        assert_eq!(offline.www_authenticate(), asked.www_authenticate);
    }
    assert_eq!(counters.calls.load(Ordering::Relaxed), 0);
    assert_eq!(counters.malformed.load(Ordering::Relaxed), 4);
}

async fn a_batch_is_answered_in_its_order(stage: Stage) {
    let client = stage.builder().without_cache().build().expect("a client");
    let asked = [
        stage.reading(),
        Presented::new(NOBODYS_KEY),
        Presented::new(&stage.pat).in_workspace("acme").requiring(Scopes::CAPTURE),
        Presented::new(""),
        Presented::new(&stage.pat).in_workspace("initech"),
    ];
    let answers = client.introspect_batch(&asked).await.expect("answers");
    let denials: Vec<_> = answers.iter().map(sophic_auth_client::Introspection::denial).collect();
    let expected = [
        None,
        Some(Denial::TokenUnknown),
        None,
        Some(Denial::TokenMissing),
        Some(Denial::NotAMember),
    ];
    assert_eq!(denials, expected);
}

async fn credentials_are_managed(stage: Stage) {
    let token = caller_token(&stage.h, "manager", &[Permission::CredentialsAdmin]).await;
    let builder = Client::builder(stage.h.running.grpc_url()).caller_token(token);
    let manager = builder.without_cache().build().expect("a client");
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "by the client".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    let made = manager.create_key(request).await.expect("a key");
    let id = made.credential.expect("a credential").id;
    let request = GetCredentialRequest { credential_id: id.clone(), ..Default::default() };
    let found = manager.get_credential(request).await.expect("it is found").credential;
    assert_eq!(found.expect("a credential").name, "by the client");
    let request = ListCredentialsRequest { workspace: "acme".to_owned(), ..Default::default() };
    let listed = manager.list_credentials(request).await.expect("a page").credentials;
    assert!(listed.iter().any(|credential| credential.id == id));

    let client = stage.builder().without_cache().build().expect("a client");
    let presented = Presented::new(&made.token).requiring(Scopes::READ);
    assert!(client.introspect(&presented).await.expect("an answer").is_allowed());
    let credential = Some(revoke_request::Credential::CredentialId(id));
    let request = RevokeRequest { credential, ..Default::default() };
    manager.revoke(request).await.expect("it is revoked");
    let after = client.introspect(&presented).await.expect("an answer");
    assert_eq!(after.denial(), Some(Denial::TokenRevoked));
    // Anyone who has the text of a token may revoke it.
    client.revoke_token(&stage.pat).await.expect("it is revoked");
    let pat = Presented::new(&stage.pat).in_workspace("acme");
    assert!(!client.introspect(&pat).await.expect("an answer").is_active());
}

async fn an_error_says_what_to_do(stage: Stage) {
    let (rest, last) = stage.caller_token.split_at(stage.caller_token.len() - 1);
    let stranger = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    let url = stage.h.running.grpc_url();
    let refused =
        |builder: sophic_auth_client::Builder| builder.build().expect_err("it cannot work").kind();
    assert_eq!(refused(Client::builder(&url)), ErrorKind::Config);
    assert_eq!(refused(Client::builder(&url).caller_token(stranger)), ErrorKind::Config);
    assert_eq!(refused(Client::builder(&url).caller_token(&stage.key)), ErrorKind::Config);
    let elsewhere = Client::builder("http://auth.example:7431").caller_token(&stage.caller_token);
    assert_eq!(refused(elsewhere), ErrorKind::Config);

    let client = stage.builder().without_cache().build().expect("a client");
    let request = CreateKeyRequest { workspace: "acme".to_owned(), ..Default::default() };
    let error = client.create_key(request.clone()).await.expect_err("it may not");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(error.reason(), "PERMISSION_MISSING");
    let token = caller_token(&stage.h, "manager", &[Permission::CredentialsAdmin]).await;
    let manager = Client::builder(&url).caller_token(token).without_cache().build();
    let manager = manager.expect("a client");
    let error = manager.create_key(request).await.expect_err("it lacks a name");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.violations().iter().any(|violation| violation.field == "name"), "{error:?}");
    let error = manager.introspect(&stage.reading()).await.expect_err("it may not");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let request = GetCredentialRequest {
        credential_id: "018f0000-0000-7000-8000-000000000000".to_owned(),
        ..Default::default()
    };
    let error = manager.get_credential(request).await.expect_err("there is none");
    assert_eq!((error.kind(), error.is_outage()), (ErrorKind::NotFound, false));
}

async fn an_idempotent_call_is_retried(stage: Stage) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let counters = Arc::new(Counters::default());
    let client = Client::builder(proxy.url())
        .caller_token(&stage.caller_token)
        .without_cache()
        .observer(counters.clone())
        .build()
        .expect("a client");
    assert!(client.introspect(&stage.reading()).await.expect("an answer").is_allowed());
    proxy.set(Mode::Refuse);
    proxy.cut();
    let presented = stage.reading();
    let (answer, ()) = tokio::join!(client.introspect(&presented), async {
        eventually("it is tried again", async || counters.retries.load(Ordering::Relaxed) > 0)
            .await;
        proxy.set(Mode::Pass);
    });
    assert!(answer.expect("an answer").is_allowed());
    // A call that is not idempotent is not retried.
    proxy.set(Mode::Refuse);
    proxy.cut();
    let before = counters.retries.load(Ordering::Relaxed);
    let error = client.create_key(CreateKeyRequest::default()).await.expect_err("an outage");
    assert!(error.is_outage(), "{error:?}");
    assert_eq!(counters.retries.load(Ordering::Relaxed), before);
}
