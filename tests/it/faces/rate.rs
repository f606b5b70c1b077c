//! Floods of made-up tokens, by every face: what is in memory is answered, whoever is over its rate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sophic_auth::grpc::pb::{
    BatchIntrospectRequest, BatchIntrospectResponse, IntrospectRequest, Scope,
};
use sophic_auth::model::Permission;
use sophic_auth::token::{OsRandom, Token, TokenKind};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::rows::{check, described, joined};
use super::scene::{Scene, caller};
use super::wire::{Call, Reply};
use crate::harness::Actor;
use crate::stores::on_every_store;

on_every_store! {
    every_face_answers_from_memory_while_its_caller_is_over_its_rate,
    made_up_service_tokens_are_bounded_by_address_at_every_face,
}

fn made_up(kind: TokenKind) -> String {
    Token::mint(kind, &OsRandom).expect("randomness").expose().to_owned()
}

/// The same, at a server that looks one unknown token a second up: a burst of two, and no more within a test.
async fn strict(scene: Scene) -> Scene {
    let h = scene.h.another(|config| config.cache.unknown_rate_max = 1).await;
    scene.h.settled(&h).await;
    let root = scene.root.at(&h);
    Scene { h, root, ..scene }
}

async fn batch(actor: &Actor, tokens: &[&str]) -> Result<BatchIntrospectResponse, Status> {
    let requests = tokens.iter().map(|token| IntrospectRequest {
        token: (*token).to_owned(),
        workspace: "acme".to_owned(),
        ..Default::default()
    });
    let request = BatchIntrospectRequest { requests: requests.collect() };
    actor.auth().batch_introspect(request).await.map(tonic::Response::into_inner)
}

async fn forward_auth(scene: &Scene, caller: &str, token: &str) -> Reply {
    let call = Call::get("/auth?scope=read")
        .header("x-sophic-auth-caller", &format!("Bearer {caller}"))
        .header("authorization", &format!("Bearer {token}"));
    call.send(scene.http()).await
}

async fn oauth(scene: &Scene, authorization: &str, token: &str) -> Reply {
    let call = Call::form("/oauth2/introspect", &[("token", token)]);
    call.header("authorization", authorization).send(scene.http()).await
}

async fn every_face_answers_from_memory_while_its_caller_is_over_its_rate(scene: Scene) {
    let (known, strange) = (scene.key(&[Scope::Read]).await, made_up(TokenKind::Key));
    let scene = strict(scene).await;
    let caller = scene.caller_token.clone();
    let proxy = scene.root.with_token(&caller);
    assert!(proxy.introspect(&known, "acme", &[]).await.allowed);
    let refused = loop {
        match batch(&proxy, &[&known, &made_up(TokenKind::Key)]).await {
            Ok(answers) => assert_eq!(answers.responses.len(), 2),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // In memory, alone and by the hundred, beside what is refused by its spelling.
    assert!(proxy.introspect(&known, "acme", &[]).await.allowed);
    let many = batch(&proxy, &[vec![known.as_str(); 100], vec!["misspelt", ""]].concat()).await;
    let many = many.expect("all of it is in memory").responses;
    assert_eq!(many.iter().filter(|answer| answer.allowed).count(), 100);
    let bearer = format!("Bearer {known}");
    check(&scene, described(joined(&[("authorization", &bearer)]), &[])).await.expect("a verdict");
    assert_eq!(forward_auth(&scene, &caller, &known).await.status, 200);
    let active = oauth(&scene, &format!("Bearer {caller}"), &known).await;
    assert_eq!((active.status, active.json()["active"].as_bool()), (200, Some(true)));
    // Neither in memory nor among those that exist: a whole batch is refused for one.
    let one_strange = batch(&proxy, &[&known, &strange]).await.expect_err("it is not looked up");
    assert_eq!(one_strange.code(), Code::ResourceExhausted);
    let bearer = format!("Bearer {strange}");
    let checked = check(&scene, described(joined(&[("authorization", &bearer)]), &[])).await;
    assert_eq!(checked.expect_err("not looked up").code(), Code::ResourceExhausted);
    for reply in [
        forward_auth(&scene, &caller, &strange).await,
        oauth(&scene, &format!("Bearer {caller}"), &strange).await,
    ] {
        assert_eq!((reply.status, &*reply.header("retry-after")), (429, "1"), "{reply:?}");
    }
}

async fn made_up_service_tokens_are_bounded_by_address_at_every_face(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let late = caller(&scene.h, "late", &Permission::ALL).await;
    let scene = strict(scene).await;
    let known = scene.root.with_token(&scene.caller_token);
    assert!(known.introspect(&key, "acme", &[]).await.allowed);
    let made_up_caller = || scene.root.with_token(&made_up(TokenKind::Service));
    let refused = loop {
        let request = IntrospectRequest { token: key.clone(), ..Default::default() };
        let status = made_up_caller().auth().introspect(request).await.expect_err("nobody");
        if status.code() != Code::Unauthenticated {
            break status;
        }
    };
    let info = refused.get_details_error_info().expect("it says why");
    assert_eq!(info.reason, "UNKNOWN_CALLERS_TOO_MANY");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // The same limit at the other faces, from the same address.
    let basic = |token: &str| {
        let pair = format!("proxy:{token}");
        format!("Basic {}", STANDARD.encode(pair))
    };
    for reply in [
        forward_auth(&scene, &made_up(TokenKind::Service), &key).await,
        oauth(&scene, &basic(&made_up(TokenKind::Service)), &key).await,
        oauth(&scene, &format!("Bearer {}", made_up(TokenKind::Service)), &key).await,
        // A real one that memory does not have is held up too, for a moment.
        forward_auth(&scene, &late, &key).await,
    ] {
        assert_eq!((reply.status, &*reply.header("retry-after")), (429, "1"), "{reply:?}");
    }
    // Who is known from memory goes on, on new connections as well.
    let again = scene.h.reconnected(&known).await;
    assert!(again.introspect(&key, "acme", &[]).await.allowed);
    assert_eq!(forward_auth(&scene, &scene.caller_token, &key).await.status, 200);
    assert_eq!(oauth(&scene, &basic(&scene.caller_token), &key).await.status, 200);
}
