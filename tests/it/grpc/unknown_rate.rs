//! A flood of made-up tokens affects only the caller that sends it.

use std::sync::Arc;

use sophic_auth::grpc::pb::{
    self, BatchIntrospectRequest, Denial, IntrospectRequest, IntrospectResponse, Scope,
};
use sophic_auth::model::{self, Digest, Permission, ScopeSet, WorkspaceName};
use sophic_auth::server::open_uncached_service;
use sophic_auth::service::{Context, CreateCredential, NewOwner, Options, Service};
use sophic_auth::token::{OsRandom, Token, TokenKind};
use tonic::Code;

use crate::harness::{Actor, Harness};
use crate::stores::{Fixture as _, on_every_store};
use crate::transfer::{Over, keys, legacy};
use crate::waits::{eventually, within};

on_every_store! {
    a_flooding_caller_is_refused_look_ups_while_others_are_answered,
    a_flood_through_a_gateway_blocks_no_customer,
    a_key_created_elsewhere_during_a_flood_is_known_at_once,
    a_batch_above_the_rate_still_answers_known_tokens,
    revoking_unknown_texts_is_bounded_too,
    one_flooding_client_does_not_use_up_the_rate_of_others,
    imported_credentials_are_known_after_the_filter_is_filled_again,
}

async fn a_flooding_caller_is_refused_look_ups_while_others_are_answered(h: Harness) {
    // The lowest rate is one a second: a burst of two, and no more within this test.
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let known = root.create_key("acme", &[Scope::Read]).await.token;
    let cold = root.create_key("acme", &[Scope::Read]).await.token;
    let flooder = h.caller("flooder", &[Permission::Introspect]).await.via(&server);
    // A late notification that the key was created would evict the entry.
    h.wait_until_read_by(&server).await;
    assert!(flooder.introspect(&known, "acme", &[]).await.allowed);
    let refused = within("a made-up token is refused", async {
        loop {
            let token =
                Token::mint(TokenKind::Key, &OsRandom).expect("randomness").expose().to_owned();
            match flooder.auth().introspect(IntrospectRequest { token, ..Default::default() }).await
            {
                Ok(answer) => assert_eq!(answer.into_inner().denial(), Denial::TokenUnknown),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(flooder.introspect(&known, "acme", &[]).await.allowed, "what is in memory is answered");
    let gateway = h.gateway().await.via(&server);
    assert!(gateway.introspect(&cold, "acme", &[]).await.allowed, "others are not held up");
}

fn made_up() -> String {
    Token::mint(TokenKind::Key, &OsRandom).expect("randomness").expose().to_owned()
}

/// Whether a made-up token is looked up. If not, it was refused because of the rate.
async fn is_looked_up(gateway: &Actor) -> bool {
    let request = IntrospectRequest { token: made_up(), ..Default::default() };
    match gateway.auth().introspect(request).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            false
        }
    }
}

/// Waits until the server's filter contains this token, which was created last.
async fn knows(server: &Harness, token: &str) {
    let digest = Digest::of(token);
    let knows = async || server.running.service.may_exist(&digest);
    eventually("the filter is filled", knows).await;
}

async fn a_flood_through_a_gateway_blocks_no_customer(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut keys = Vec::new();
    for _ in 0..200 {
        keys.push(root.create_key("acme", &[Scope::Read]).await.token);
    }
    // Neither has any of them in memory, and both look up one unknown token a second for one caller.
    let flooded = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let other = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let gateway = h.gateway().await;
    let (gateway, there) = (gateway.via(&flooded), gateway.via(&other));
    for server in [&flooded, &other] {
        knows(server, keys.last().expect("a key")).await;
    }
    for gateway in [&gateway, &there] {
        within("a made-up token is refused", async { while is_looked_up(gateway).await {} }).await;
    }
    let spray = async {
        loop {
            let calls = (0..50).map(|_| is_looked_up(&gateway));
            within("all are answered", futures::future::join_all(calls)).await;
            within("a made-up token is refused", async { while is_looked_up(&there).await {} })
                .await;
        }
    };
    let customers = async {
        for token in &keys[..100] {
            assert!(gateway.introspect(token, "acme", &[Scope::Read]).await.allowed);
        }
        let requests = keys[100..]
            .iter()
            .map(|token| IntrospectRequest { token: token.clone(), ..Default::default() });
        let request = BatchIntrospectRequest { requests: requests.collect() };
        let answers =
            gateway.auth().batch_introspect(request).await.expect("all of them are known");
        assert!(answers.into_inner().responses.iter().all(|answer| answer.active));
    };
    tokio::select! {
        () = spray => {}
        () = customers => {}
    }
    assert!(
        !is_looked_up(&there).await || !is_looked_up(&there).await,
        "the bound holds for others"
    );
}

/// Creates a credential as the command line does.
async fn create_key(operator: &Arc<Service>) -> String {
    let request = CreateCredential {
        workspaces: Vec::new(),
        owner: NewOwner::Workspace(WorkspaceName::parse("acme").expect("a name")),
        name: "ci".to_owned(),
        scopes: ScopeSet::from_scopes(&[model::Scope::Read]),
        expiration: None,
        ip_allowlist: Vec::new(),
        annotations: std::collections::BTreeMap::default(),
        acting_user: String::new(),
        request_id: String::new(),
    };
    let made = operator.create_credential(Context::operator("test"), request).await;
    made.expect("a key is made").token.expose().to_owned()
}

/// Keeps presenting made-up tokens, several at once.
async fn spray(gateway: &Actor) {
    loop {
        let calls = (0..50).map(|_| is_looked_up(gateway));
        within("all are answered", futures::future::join_all(calls)).await;
    }
}

async fn a_key_created_elsewhere_during_a_flood_is_known_at_once(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let first = root.create_key("acme", &[Scope::Read]).await.token;
    let flooded = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let gateway = h.gateway().await.via(&flooded);
    let operator =
        open_uncached_service(&h.database.location(), Options::default()).await.expect("it opens");
    knows(&flooded, &first).await;
    within("a made-up token is refused", async { while is_looked_up(&gateway).await {} }).await;
    let customers = async {
        for _ in 0..20 {
            let elsewhere = root.create_key("acme", &[Scope::Read]).await.token;
            assert!(gateway.introspect(&elsewhere, "acme", &[Scope::Read]).await.allowed);
            let by_command = create_key(&operator).await;
            assert!(gateway.introspect(&by_command, "acme", &[Scope::Read]).await.allowed);
            let many = [create_key(&operator).await, made_up()];
            let answers = batch(&gateway, &many).await;
            assert!(answers[0].active && !answers[1].active);
        }
    };
    tokio::select! {
        () = spray(&gateway) => {}
        () = customers => {}
    }
}

async fn batch(actor: &Actor, tokens: &[String]) -> Vec<IntrospectResponse> {
    let requests =
        tokens.iter().map(|token| IntrospectRequest { token: token.clone(), ..Default::default() });
    let request = BatchIntrospectRequest { requests: requests.collect() };
    actor.auth().batch_introspect(request).await.expect("answers").into_inner().responses
}

async fn a_batch_above_the_rate_still_answers_known_tokens(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let remembered = root.create_key("acme", &[Scope::Read]).await.token;
    let cold = root.create_key("acme", &[Scope::Read]).await.token;
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let gateway = h.gateway().await.via(&server);
    knows(&server, &cold).await;
    h.wait_until_read_by(&server).await;
    assert!(gateway.introspect(&remembered, "acme", &[]).await.allowed);
    within("a made-up token is refused", async { while is_looked_up(&gateway).await {} }).await;
    let asked = [remembered, made_up(), cold, "misspelt".to_owned(), made_up()];
    let answers = batch(&gateway, &asked).await;
    let denials: Vec<_> = answers.iter().map(IntrospectResponse::denial).collect();
    let (good, unknown, refused) =
        (Denial::Unspecified, Denial::TokenUnknown, Denial::UnknownTokensTooMany);
    assert_eq!(denials, [good, refused, good, unknown, refused]);
    assert!(!answers[1].active && !answers[1].allowed && answers[1].http_status == 429);
    assert_eq!(answers[1].cache_ttl.unwrap_or_default(), prost_types::Duration::default());
}

async fn revoking_unknown_texts_is_bounded_too(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let cold = root.create_key("acme", &[Scope::Read]).await.token;
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let gateway = h.gateway().await.via(&server);
    knows(&server, &cold).await;
    let revoke = async |token: String| {
        let credential = Some(pb::revoke_request::Credential::Token(token));
        let request = pb::RevokeRequest { credential, ..Default::default() };
        gateway.auth().revoke(request).await.map(tonic::Response::into_inner)
    };
    let refused = within("a made-up token is refused", async {
        loop {
            match revoke(made_up()).await {
                Ok(answer) => assert!(answer.effective_time.is_none()),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // All RPCs share one rate.
    assert!(!is_looked_up(&gateway).await);
    let elsewhere = root.create_key("acme", &[Scope::Read]).await.token;
    for token in [elsewhere, cold] {
        let answer = revoke(token.clone()).await.expect("a real token is ended");
        assert!(answer.effective_time.is_some());
        assert!(!root.introspect(&token, "", &[]).await.active);
    }
}

async fn one_flooding_client_does_not_use_up_the_rate_of_others(h: Harness) {
    let server = h.another(|config| config.cache.unknown_rate_max = 100).await;
    let gateway = h.gateway().await.via(&server);
    let ask = &async |client_ip: &str| {
        let client_ip = client_ip.to_owned();
        let request = IntrospectRequest { token: made_up(), client_ip, ..Default::default() };
        gateway.auth().introspect(request).await.map_err(|status| status.code())
    };
    let refused = within("a made-up token is refused", async {
        loop {
            if let Err(code) = ask("2001:db8::1").await {
                break code;
            }
        }
    })
    .await;
    assert_eq!(refused, Code::ResourceExhausted);
    // Addresses in the same /64 count as one client. Other clients are not affected by what this one sends.
    for i in 0..20 {
        assert!(ask(&format!("192.0.2.{i}")).await.is_ok());
    }
    let mut hosts = 0..u32::MAX;
    eventually("the /64 is one client", async || {
        // Each of them asks once.
        let neighbours = hosts.by_ref().take(50);
        let neighbours = neighbours.map(|host| async move {
            ask(&format!("2001:db8::{:x}:{:x}", host >> 16, host & 0xffff)).await
        });
        futures::future::join_all(neighbours).await.iter().any(Result::is_err)
    })
    .await;
    // It was not the rate of the caller that refused one of them.
    for i in 0..20 {
        assert!(ask(&format!("198.51.100.{i}")).await.is_ok());
    }
}

async fn imported_credentials_are_known_after_the_filter_is_filled_again(h: Harness) {
    let server = h.another(|config| config.options.accept_imported_tokens = true).await;
    let over = Over::set_up(Arc::clone(&h.database)).await;
    let root = h.root().await.via(&server);
    let known = root.create_key("acme", &[Scope::Read]).await.token;
    knows(&server, &known).await;
    // The import writes one row to the change log, without the digests.
    over.import_csv(&keys([1])).await;
    knows(&server, &legacy(1)).await;
    assert!(root.introspect(&legacy(1), "acme", &[Scope::Read]).await.allowed);
}
