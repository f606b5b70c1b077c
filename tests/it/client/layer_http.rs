//! The layer in front of an axum application: malformed and ambiguous headers and paths. `rows.rs` tests the rows of
//! the decision table.

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Extension, Router};
use sophic_auth::grpc::pb::{CreateKeyRequest, Scope};
use sophic_auth_client::{AuthLayer, ClientIp, Introspection, Scopes};

use super::stage::{Answer, NOBODYS_KEY, STRANGER, Stage, bearer, send, serve};
use crate::proxy::{Mode, Proxy};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    a_revoked_key_is_refused_through_the_layer,
    the_handler_sees_who_it_is_and_no_token,
    a_route_without_a_scope_lets_nobody_through_unless_it_says_so,
    ambiguous_headers_are_refused,
    other_spellings_of_a_path_bypass_nothing,
    the_clients_address_is_the_connections_and_not_the_headers,
    an_http_service_refuses_requests_during_an_outage,
}

/// `/read`, `/capture` and `/admin`, each of which requires its scope, `/who`, which admits every identity, and
/// `/forgotten` and `/none`, which require none by mistake.
async fn app(auth: AuthLayer) -> SocketAddr {
    let who = |who: Extension<Introspection>, headers: http::HeaderMap| async move {
        let user = who.user_id().unwrap_or("a key").to_owned();
        let allowed = who.is_allowed();
        let there = headers.contains_key("authorization");
        format!("{user}, allowed: {allowed}, authorization there: {there}")
    };
    let route = |path, layer| Router::new().route(path, get(who)).route_layer(layer);
    let require = |scopes| auth.clone().require(scopes);
    let app = route("/read", require(Scopes::READ))
        .merge(route("/capture", require(Scopes::CAPTURE)))
        .merge(route("/admin", require(Scopes::ADMIN)))
        .merge(route("/who", auth.clone().admit_identity_only()))
        .merge(route("/forgotten", auth.clone()))
        .merge(route("/none", auth.clone().require_by(|_| Scopes::NONE)));
    serve(app).await
}

pub(super) async fn ask(to: SocketAddr, path: &str, token: &str, workspace: &str) -> Answer {
    let authorization = bearer(token);
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    if !token.is_empty() {
        headers.push(("Authorization", &authorization));
    }
    if !workspace.is_empty() {
        headers.push(("X-Sophic-Workspace", workspace.as_bytes()));
    }
    send(to, &format!("GET {path}"), &headers, "").await
}

/// Checks that a refusal has a challenge and a problem body (RFC 6750, RFC 9457), and is not cacheable.
pub(super) fn assert_refused(answer: &Answer, status: u16, denial: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"sophic\""), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("cache-control"), "no-store");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["denial"], denial, "{answer:?}");
    assert!(problem["type"].is_string() && problem["title"].is_string());
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
}

async fn a_revoked_key_is_refused_through_the_layer(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    for _ in 0..10 {
        assert_eq!(ask(app, "/read", &stage.key, "").await.status, 200);
    }
    stage.revoke_key().await;
    within("a revoked key is refused", async {
        loop {
            let answer = ask(app, "/read", &stage.key, "").await;
            if answer.status != 200 {
                assert_refused(&answer, 401, "TOKEN_REVOKED");
                break;
            }
        }
    })
    .await
}

async fn the_handler_sees_who_it_is_and_no_token(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    let answer = ask(app, "/read", &stage.pat, "globex").await;
    assert_eq!(answer.body, "ada, allowed: true, authorization there: false");
    let answer = ask(app, "/read", &stage.key, "").await;
    assert_eq!(answer.body, "a key, allowed: true, authorization there: false");
}

