//! Floods of made-up tokens at every face: tokens in memory are answered, even above the rate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sophic_auth::grpc::pb::{
    BatchIntrospectRequest, BatchIntrospectResponse, Denial, IntrospectRequest, IntrospectResponse,
    Scope,
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
use crate::waits::{eventually, within};

on_every_store! {
    every_face_answers_from_memory_while_its_caller_is_over_its_rate,
    one_token_cannot_probe_unlimited_workspaces_at_any_face,
    a_real_token_is_revoked_over_oauth_while_its_caller_is_over_its_rate,
    made_up_service_tokens_are_bounded_by_address_at_every_face,
}

fn made_up(kind: TokenKind) -> String {
    Token::mint(kind, &OsRandom).expect("randomness").expose().to_owned()
}

/// The same, at a server that looks up one unknown token a second: a burst of two, and no more within a test.
async fn strict(scene: Scene) -> Scene {
    let h = scene.h.another(|config| config.cache.unknown_rate_max = 1).await;
    scene.h.wait_until_read_by(&h).await;
    let root = scene.root.via(&h);
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
    within("a made-up token is refused", async {
        loop {
            let answers =
                batch(&proxy, &[&known, &made_up(TokenKind::Key)]).await.expect("answers");
            assert!(answers.responses[0].allowed);
            if answers.responses[1].denial() == Denial::UnknownTokensTooMany {
                break;
            }
        }
    })
    .await;
    // Tokens in memory, singly and by the hundred, next to malformed ones.
    assert!(proxy.introspect(&known, "acme", &[]).await.allowed);
    let many = batch(&proxy, &[vec![known.as_str(); 100], vec!["misspelt", ""]].concat()).await;
    let many = many.expect("all of it is in memory").responses;
    assert_eq!(many.iter().filter(|answer| answer.allowed).count(), 100);
    let bearer = format!("Bearer {known}");
    check(&scene, described(joined(&[("authorization", &bearer)]), &[("scope", "read")]))
        .await
        .expect("a verdict");
    assert_eq!(forward_auth(&scene, &caller, &known).await.status, 200);
    let active = oauth(&scene, &format!("Bearer {caller}"), &known).await;
    assert_eq!((active.status, active.json()["active"].as_bool()), (200, Some(true)));
    // A token that is neither in memory nor in the store: a single call is refused.
    let bearer = format!("Bearer {strange}");
    let checked =
        check(&scene, described(joined(&[("authorization", &bearer)]), &[("scope", "read")])).await;
    assert_eq!(checked.expect_err("not looked up").code(), Code::ResourceExhausted);
    for reply in [
        forward_auth(&scene, &caller, &strange).await,
        oauth(&scene, &format!("Bearer {caller}"), &strange).await,
    ] {
        assert_eq!((reply.status, &*reply.header("retry-after")), (429, "1"), "{reply:?}");
    }
}

/// The reason of a call that was refused because of the rate.
fn too_many(status: &Status) -> String {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    status.get_details_error_info().expect("it says why").reason
}

