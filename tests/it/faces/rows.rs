//! The decision table through every face of the server, through real proxies, and on the command line.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sophic_auth::grpc::envoy::config::core::v3 as core;
use sophic_auth::grpc::envoy::service::auth::v3 as auth;
use sophic_auth::grpc::pb::introspect_response::Principal;
use sophic_auth::grpc::pb::{self, Role, RoleCap, Scope};
use tonic::Request;

use super::proxies::Proxy;
use super::restricted::STRICT;
use super::scene::Scene;
use super::table::{Face, FaceAnswer, HERE, Row, compare, names, run};
use super::wire::Call;
use crate::cli::program::{self, Program};
use crate::stores::on_every_store;

on_every_store! {
    every_row_gets_its_decision_through_every_face,
    every_row_gets_its_decision_on_the_command_line,
}

async fn every_row_gets_its_decision_through_every_face(scene: Scene) {
    let rows = scene.rows().await;
    run(&Grpc(&scene), &rows, rows.len()).await;
    batch(&scene, &rows).await;
    run(&OAuth(&scene), &rows, rows.len()).await;
    run(&ForwardAuth(&scene), &rows, rows.len() - 2).await;
    run(&ExtAuthz(&scene), &rows, rows.len() - 2).await;
}

async fn every_row_gets_its_decision_on_the_command_line(scene: Scene) {
    let rows = scene.rows().await;
    let program = Program { database: Arc::clone(&scene.h.database) };
    run(&CommandLine(program), &rows, rows.len() - 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_gets_its_decision_through_every_proxy() {
    let scene = Scene::on_sqlite().await;
    let rows = scene.rows().await;
    for proxy in Proxy::all(&scene).await {
        run(&proxy, &rows, 50).await;
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let values = value.as_array()?.iter();
    Some(values.map(|value| value.as_str().expect("a word").to_owned()).collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

struct Grpc<'a>(&'a Scene);

fn request(row: &Row) -> pb::IntrospectRequest {
    pb::IntrospectRequest {
        token: row.token.clone(),
        workspace: row.workspace.to_owned(),
        required_scopes: row.scopes.iter().map(|scope| (*scope).into()).collect(),
        client_ip: row.client_ip.to_owned(),
        ..Default::default()
    }
}

/// Reads an answer, and asserts that an inactive token and a foreign workspace reveal nothing.
pub(crate) fn face_answer(row: &Row, answer: &pb::IntrospectResponse) -> FaceAnswer {
    let denial = answer.denial().as_str_name().strip_prefix("DENIAL_").expect("a prefix");
    let active = row.status() != 401;
    assert_eq!((answer.active, answer.allowed), (active, row.denial.is_none()), "{row:?}");
    assert_eq!(answer.principal.is_some(), active, "{row:?}");
    assert_eq!(answer.credential.is_some(), active, "{row:?}");
    let workspace = answer.workspace.as_ref().map(|it| (it.slug.as_str(), it.id.as_str()));
    match row.denial() {
        "WORKSPACE_REQUIRED" | "NOT_A_MEMBER" => assert_eq!(workspace, None, "{row:?}"),
        // A member may know the workspace, so that a cache knows what the answer depends on.
        "PAT_NOT_PERMITTED" => {
            assert_eq!(workspace, Some((STRICT, "id-of-strict")), "{row:?}");
        }
        "WORKSPACE_NOT_GRANTED" if row.workspace == STRICT => {
            assert_eq!(workspace, Some((STRICT, "id-of-strict")), "{row:?}");
        }
        // The workspace of a key is always its own.
        _ if active && row.denial() != "IP_NOT_ALLOWED" => {
            assert_eq!(workspace, Some(("acme", "id-of-acme")), "{row:?}");
        }
        _ if !active => assert_eq!(workspace, None, "{row:?}"),
        _ => {}
    }
    if let Some(user) = row.user {
        let credential = answer.credential.as_ref().expect("which");
        assert_eq!(credential.kind(), pb::CredentialKind::Pat, "{row:?}");
        assert!(matches!(&answer.principal, Some(Principal::User(who)) if who.id == user));
    }
    assert!(!answer.identity_only, "{row:?}");
    let refused_there = ["NOT_A_MEMBER", "WORKSPACE_NOT_GRANTED", "PAT_NOT_PERMITTED"];
    let nowhere = !active || refused_there.contains(&row.denial());
    assert!(!nowhere || answer.scopes.is_empty(), "{row:?}: {answer:?}");
    let list = |scopes: Vec<Scope>| Some(names(&scopes).into_iter().map(str::to_owned).collect());
    let role = match answer.role() {
        Role::Unspecified => String::new(),
        role => role.as_str_name().strip_prefix("ROLE_").expect("a prefix").to_lowercase(),
    };
    let cap = match answer.role_capped_by() {
        RoleCap::Unspecified => String::new(),
        cap => cap.as_str_name().strip_prefix("ROLE_CAP_").expect("a prefix").to_lowercase(),
    };
    FaceAnswer {
        status: u16::try_from(answer.http_status).expect("a status"),
        denial: Some(denial.replace("UNSPECIFIED", "")),
        challenge: Some(answer.www_authenticate.clone()),
        missing: list(answer.missing_scopes().collect()),
        token_lacks: list(answer.token_lacks_scopes().collect()),
        role_lacks: list(answer.role_lacks_scopes().collect()),
        granted: list(answer.scopes().collect()),
        role: Some((role, cap)),
    }
}

impl Face for Grpc<'_> {
    fn name(&self) -> String {
        "gRPC".to_owned()
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let answer = self.0.root.auth().introspect(request(row)).await.expect("an answer");
        face_answer(row, answer.get_ref())
    }
}

/// All rows in one call.
async fn batch(scene: &Scene, rows: &[Row]) {
    let request = pb::BatchIntrospectRequest { requests: rows.iter().map(request).collect() };
    let answers = scene.root.auth().batch_introspect(request).await.expect("answers").into_inner();
    assert_eq!(answers.responses.len(), rows.len());
    for (row, answer) in rows.iter().zip(&answers.responses) {
        compare("a batch", row, &face_answer(row, answer));
    }
}

/// RFC 7662 does not distinguish inactive tokens, and has no request without a token.
struct OAuth<'a>(&'a Scene);

impl Face for OAuth<'_> {
    fn name(&self) -> String {
        "RFC 7662".to_owned()
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let scope = row.scope_names(" ");
        let mut fields = vec![("token", row.token.as_str()), ("scope", scope.as_str())];
        fields.push(("workspace", row.workspace));
        if !row.client_ip.is_empty() {
            fields.push(("client_ip", row.client_ip));
        }
        let call = Call::form("/oauth2/introspect", &fields)
            .header("authorization", &format!("Bearer {}", self.0.caller_token));
        let reply = call.send(self.0.http()).await;
        if row.token.is_empty() {
            assert_eq!(reply.status, 400, "{row:?}");
            return FaceAnswer { status: 401, ..FaceAnswer::default() };
        }
        let view = reply.json();
        if view["active"] == false {
            assert_eq!(view, json!({"active": false}), "{row:?}");
            return FaceAnswer { status: 401, ..FaceAnswer::default() };
        }
        assert_eq!(view["allowed"], row.denial.is_none(), "{row:?}");
        assert_eq!(view["identity_only"], false, "{row:?}");
        if ["WORKSPACE_NOT_GRANTED", "PAT_NOT_PERMITTED"].contains(&row.denial()) {
            assert!(view.get("scope").is_none(), "{view}");
        }
        FaceAnswer {
            status: view["http_status"].as_u64().and_then(|it| it.try_into().ok()).expect("one"),
            denial: Some(text(&view["denial"])),
            role: Some((text(&view["role"]), text(&view["role_capped_by"]))),
            ..FaceAnswer::default()
        }
    }
}

struct ForwardAuth<'a>(&'a Scene);

