//! A flood of made-up tokens is the flooder's own trouble.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::grpc::pb::{BatchIntrospectRequest, Denial, IntrospectRequest, Scope};
use sophic_auth::model::{Digest, Permission};
use sophic_auth::token::{OsRandom, Token, TokenKind};
use tonic::Code;

use crate::harness::{Actor, Harness};
use crate::stores::{Fixture as _, on_every_store};
use crate::transfer::{Over, keys, legacy};

on_every_store! {
    a_flooder_is_refused_look_ups_while_others_are_answered,
    a_flood_through_a_gateway_keeps_no_customer_out,
    one_client_who_floods_does_not_use_up_what_others_have,
    what_was_imported_is_known_after_another_filling,
}

async fn a_flooder_is_refused_look_ups_while_others_are_answered(h: Harness) {
    // One unknown token an hour would be 0, so one a second it is: a burst of two, and no more within this test.
    let server = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let known = root.create_key("acme", &[Scope::Read]).await.token;
    let cold = root.create_key("acme", &[Scope::Read]).await.token;
    let flooder = h.caller("flooder", &[Permission::Introspect]).await.at(&server);
    // The word that the key was made, heard late, would evict what was read before.
    h.settled(&server).await;
    assert!(flooder.introspect(&known, "acme", &[]).await.allowed);
    let refused = loop {
        let token = Token::mint(TokenKind::Key, &OsRandom).expect("randomness").expose().to_owned();
        match flooder.auth().introspect(IntrospectRequest { token, ..Default::default() }).await {
            Ok(answer) => assert_eq!(answer.into_inner().denial(), Denial::TokenUnknown),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(flooder.introspect(&known, "acme", &[]).await.allowed, "what is in memory is answered");
    let gateway = h.gateway().await.at(&server);
    assert!(gateway.introspect(&cold, "acme", &[]).await.allowed, "others are not held up");
}

fn made_up() -> String {
    Token::mint(TokenKind::Key, &OsRandom).expect("randomness").expose().to_owned()
}

/// Whether a made-up token is looked up; if not, it was refused for there being too many.
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

/// Waits until the server's filter has this token, which was the last that was made.
async fn knows(server: &Harness, token: &str) {
    let digest = Digest::of(token);
    let known = async {
        while !server.running.service.lookup.may_know(&digest) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), known).await.expect("the filter is filled");
}

async fn a_flood_through_a_gateway_keeps_no_customer_out(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut keys = Vec::new();
    for _ in 0..200 {
        keys.push(root.create_key("acme", &[Scope::Read]).await.token);
    }
    // Neither has any of them in memory, and one unknown token a second is all that they look up for one caller.
    let flooded = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let other = h.another(|config| config.cache.unknown_rate_max = 1).await;
    let gateway = h.gateway().await;
    let (gateway, there) = (flooded.as_(&gateway), other.as_(&gateway));
    for server in [&flooded, &other] {
        knows(server, keys.last().expect("a key")).await;
    }
    for gateway in [&gateway, &there] {
        while is_looked_up(gateway).await {}
    }
    let spray = async {
        loop {
            let calls = (0..50).map(|_| is_looked_up(&gateway));
            futures::future::join_all(calls).await;
            while is_looked_up(&there).await {}
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
        // Where it was made it is known when the call returns, and elsewhere when its row of the log was read.
        let maker = flooded.as_(&root);
        for _ in 0..20 {
            let token = maker.create_key("acme", &[Scope::Read]).await.token;
            assert!(gateway.introspect(&token, "acme", &[Scope::Read]).await.allowed);
            flooded.settled(&other).await;
            assert!(there.introspect(&token, "acme", &[Scope::Read]).await.allowed);
        }
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

async fn one_client_who_floods_does_not_use_up_what_others_have(h: Harness) {
    let server = h.another(|config| config.cache.unknown_rate_max = 100).await;
    let gateway = h.gateway().await.at(&server);
    let ask = &async |client_ip: &str| {
        let client_ip = client_ip.to_owned();
        let request = IntrospectRequest { token: made_up(), client_ip, ..Default::default() };
        gateway.auth().introspect(request).await.map_err(|status| status.code())
    };
    let refused = loop {
        if let Err(code) = ask("2001:db8::1").await {
            break code;
        }
    };
    assert_eq!(refused, Code::ResourceExhausted);
    // Its neighbours in the /64 are it; others are not, whatever it sends.
    for i in 0..20 {
        assert!(ask(&format!("192.0.2.{i}")).await.is_ok());
    }
    let neighbours = (0..50).map(|i| async move { ask(&format!("2001:db8::f:{i}")).await });
    let refused = futures::future::join_all(neighbours).await;
    assert!(refused.iter().any(Result::is_err), "the /64 is one client");
}

async fn what_was_imported_is_known_after_another_filling(h: Harness) {
    let server = h.another(|config| config.options.accept_imported_tokens = true).await;
    let over = Over::set_up(Arc::clone(&h.database)).await;
    let root = h.root().await.at(&server);
    let known = root.create_key("acme", &[Scope::Read]).await.token;
    knows(&server, &known).await;
    // One row of the log for all of it, which names none of the digests.
    over.import_csv(&keys([1])).await;
    knows(&server, &legacy(1)).await;
    assert!(root.introspect(&legacy(1), "acme", &[Scope::Read]).await.allowed);
}