async fn one_token_cannot_probe_unlimited_workspaces_at_any_face(scene: Scene) {
    let pats = [scene.pat(&[Scope::Read]).await, scene.pat(&[Scope::Read]).await];
    let scene = strict(scene).await;
    let caller = scene.caller_token.clone();
    let proxy = scene.root.with_token(&caller);
    let ask = async |token: &str, workspace: &str| {
        let (token, workspace) = (token.to_owned(), workspace.to_owned());
        let request = IntrospectRequest { token, workspace, ..Default::default() };
        proxy.auth().introspect(request).await.map(tonic::Response::into_inner)
    };
    for token in &pats {
        assert!(ask(token, "acme").await.expect("an answer").allowed);
    }
    let [flooder, other] = &pats;
    let mut names = (0..).map(|number| format!("made-up-{number}"));
    let mut name = || names.next().expect("there is no last number");
    let refused = within("a made-up workspace is refused", async {
        loop {
            match ask(flooder, &name()).await {
                Ok(answer) => assert_eq!(answer.denial(), Denial::NotAMember),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(too_many(&refused), "UNKNOWN_TOKENS_TOO_MANY");
    // Tokens in memory are answered, and so are other callers.
    assert!(ask(flooder, "acme").await.expect("it is in memory").allowed);
    let unknown = ask(other, &name()).await.expect("another token's rate");
    assert_eq!(unknown.denial(), Denial::NotAMember);
    let requests = [("acme", flooder), (&*name(), flooder), (&*name(), other)];
    let requests = requests.map(|(workspace, token)| IntrospectRequest {
        token: token.clone(),
        workspace: workspace.to_owned(),
        ..Default::default()
    });
    let request = BatchIntrospectRequest { requests: requests.to_vec() };
    let answers = proxy.auth().batch_introspect(request).await.expect("answers").into_inner();
    let denials: Vec<_> = answers.responses.iter().map(IntrospectResponse::denial).collect();
    let refused = Denial::UnknownTokensTooMany;
    assert_eq!(denials, [Denial::Unspecified, refused, Denial::NotAMember]);
    let (bearer, named) = (format!("Bearer {flooder}"), name());
    let headers = [("authorization", &*bearer), ("x-sophic-workspace", &*named)];
    let checked = check(&scene, described(joined(&headers), &[("scope", "read")])).await;
    assert_eq!(too_many(&checked.expect_err("not looked up")), "UNKNOWN_TOKENS_TOO_MANY");
    let forwarded = Call::get("/auth?scope=read")
        .header("x-sophic-auth-caller", &format!("Bearer {caller}"))
        .header("authorization", &bearer)
        .header("x-sophic-workspace", &named);
    let fields = [("token", flooder.as_str()), ("workspace", &named)];
    let form = Call::form("/oauth2/introspect", &fields)
        .header("authorization", &format!("Bearer {caller}"));
    for call in [forwarded, form] {
        let reply = call.send(scene.http()).await;
        assert_eq!((reply.status, &*reply.header("retry-after")), (429, "1"), "{reply:?}");
    }
}

async fn a_real_token_is_revoked_over_oauth_while_its_caller_is_over_its_rate(scene: Scene) {
    let elsewhere = scene.root.clone();
    let scene = strict(scene).await;
    let revoke = async |token: &str| {
        Call::form("/oauth2/revoke", &[("token", token)])
            .header("authorization", &format!("Bearer {}", scene.caller_token))
            .send(scene.http())
            .await
    };
    let refused = within("a made-up token is refused", async {
        loop {
            let reply = revoke(&made_up(TokenKind::Key)).await;
            if reply.status != 200 {
                break reply;
            }
        }
    })
    .await;
    assert_eq!((refused.status, &*refused.header("retry-after")), (429, "1"), "{refused:?}");
    // The filter may not be filled before, but it is from now on.
    let probe = elsewhere.create_key("acme", &[Scope::Read]).await.token;
    eventually("the filter is filled", async || revoke(&probe).await.status == 200).await;
    let token = elsewhere.create_key("acme", &[Scope::Read]).await.token;
    assert_eq!(revoke(&token).await.status, 200);
    assert!(!elsewhere.introspect(&token, "", &[]).await.active);
}

async fn made_up_service_tokens_are_bounded_by_address_at_every_face(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let late = caller(&scene.h, "late", &Permission::ALL).await;
    let scene = strict(scene).await;
    let known = scene.root.with_token(&scene.caller_token);
    assert!(known.introspect(&key, "acme", &[]).await.allowed);
    let made_up_caller = || scene.root.with_token(&made_up(TokenKind::Service));
    let refused = within("a made-up caller is refused", async {
        loop {
            let request = IntrospectRequest { token: key.clone(), ..Default::default() };
            let status = made_up_caller().auth().introspect(request).await.expect_err("nobody");
            if status.code() != Code::Unauthenticated {
                break status;
            }
        }
    })
    .await;
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
        // A real token that is not in memory is delayed too, for a moment.
        forward_auth(&scene, &late, &key).await,
    ] {
        assert_eq!((reply.status, &*reply.header("retry-after")), (429, "1"), "{reply:?}");
    }
    // Callers in memory continue, on new connections too.
    let again = scene.h.reconnected(&known).await;
    assert!(again.introspect(&key, "acme", &[]).await.allowed);
    assert_eq!(forward_auth(&scene, &scene.caller_token, &key).await.status, 200);
    assert_eq!(oauth(&scene, &basic(&scene.caller_token), &key).await.status, 200);
}