impl Face for ForwardAuth<'_> {
    fn name(&self) -> String {
        "forward-auth".to_owned()
    }

    fn can_ask(&self, row: &Row) -> bool {
        row.fits_a_header()
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let query = format!("?scope={}&client_ip_header=x-real-ip", row.scope_names("+"));
        let mut call = row.presented_by(self.0.ask(&query));
        if !row.client_ip.is_empty() {
            call = call.header("x-real-ip", row.client_ip);
        }
        let reply = call.send(self.0.http()).await;
        let refused = row.denial.is_some();
        FaceAnswer {
            status: reply.status,
            denial: Some(reply.header("x-sophic-denial")),
            challenge: Some(reply.header("www-authenticate")),
            missing: refused.then(|| texts(&reply.json()["missing_scopes"])).flatten(),
            ..FaceAnswer::default()
        }
    }
}

/// A request as Envoy describes it, from 127.0.0.1.
pub(super) fn described(
    http: auth::attribute_context::HttpRequest,
    extensions: &[(&str, &str)],
) -> auth::AttributeContext {
    let socket = core::SocketAddress { address: HERE.to_owned() };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    auth::AttributeContext {
        source: Some(auth::attribute_context::Peer { address: Some(address) }),
        request: Some(auth::attribute_context::Request { http: Some(http) }),
        context_extensions: owned(extensions),
    }
}

