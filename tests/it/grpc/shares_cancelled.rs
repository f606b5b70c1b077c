//! A cancelled request keeps its caller's permit for as long as the server still works on it.

use std::time::Duration;

use futures::future::join_all;
use sophic_auth::grpc::pb::{self, GetCredentialRequest, RevokeRequest, Scope, revoke_request};
use sophic_auth::model::Permission;
use sophic_auth::service::RequestLimits;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;

use super::retried::freeze;
use super::shares::{asks, over_http};
use crate::faces::wire::Call;
use crate::harness::{Actor, Harness};
use crate::stores::{self, Database, on_every_store};
use crate::waits::{eventually, within};

on_every_store! { a_cancelled_management_call_keeps_its_permit_until_its_task_has_ended }

/// A server of which one caller may have 4 requests in flight, without a time limit.
async fn narrow(h: &Harness) -> Harness {
    let limits = RequestLimits { requests_max: 8, request_timeout: Duration::ZERO };
    h.another(|config| config.limits = limits).await
}

/// Asks several times, because the server may take a moment to notice that a request was cancelled.
async fn is_refused(server: &Harness, actor: &Actor) {
    for _ in 0..20 {
        assert!(!asks(actor).await, "the caller has a permit");
    }
    assert_eq!(over_http(server, actor).await, 429);
}

/// Waits until all four permits of the caller are free.
async fn has_all_permits(actor: &Actor) {
    eventually("all permits are free", async || {
        join_all((0..4).map(|_| asks(actor))).await.into_iter().all(|asked| asked)
    })
    .await;
}

async fn a_cancelled_management_call_keeps_its_permit_until_its_task_has_ended(h: Harness) {
    let server = narrow(&h).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(root.create_key("acme", &[Scope::Read]).await);
    }
    let permissions = [Permission::Introspect, Permission::CredentialsAdmin];
    let many = server.caller("many", &permissions).await;
    let other = server.caller("other", &[Permission::Introspect]).await;
    // The barrier passes for none of its calls.
    let (mut feed, id) = freeze(&h).await;
    let mut calls = JoinSet::new();
    for key in &keys[..2] {
        let (many, token) = (many.clone(), key.token.clone());
        calls.spawn(async move {
            let credential = Some(revoke_request::Credential::Token(token));
            let request = RevokeRequest { credential, ..Default::default() };
            drop(many.auth().revoke(request).await);
        });
    }
    for key in &keys[2..] {
        let header = many.authorization().expect("a token");
        let call = Call::form("/oauth2/revoke", &[("token", &key.token)]);
        let (call, http) = (call.header("authorization", &header), server.running.http);
        calls.spawn(async move { drop(call.send(http).await) });
    }
    for key in &keys {
        let id = key.credential.as_ref().expect("a credential").id.clone();
        eventually("its task has committed", async || is_revoked(&root, &id).await).await;
    }
    calls.shutdown().await;
    is_refused(&server, &many).await;
    assert!(asks(&other).await);
    assert_eq!(over_http(&server, &other).await, 200);
    feed.deregister(id).await.expect("it takes leave");
    has_all_permits(&many).await;
    within("nothing is in flight", server.running.stop()).await;
}

async fn is_revoked(root: &Actor, id: &str) -> bool {
    let request = GetCredentialRequest { credential_id: id.to_owned(), ..Default::default() };
    let found = root.auth().get_credential(request).await.expect("it is there").into_inner();
    found.credential.expect("it is given").state() == pb::CredentialState::Revoked
}

/// Postgres only: a read of a file waits for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_introspection_keeps_its_permit_until_its_read_has_ended() {
    let database = Database::postgres().await;
    stores::run(database, cancelled_introspections).await;
}

async fn cancelled_introspections(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(root.create_key("acme", &[Scope::Read]).await.token);
    }
    // Has none of the credentials in memory, but both callers.
    let server = narrow(&h).await;
    let many = server.caller("many", &[Permission::Introspect]).await;
    let other = server.caller("other", &[Permission::Introspect]).await;
    assert!(asks(&many).await && asks(&other).await);
    // Not in the transaction, which would see the activity of its start only.
    let mut watching = PgConnection::connect(&h.database.url()).await.expect("it connects");
    let mut locking = PgConnection::connect(&h.database.url()).await.expect("it connects");
    let mut locking = locking.begin().await.expect("it begins");
    locking.execute("LOCK TABLE credentials").await.expect("it is locked");
    let mut calls = JoinSet::new();
    for token in tokens {
        let many = many.clone();
        calls.spawn(async move { drop(many.introspect(&token, "acme", &[]).await) });
    }
    // The look-ups only: background work waits too.
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock' \
                   AND query LIKE '%counter.revision, c.digest,%'";
    eventually("four reads wait", async || {
        let count = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watching).await;
        count.expect("a count") == 4
    })
    .await;
    calls.shutdown().await;
    is_refused(&server, &many).await;
    assert!(asks(&other).await);
    locking.rollback().await.expect("it is unlocked");
    has_all_permits(&many).await;
    within("nothing is in flight", server.running.stop()).await;
}
