//! Disable and Enable, which unlike Revoke can be undone.

use sophic_auth::grpc::pb::{
    self, CredentialState, Denial, DisableRequest, EnableRequest, RevokeRequest, Scope,
    revoke_request,
};
use tonic::{Code, Status};

use super::refusal::refused;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_disabled_key_is_refused_at_every_server_until_it_is_enabled,
    both_are_idempotent,
    a_revoked_key_is_not_enabled,
    one_hundred_enables_that_race_revokes_end_revoked,
    a_user_who_may_not_see_a_key_cannot_disable_it,
}

async fn disable(actor: &Actor, id: &str) -> Result<pb::Credential, Status> {
    let request = DisableRequest { credential_id: id.to_owned(), ..Default::default() };
    let response = actor.auth().disable(request).await?.into_inner();
    Ok(response.credential.expect("it is given"))
}

async fn enable(actor: &Actor, id: &str) -> Result<pb::Credential, Status> {
    let request = EnableRequest { credential_id: id.to_owned(), ..Default::default() };
    let response = actor.auth().enable(request).await?.into_inner();
    Ok(response.credential.expect("it is given"))
}

async fn revoke(actor: &Actor, id: &str) -> Result<(), Status> {
    let credential = Some(revoke_request::Credential::CredentialId(id.to_owned()));
    actor.auth().revoke(RevokeRequest { credential, ..Default::default() }).await.map(drop)
}

async fn key(h: &Harness) -> (Actor, String, String) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    (root, key.credential.expect("it is given").id, key.token)
}

async fn a_disabled_key_is_refused_at_every_server_until_it_is_enabled(h: Harness) {
    let other = h.another(|_| {}).await;
    let (root, id, token) = key(&h).await;
    let there = root.via(&other);
    for _ in 0..3 {
        assert!(there.introspect(&token, "acme", &[Scope::Read]).await.allowed);
        let off = disable(&root, &id).await.expect("it is disabled");
        assert_eq!(off.state(), CredentialState::Disabled);
        let answer = there.introspect(&token, "acme", &[]).await;
        assert_eq!((answer.active, answer.denial()), (false, Denial::TokenDisabled));
        let on = enable(&root, &id).await.expect("it is enabled");
        assert_eq!((on.state(), on.disable_time), (CredentialState::Active, None));
        h.wait_until_read_by(&other).await;
    }
}

async fn both_are_idempotent(h: Harness) {
    let (root, id, _) = key(&h).await;
    let fresh = enable(&root, &id).await.expect("it is on already");
    let first = disable(&root, &id).await.expect("it is disabled");
    assert_ne!(first.etag, fresh.etag);
    assert_eq!(disable(&root, &id).await.expect("it is disabled"), first);
    let on = enable(&root, &id).await.expect("it is enabled");
    assert_eq!(enable(&root, &id).await.expect("it is enabled"), on);
}

async fn a_revoked_key_is_not_enabled(h: Harness) {
    let (root, id, token) = key(&h).await;
    disable(&root, &id).await.expect("it is disabled");
    revoke(&root, &id).await.expect("it is revoked");
    let outcome = enable(&root, &id).await;
    assert_eq!(refused(outcome), (Code::FailedPrecondition, "CREDENTIAL_REVOKED".to_owned()));
    // It is disabled, as requested.
    let off = disable(&root, &id).await.expect("it is off");
    assert_eq!(off.state(), CredentialState::Revoked);
    assert_eq!(root.introspect(&token, "acme", &[]).await.denial(), Denial::TokenRevoked);
}

async fn one_hundred_enables_that_race_revokes_end_revoked(h: Harness) {
    let (root, id, token) = key(&h).await;
    disable(&root, &id).await.expect("it is disabled");
    let mut racing = Vec::new();
    for number in 0..100 {
        let (root, id) = (root.clone(), id.clone());
        racing.push(tokio::spawn(async move {
            if number % 2 == 0 {
                enable(&root, &id).await.map(drop)
            } else {
                revoke(&root, &id).await
            }
        }));
    }
    for (number, task) in racing.into_iter().enumerate() {
        let outcome = task.await.expect("it ends");
        if number % 2 == 1 {
            outcome.expect("revoking always succeeds");
        } else if let Err(status) = outcome {
            assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        }
    }
    assert_eq!(root.introspect(&token, "acme", &[]).await.denial(), Denial::TokenRevoked);
}

async fn a_user_who_may_not_see_a_key_cannot_disable_it(h: Harness) {
    let (root, id, token) = key(&h).await;
    root.put_user("eve").await;
    let dashboard = h.dashboard().await;
    let off = DisableRequest {
        credential_id: id.clone(),
        acting_user: "eve".to_owned(),
        ..Default::default()
    };
    let outcome = dashboard.auth().disable(off).await;
    assert_eq!(refused(outcome), (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned()));
    let on = EnableRequest { credential_id: id, ..Default::default() };
    let outcome = dashboard.auth().enable(on).await;
    assert_eq!(refused(outcome), (Code::PermissionDenied, "ACTING_USER_REQUIRED".to_owned()));
    assert!(root.introspect(&token, "acme", &[]).await.allowed);
}