/// Calls Check as Envoy does.
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

struct ExtAuthz<'a>(&'a Scene);

impl Face for ExtAuthz<'_> {
    fn name(&self) -> String {
        "ext_authz".to_owned()
    }

    fn can_ask(&self, row: &Row) -> bool {
        row.fits_a_header()
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let bearer = format!("Bearer {}", row.token);
        let mut headers = Vec::new();
        if !row.token.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        if !row.workspace.is_empty() {
            headers.push(("x-sophic-workspace", row.workspace));
        }
        let mut attributes = described(joined(&headers), &[("scope", &row.scope_names(" "))]);
        attributes.source = attributes.source.filter(|_| !row.client_ip.is_empty());
        let address = attributes.source.as_mut().and_then(|source| source.address.as_mut());
        if let Some(core::address::Address::SocketAddress(socket)) =
            address.and_then(|address| address.address.as_mut())
        {
            row.client_ip.clone_into(&mut socket.address);
        }
        let response = check(self.0, attributes).await.expect("a verdict");
        match response.http_response.expect("it says how") {
            auth::check_response::HttpResponse::OkResponse(_) => {
                FaceAnswer { status: 200, denial: Some(String::new()), ..FaceAnswer::default() }
            }
            auth::check_response::HttpResponse::DeniedResponse(denied) => {
                let problem: Value = serde_json::from_str(&denied.body).expect("a problem body");
                let headers = denied.headers.iter().filter_map(|option| option.header.as_ref());
                let mut challenges = headers.filter(|header| header.key == "www-authenticate");
                let challenge = challenges.next().expect("a challenge").value.clone();
                let status = denied.status.expect("a status").code;
                FaceAnswer {
                    status: status.try_into().expect("a status"),
                    denial: Some(text(&problem["denial"])),
                    challenge: Some(challenge),
                    missing: texts(&problem["missing_scopes"]),
                    ..FaceAnswer::default()
                }
            }
        }
    }
}

impl Face for Proxy {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    /// The client is on this machine, and each path needs one scope.
    fn can_ask(&self, row: &Row) -> bool {
        row.fits_a_header() && row.client_ip == HERE && row.scopes.len() == 1
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let before = self.upstream.requests();
        let reply = self.present(row).await;
        let got = self.upstream.requests() - before;
        let (name, log) = (self.name, self.process.log());
        assert_eq!(got, usize::from(row.denial.is_none()), "{name}, {row:?}: {reply:?}\n{log}");
        if row.denial.is_none() {
            return FaceAnswer { status: reply.status, ..FaceAnswer::default() };
        }
        assert_eq!(reply.json()["status"], reply.status, "{name}, {row:?}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{name}, {row:?}");
        assert_eq!(reply.header("cache-control"), "no-store", "{name}, {row:?}");
        FaceAnswer {
            status: reply.status,
            denial: Some(text(&reply.json()["denial"])),
            challenge: Some(reply.header("www-authenticate")),
            missing: texts(&reply.json()["missing_scopes"]),
            ..FaceAnswer::default()
        }
    }
}

/// `introspect`, which reads the token from standard input.
struct CommandLine(Program);

impl Face for CommandLine {
    fn name(&self) -> String {
        "the command line".to_owned()
    }

    /// Rows without a token do not apply, and no argument can contain a NUL.
    fn can_ask(&self, row: &Row) -> bool {
        !row.token.is_empty() && !row.workspace.contains('\0')
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let mut words = vec!["introspect", "--output", "json"];
        for scope in names(row.scopes) {
            words.extend(["--scope", scope]);
        }
        if !row.workspace.is_empty() {
            words.extend(["--workspace", row.workspace]);
        }
        if !row.client_ip.is_empty() {
            words.extend(["--client-ip", row.client_ip]);
        }
        let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        let ended = program::run(self.0.command(&words), &row.token);
        assert_eq!(ended.code, Some(i32::from(row.denial.is_some())), "{row:?}: {ended:?}");
        let view: Value = serde_json::from_str(&ended.out).expect("JSON");
        FaceAnswer {
            status: view["http_status"].as_u64().and_then(|it| it.try_into().ok()).expect("one"),
            denial: Some(text(&view["denial"])),
            challenge: Some(text(&view["www_authenticate"])),
            missing: texts(&view["missing_scopes"]),
            token_lacks: texts(&view["token_lacks_scopes"]),
            role_lacks: texts(&view["role_lacks_scopes"]),
            granted: texts(&view["scopes"]),
            role: Some((text(&view["role"]), text(&view["role_capped_by"]))),
        }
    }
}
