//! Every row of the decision table (DESIGN §3) through every face: one verdict.

use std::collections::HashMap;

use serde_json::{Value, json};
use sophic_auth::decision::Decision;
use sophic_auth::grpc::envoy::config::core::v3 as core;
use sophic_auth::grpc::envoy::service::auth::v3 as auth;
use sophic_auth::grpc::pb::{self, Scope};
use tonic::Request;

use super::proxies::Proxy;
use super::scene::{Row, Scene};
use super::wire::Call;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_has_the_same_verdict_through_every_face() {
    let scene = Scene::on_sqlite().await;
    let proxies = Proxy::all(&scene).await;
    for row in scene.rows().await {
        grpc(&scene, &row).await;
        oauth(&scene, &row).await;
        forward_auth(&scene, &row).await;
        ext_authz(&scene, &row).await;
        for proxy in &proxies {
            through(proxy, &row).await;
        }
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Unspecified => "",
        Scope::Read => "read",
        Scope::Capture => "capture",
        Scope::Admin => "admin",
    }
}

async fn grpc(scene: &Scene, row: &Row) {
    let request = pb::IntrospectRequest {
        token: row.token.clone(),
        workspace: row.workspace.to_owned(),
        required_scopes: vec![row.scope.into()],
        client_ip: "127.0.0.1".to_owned(),
        ..Default::default()
    };
    let answer = scene.root.auth().introspect(request).await.expect("an answer").into_inner();
    let denial = answer.denial().as_str_name();
    let denial = denial.strip_prefix("DENIAL_").expect("a prefix").replace("UNSPECIFIED", "");
    assert_eq!(answer.http_status, i32::from(row.status()), "gRPC, {row:?}");
    assert_eq!(denial, row.denial(), "gRPC, {row:?}");
}

/// What is not active is all the same to RFC 7662, and no token is no request.
async fn oauth(scene: &Scene, row: &Row) {
    let fields = [
        ("token", row.token.as_str()),
        ("workspace", row.workspace),
        ("scope", scope_name(row.scope)),
        ("client_ip", "127.0.0.1"),
    ];
    let call = Call::form("/oauth2/introspect", &fields)
        .header("authorization", &format!("Bearer {}", scene.caller_token));
    let reply = call.send(scene.http()).await;
    if row.token.is_empty() {
        assert_eq!(reply.status, 400, "RFC 7662, {row:?}");
        return;
    }
    let view = reply.json();
    if row.status() == 401 {
        assert_eq!(view, json!({"active": false}), "RFC 7662, {row:?}");
        return;
    }
    assert_eq!(view["active"], true, "RFC 7662, {row:?}");
    assert_eq!(view["allowed"], row.denial.is_none(), "RFC 7662, {row:?}");
    assert_eq!(view["http_status"], row.status(), "RFC 7662, {row:?}");
    let denial = view.get("denial").and_then(Value::as_str).unwrap_or_default();
    assert_eq!(denial, row.denial(), "RFC 7662, {row:?}");
}

async fn forward_auth(scene: &Scene, row: &Row) {
    let query = format!("?scope={}&client_ip_header=x-real-ip", scope_name(row.scope));
    let call = row.presented_by(scene.ask(&query)).header("x-real-ip", "127.0.0.1");
    let reply = call.send(scene.http()).await;
    assert_eq!(reply.status, row.status(), "forward-auth, {row:?}");
    assert_eq!(reply.header("x-sophic-denial"), row.denial(), "forward-auth, {row:?}");
}

/// A request as Envoy describes it, from 127.0.0.1.
pub(super) fn described(
    http: auth::attribute_context::HttpRequest,
    extensions: &[(&str, &str)],
) -> auth::AttributeContext {
    let socket = core::SocketAddress { address: "127.0.0.1".to_owned() };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    auth::AttributeContext {
        source: Some(auth::attribute_context::Peer { address: Some(address) }),
        request: Some(auth::attribute_context::Request { http: Some(http) }),
        context_extensions: owned(extensions),
    }
}

/// Asks as Envoy would.
pub(super) async fn check(
    scene: &Scene,
    attributes: auth::AttributeContext,
) -> Result<auth::CheckResponse, tonic::Status> {
    let channel = tonic::transport::Channel::from_shared(scene.h.running.grpc_url());
    let channel = channel.expect("a URL").connect().await.expect("the server accepts");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it is connected");
    let mut request = Request::new(auth::CheckRequest { attributes: Some(attributes) });
    let bearer = format!("Bearer {}", scene.caller_token).parse().expect("a header");
    request.metadata_mut().insert("authorization", bearer);
    let path = http::uri::PathAndQuery::from_static("/envoy.service.auth.v3.Authorization/Check");
    let codec = tonic_prost::ProstCodec::default();
    client.unary(request, path, codec).await.map(tonic::Response::into_inner)
}

/// Headers as Envoy joins them.
pub(super) fn joined(headers: &[(&str, &str)]) -> auth::attribute_context::HttpRequest {
    auth::attribute_context::HttpRequest { headers: owned(headers), header_map: None }
}

fn owned(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn ext_authz(scene: &Scene, row: &Row) {
    let bearer = format!("Bearer {}", row.token);
    let mut headers = Vec::new();
    if !row.token.is_empty() {
        headers.push(("authorization", bearer.as_str()));
    }
    if !row.workspace.is_empty() {
        headers.push(("x-sophic-workspace", row.workspace));
    }
    let attributes = described(joined(&headers), &[("scope", scope_name(row.scope))]);
    let response = check(scene, attributes).await.expect("a verdict");
    let verdict = match response.http_response.expect("it says how") {
        auth::check_response::HttpResponse::OkResponse(_) => (200, String::new()),
        auth::check_response::HttpResponse::DeniedResponse(denied) => {
            let problem: Value = serde_json::from_str(&denied.body).expect("a problem body");
            let denial = problem["denial"].as_str().expect("a word").to_owned();
            (denied.status.expect("a status").code, denial)
        }
    };
    assert_eq!(verdict, (i32::from(row.status()), row.denial().to_owned()), "ext_authz, {row:?}");
}

async fn through(proxy: &Proxy, row: &Row) {
    let before = proxy.upstream.requests();
    let reply = proxy.ask(row).await;
    let (name, got) = (proxy.name, proxy.upstream.requests() - before);
    assert_eq!(reply.status, row.status(), "{name}, {row:?}: {reply:?}\n{}", proxy.process.log());
    assert_eq!(got, usize::from(row.denial.is_none()), "{name}, {row:?}");
    if row.denial.is_none() {
        return;
    }
    assert_eq!(reply.json()["denial"], row.denial(), "{name}, {row:?}");
    assert_eq!(reply.json()["status"], row.status(), "{name}, {row:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json", "{name}, {row:?}");
    assert_eq!(reply.header("cache-control"), "no-store", "{name}, {row:?}");
    let challenge = reply.header("www-authenticate");
    let refused = Decision::refused(row.denial.expect("a denial"));
    let direct = sophic_auth::decision::www_authenticate(
        &Decision { lack: row.lack(), ..refused },
        [row.scope].into_iter().filter_map(model_scope).collect(),
    );
    assert_eq!(challenge, direct, "{name}, {row:?}");
}

fn model_scope(scope: Scope) -> Option<sophic_auth::model::Scope> {
    scope_name(scope).parse().ok()
}