async fn a_route_without_a_scope_lets_nobody_through_unless_it_says_so(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    for path in ["/forgotten", "/none"] {
        for (token, workspace) in [(&stage.key, ""), (&stage.pat, "acme"), (&String::new(), "")] {
            let answer = ask(app, path, token, workspace).await;
            if token.is_empty() {
                assert_refused(&answer, 401, "TOKEN_MISSING");
                continue;
            }
            assert_eq!(answer.status, 500, "{path}: {answer:?}");
            assert_eq!(answer.json()["reason"], "NO_SCOPE_REQUIRED");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    // One that admits identities tells the service behind it that nothing is allowed.
    let answer = ask(app, "/who", &stage.pat, "globex").await;
    assert_eq!(answer.body, "ada, allowed: false, authorization there: false");
    assert_refused(&ask(app, "/who", &stage.pat, "initech").await, 403, "NOT_A_MEMBER");
    assert_refused(&ask(app, "/who", NOBODYS_KEY, "").await, 401, "TOKEN_UNKNOWN");
}

async fn ambiguous_headers_are_refused(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    let good = stage.key.as_bytes();
    let with = |before: &[u8], after: &[u8]| [before, good, after].concat();
    for scheme in [&b"Bearer "[..], b"bearer ", b"BEARER ", b"bEaReR "] {
        let value = with(scheme, b"");
        let answer = send(app, "GET /read", &[("Authorization", &value)], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let bad = [
        with(b"Bearer \t", b""),
        with(b"Bearer\t", b""),
        with(b"Bearer \t", b""),
        with(b"Bearer ", b" x"),
        with(b"Bearer ", b",x"),
        with(b"Bearer x, Bearer ", b""),
        with(b"Bearer \xef\xbb\xbf", b""),
        with(b"Bearer ", b"\xff"),
        with(b"Bearer:", b""),
        with(b"Bearer \"", b"\""),
        with(b"", b""),
        with(b"Token ", b""),
        with(b"Basic ", b""),
        b"Bearer".to_vec(),
        b"Bearer ".to_vec(),
        b"\xff\xfe".to_vec(),
        b"".to_vec(),
    ];
    for value in &bad {
        let answer = send(app, "GET /read", &[("Authorization", value)], "").await;
        assert_eq!(answer.status, 401, "{}: {answer:?}", value.escape_ascii());
        assert!(!answer.body.contains("sophic_key_") && !answer.body.contains(&stage.key));
    }
    let value = with(b"Bearer ", b"");
    let twice: [&[(&str, &[u8])]; 3] = [
        &[("Authorization", &value), ("Authorization", &value)],
        &[("Authorization", &value), ("authorization", b"Bearer x")],
        &[("Authorization", b"Basic eDp5"), ("AUTHORIZATION", &value)],
    ];
    for headers in twice {
        assert_eq!(send(app, "GET /read", headers, "").await.status, 401, "{headers:?}");
    }
    // Other ways to send a token are not supported (RFC 6750 §2.2 and §2.3).
    let query = format!("GET /read?access_token={}", stage.key);
    assert_eq!(send(app, &query, &[], "").await.status, 401);
    let others: [(&str, &[u8]); 3] =
        [("Proxy-Authorization", &value), ("Authorization-Bin", &value), ("Cookie", &value)];
    assert_eq!(send(app, "GET /read", &others, "").await.status, 401);
    let huge = with(b"Bearer ", &[b'x'; 8 * 1024]);
    let answer = send(app, "GET /read", &[("Authorization", &huge)], "").await;
    assert!([401, 431].contains(&answer.status), "{answer:?}");

    let pat = bearer(&stage.pat);
    let named = |values: &[&'static [u8]]| {
        let mut headers: Vec<(&'static str, Vec<u8>)> = vec![("Authorization", pat.clone())];
        headers.extend(values.iter().map(|value| ("X-Sophic-Workspace", value.to_vec())));
        headers
    };
    let workspaces: [(&[&'static [u8]], u16); 8] = [
        (&[b"acme"], 200),
        (&[b"acme", b"globex"], 400),
        (&[b"acme", b"acme"], 400),
        (&[b"acme,globex"], 400),
        (&[b""], 400),
        (&[b"\xff"], 400),
        (&[b"../acme"], 403),
        (&[b"ACME"], 403),
    ];
    for (values, status) in workspaces {
        let headers = named(values);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &value[..])).collect();
        let answer = send(app, "GET /read", &headers, "").await;
        assert_eq!(answer.status, status, "{values:?}: {answer:?}");
    }
}

async fn other_spellings_of_a_path_bypass_nothing(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    // A key may read but not capture. No spelling of the path lets it capture.
    let paths = [
        "/read/../capture",
        "//capture",
        "/read//../capture",
        "/%63apture",
        "/read/%2e%2e/capture",
        "/read/..%2fcapture",
        "/read\\..\\capture",
        "/CAPTURE",
        "/capture/",
        "/capture;x=/read",
        "/capture%00",
        "/capture?/read",
        "/capture#/read",
        "/./capture",
    ];
    for path in paths {
        for token in ["", stage.key.as_str()] {
            let answer = ask(app, path, token, "").await;
            assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        }
    }
    let whole = "GET http://test/capture";
    let authorization = bearer(&stage.key);
    let answer = send(app, whole, &[("Authorization", &authorization)], "").await;
    assert_refused(&answer, 403, "USER_CREDENTIAL_REQUIRED");
}

async fn the_clients_address_is_the_connections_and_not_the_headers(stage: Stage) {
    let here = |allowlist: &str| {
        let request = CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: "from somewhere".to_owned(),
            scopes: vec![Scope::Read.into()],
            ip_allowlist: vec![allowlist.to_owned()],
            ..Default::default()
        };
        let root = stage.root.clone();
        async move { root.auth().create_key(request).await.expect("a key").into_inner().token }
    };
    let (local, remote) = (here("127.0.0.0/8").await, here("203.0.113.0/24").await);
    let (client, _) = stage.client().await;
    let direct = app(AuthLayer::http(client.clone())).await;
    let behind = app(AuthLayer::http(client).client_ip(ClientIp::forwarded_for(1))).await;
    let ask = async |to, token: &str, forwarded: &str| {
        let authorization = bearer(token);
        let headers: [(&str, &[u8]); 2] =
            [("Authorization", &authorization), ("X-Forwarded-For", forwarded.as_bytes())];
        send(to, "GET /read", &headers, "").await.status
    };
    assert_eq!(ask(direct, &local, "203.0.113.9").await, 200);
    assert_eq!(ask(direct, &remote, "203.0.113.9").await, 403);
    assert_eq!(ask(behind, &remote, "203.0.113.9").await, 200);
    assert_eq!(ask(behind, &remote, "198.51.100.1, 203.0.113.9").await, 200);
    // The client sent an entry before the one that the proxy appended.
    assert_eq!(ask(behind, &remote, "203.0.113.9, 198.51.100.1").await, 403);
    assert_eq!(ask(behind, &remote, "nonsense").await, 403);
}

async fn an_http_service_refuses_requests_during_an_outage(stage: Stage) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder = sophic_auth_client::Client::builder(proxy.url())
        .caller_token(&stage.caller_token)
        .without_cache();
    let app = app(AuthLayer::http(builder.build().expect("a client"))).await;
    assert_eq!(ask(app, "/read", &stage.key, "").await.status, 200);
    proxy.set(Mode::Refuse);
    proxy.cut();
    let answer = ask(app, "/read", &stage.key, "").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.json()["reason"], "AUTHORIZATION_UNAVAILABLE");
    proxy.set(Mode::Pass);
    within("the service can be asked again", async {
        while ask(app, "/read", &stage.key, "").await.status != 200 {}
    })
    .await;
    // A caller that the service does not know gets no answers either.
    let stranger =
        sophic_auth_client::Client::builder(proxy.url()).caller_token(STRANGER).without_cache();
    let app = self::app(AuthLayer::http(stranger.build().expect("a client"))).await;
    assert_eq!(ask(app, "/read", &stage.key, "").await.status, 503);
}
