//! The layer in front of an axum application: every row of the decision, and every trick with headers and paths.

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Extension, Router};
use sophic_auth::grpc::pb::revoke_request::Credential;
use sophic_auth::grpc::pb::{CreateKeyRequest, DisableRequest, PutUserRequest, Role, Scope, User};
use sophic_auth_client::{AuthLayer, ClientIp, Introspection, Scopes};

use super::stage::{Answer, NOBODYS_KEY, STRANGER, Stage, bearer, revoke, send, serve};
use crate::proxy::{Mode, Proxy};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    each_row_of_the_decision_is_answered_as_it_says,
    a_revoked_key_is_refused_through_the_layer,
    the_handler_sees_who_it_is_and_no_token,
    headers_that_can_be_read_in_two_ways_are_refused,
    paths_that_are_spelled_otherwise_open_nothing,
    the_clients_address_is_the_connections_and_not_the_headers,
    what_cannot_be_told_is_refused,
}

/// `/read`, `/capture` and `/admin`, each for its scope, and `/who`.
async fn app(auth: AuthLayer) -> SocketAddr {
    let who = |who: Extension<Introspection>, headers: http::HeaderMap| async move {
        let user = who.user_id().unwrap_or("a key").to_owned();
        format!("{user}, authorization there: {}", headers.contains_key("authorization"))
    };
    let route = |path, scopes| {
        Router::new().route(path, get(who)).route_layer(auth.clone().require(scopes))
    };
    let app = route("/read", Scopes::READ)
        .merge(route("/capture", Scopes::CAPTURE))
        .merge(route("/admin", Scopes::ADMIN))
        .merge(route("/who", Scopes::NONE));
    serve(app).await
}

async fn ask(to: SocketAddr, path: &str, token: &str, workspace: &str) -> Answer {
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

/// A refusal is a challenge and a problem (RFC 6750, RFC 9457), and nobody keeps it.
fn assert_refused(answer: &Answer, status: u16, denial: &str) {
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

async fn each_row_of_the_decision_is_answered_as_it_says(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    let root = &stage.root;
    let disabled = root.create_key("acme", &[Scope::Read]).await;
    let credential_id = disabled.credential.expect("a credential").id;
    let request = DisableRequest { credential_id, ..Default::default() };
    let can_disable = root.auth().disable(request).await.is_ok();
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "elsewhere".to_owned(),
        scopes: vec![Scope::Read.into()],
        ip_allowlist: vec!["10.0.0.0/8".to_owned()],
        ..Default::default()
    };
    let elsewhere = root.auth().create_key(request).await.expect("a key").into_inner().token;
    root.put_user("gone").await;
    root.put_membership("acme", "gone", Role::Member).await;
    let gone = root.create_pat("gone", &[Scope::Read], Role::Owner).await.token;
    let user = User {
        id: "gone".into(),
        display_name: "Gone".into(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutUserRequest { user: Some(user) };
    root.directory().put_user(request).await.expect("it is disabled");
    let revoked = root.create_key("acme", &[Scope::Read]).await.token;
    revoke(root, Credential::Token(revoked.clone())).await;

    let (key, pat) = (stage.key.as_str(), stage.pat.as_str());
    let almost = format!("{key}0");
    let mut rows = vec![
        ("/read", "", "", 401, "TOKEN_MISSING"),
        ("/read", &almost, "", 401, "TOKEN_UNKNOWN"),
        ("/read", NOBODYS_KEY, "", 401, "TOKEN_UNKNOWN"),
        ("/read", &revoked, "", 401, "TOKEN_REVOKED"),
        ("/read", &gone, "acme", 401, "PRINCIPAL_DISABLED"),
        ("/read", &elsewhere, "", 403, "IP_NOT_ALLOWED"),
        ("/read", key, "globex", 403, "WORKSPACE_MISMATCH"),
        ("/read", pat, "", 400, "WORKSPACE_REQUIRED"),
        ("/read", pat, "initech", 403, "NOT_A_MEMBER"),
        ("/read", pat, "nowhere", 403, "NOT_A_MEMBER"),
        ("/capture", key, "", 403, "USER_CREDENTIAL_REQUIRED"),
        ("/admin", key, "", 403, "INSUFFICIENT_SCOPE"),
        ("/capture", pat, "globex", 403, "INSUFFICIENT_SCOPE"),
        ("/read", key, "", 200, ""),
        ("/read", key, "acme", 200, ""),
        ("/read", key, "id-of-acme", 200, ""),
        ("/read", pat, "acme", 200, ""),
        ("/read", pat, "globex", 200, ""),
        ("/capture", pat, "acme", 200, ""),
    ];
    if can_disable {
        rows.push(("/read", &disabled.token, "", 401, "TOKEN_DISABLED"));
    }
    // Once asked, once remembered.
    for _ in 0..2 {
        for (path, token, workspace, status, denial) in &rows {
            let answer = ask(app, path, token, workspace).await;
            assert_eq!(answer.status, *status, "{path} {workspace} {denial}: {answer:?}");
            if *status != 200 {
                assert_refused(&answer, *status, denial);
            }
        }
    }
    let answer = ask(app, "/read", "", "").await;
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"sophic\"");
    let answer = ask(app, "/capture", pat, "globex").await;
    assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""));
    assert_eq!(answer.json()["missing_scopes"], serde_json::json!(["capture"]));
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
    let answer = ask(app, "/who", &stage.pat, "globex").await;
    assert_eq!(answer.body, "ada, authorization there: false");
    let answer = ask(app, "/who", &stage.key, "").await;
    assert_eq!(answer.body, "a key, authorization there: false");
}

async fn headers_that_can_be_read_in_two_ways_are_refused(stage: Stage) {
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
    // Other ways to send a token are none (RFC 6750 §2.2 and §2.3 are not taken).
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

async fn paths_that_are_spelled_otherwise_open_nothing(stage: Stage) {
    let (client, _) = stage.client().await;
    let app = app(AuthLayer::http(client)).await;
    // A key may read and not capture: however it spells the path to capture, it does not get there.
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
    // What a client put before what the proxy wrote.
    assert_eq!(ask(behind, &remote, "203.0.113.9, 198.51.100.1").await, 403);
    assert_eq!(ask(behind, &remote, "nonsense").await, 403);
}

async fn what_cannot_be_told_is_refused(stage: Stage) {
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
    // A caller that the service does not know cannot tell either.
    let stranger =
        sophic_auth_client::Client::builder(proxy.url()).caller_token(STRANGER).without_cache();
    let app = self::app(AuthLayer::http(stranger.build().expect("a client"))).await;
    assert_eq!(ask(app, "/read", &stage.key, "").await.status, 503);
}
