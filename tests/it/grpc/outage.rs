//! A store that is gone: answers from memory while the lease holds, and then the truth, which is that nobody can tell.
//! On Postgres: a file does not go away.

use std::time::Duration;

use sophic_auth::grpc::pb::{IntrospectRequest, IntrospectResponse, Scope};
use tonic::Code;

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture as _};

const LEASE: Duration = Duration::from_secs(1);

struct Outage {
    server: Harness,
    gateway: Actor,
    key: String,
}

/// A server with a key in its memory, and its database gone.
async fn outage(grace: Duration) -> Outage {
    let h = Harness::set_up(Database::postgres().await.into()).await;
    let server = h
        .another(|config| {
            config.cache.lease = LEASE;
            config.cache.outage_grace = grace;
        })
        .await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let gateway = h.gateway().await.at(&server);
    assert!(gateway.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    h.settled(&server).await;
    // What was read again after the last change is in memory, and is from now on.
    assert!(gateway.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    h.running.stop().await;
    h.database.cut_off().await;
    Outage { server, gateway, key }
}

impl Outage {
    async fn ask(&self, token: &str) -> Result<IntrospectResponse, tonic::Status> {
        let request = IntrospectRequest { token: token.to_owned(), ..Default::default() };
        self.gateway.auth().introspect(request).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_store_a_server_answers_for_a_lease_and_then_says_that_it_cannot_tell() {
    let outage = outage(Duration::ZERO).await;
    let refused = loop {
        match outage.ask(&outage.key).await {
            Ok(answer) => assert!(answer.allowed && !answer.stale, "never no because of a fault"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    outage.server.database.let_in().await;
    // It finds back by itself.
    loop {
        match outage.ask(&outage.key).await {
            Ok(answer) => break assert!(answer.allowed && !answer.stale),
            Err(status) => assert_eq!(status.code(), Code::Unavailable),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_grace_it_goes_on_with_what_it_knew_and_says_so() {
    let outage = outage(Duration::from_secs(3_600)).await;
    loop {
        let answer = outage.ask(&outage.key).await.expect("an answer");
        assert!(answer.allowed);
        if answer.stale {
            break;
        }
    }
    // What it never knew, it cannot tell.
    let token = sophic_auth::token::Token::mint(
        sophic_auth::token::TokenKind::Key,
        &sophic_auth::token::OsRandom,
    );
    let unknown = outage.ask(token.expect("randomness").expose()).await.expect_err("no answer");
    assert_eq!(unknown.code(), Code::Unavailable);
    // And whoever wants no old answers gets none.
    let token = outage.key.clone();
    let request = IntrospectRequest { token, fresh: true, ..Default::default() };
    let fresh = outage.gateway.auth().introspect(request).await.expect_err("no fresh answer");
    assert_eq!(fresh.code(), Code::Unavailable);
}
