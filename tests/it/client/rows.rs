//! The decision table through the client library, its layers, the example gateway and the examples in other languages.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use serde_json::Value;
use sophic_auth::grpc::pb::Scope;
use sophic_auth_client::{AuthLayer, Client, Denial, Introspection, Presented, Scopes};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::gateway::{CAPTURE, Gateway};
use super::layer_grpc;
use super::layer_http::{ask, assert_refused};
use super::other_languages::Language;
use super::stage::{Answer, serve, watching};
use crate::faces::scene::Scene;
use crate::faces::table::{Face, FaceAnswer, HERE, Row, compare, names, one_of_each, run};
use crate::stores::on_every_store;

on_every_store! {
    every_row_has_the_same_decision_through_the_client,
    every_row_has_the_same_decision_through_the_layers,
}

async fn every_row_has_the_same_decision_through_the_client(scene: Scene) {
    let rows = scene.rows().await;
    let plain = builder(&scene).without_cache().build().expect("a client");
    run(&Asking("the client", plain.clone()), &rows, rows.len()).await;
    batch(&plain, &rows).await;
    // The first answer takes a call, the second is cached.
    let (client, _) = watching(builder(&scene)).await;
    for turn in ["the client, first", "the client, from memory"] {
        run(&Asking(turn, client.clone()), &rows, rows.len()).await;
    }
}

async fn every_row_has_the_same_decision_through_the_layers(scene: Scene) {
    let rows = scene.rows().await;
    let (client, _) = watching(builder(&scene)).await;
    let http = HttpLayer(app(&AuthLayer::http(client.clone()), &rows).await);
    let grpc = GrpcLayer(layer_grpc::serve(&client, true).await);
    // The first answer takes a call, the second is cached.
    for _ in 0..2 {
        run(&http, &rows, 60).await;
        run(&grpc, &rows, 30).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_has_the_same_decision_through_the_example_gateway() {
    let scene = Scene::on_sqlite().await;
    let rows = scene.rows().await;
    let gateway = Gateway::start(&scene.h.running.grpc_url(), &scene.caller_token).await;
    run(&gateway, &rows, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_has_the_same_decision_in_other_languages() {
    let scene = Scene::on_sqlite().await;
    let rows = one_of_each(&scene.rows().await);
    for language in [Language::python(), Language::node()] {
        run(&InLanguage(&scene, language), &rows, 14).await;
    }
}

fn builder(scene: &Scene) -> sophic_auth_client::Builder {
    Client::builder(scene.h.running.grpc_url()).caller_token(scene.caller_token.clone())
}

fn required(scopes: &[Scope]) -> Scopes {
    let numbers: Vec<i32> = scopes.iter().map(|scope| (*scope).into()).collect();
    Scopes::from_proto(&numbers)
}

fn presented(row: &Row) -> Presented<'_> {
    let presented = Presented::new(&row.token).requiring(required(row.scopes));
    let presented = presented.from_ip(row.client_ip.parse().ok());
    if row.workspace.is_empty() { presented } else { presented.in_workspace(row.workspace) }
}

fn name_of(denial: Option<Denial>) -> String {
    let name = denial.map(|denial| denial.as_str_name().trim_start_matches("DENIAL_").to_owned());
    name.unwrap_or_default()
}

fn face_answer(row: &Row, answer: &Introspection) -> FaceAnswer {
    assert_eq!(answer.is_active(), row.status() != 401, "{row:?}");
    assert_eq!(answer.is_allowed(), row.denial.is_none(), "{row:?}");
    assert!(!answer.is_stale());
    let list = |scopes: Scopes| Some(scopes.names().map(str::to_owned).collect());
    FaceAnswer {
        status: answer.http_status(),
        denial: Some(name_of(answer.denial())),
        challenge: Some(answer.www_authenticate().to_owned()),
        missing: list(answer.missing_scopes()),
        granted: list(answer.scopes()),
        ..FaceAnswer::default()
    }
}

struct Asking(&'static str, Client);

impl Face for Asking {
    fn name(&self) -> String {
        self.0.to_owned()
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        face_answer(row, &self.1.introspect(&presented(row)).await.expect("an answer"))
    }
}

/// Checks all rows in one call.
async fn batch(client: &Client, rows: &[Row]) {
    let asked: Vec<_> = rows.iter().map(presented).collect();
    let answers = client.introspect_batch(&asked).await.expect("answers");
    assert_eq!(answers.len(), rows.len());
    for (row, answer) in rows.iter().zip(&answers) {
        compare("the client, by the batch", row, &face_answer(row, answer));
    }
}

/// Whether the row can be tested through a layer, whose client's address is always loopback.
fn reaches_a_layer(row: &Row) -> bool {
    row.fits_a_header() && row.client_ip == HERE
}

/// Reads the answer from a problem body and its challenge.
fn refusal(answer: &Answer) -> FaceAnswer {
    let problem = answer.json();
    let missing = problem["missing_scopes"].as_array();
    let text = |value: &Value| value.as_str().expect("a word").to_owned();
    FaceAnswer {
        status: answer.status,
        denial: Some(text(&problem["denial"])),
        challenge: Some(answer.header("www-authenticate").to_owned()),
        missing: missing.map(|missing| missing.iter().map(text).collect()),
        ..FaceAnswer::default()
    }
}

/// Serves an application with an endpoint for each set of scopes of the rows.
async fn app(auth: &AuthLayer, rows: &[Row]) -> SocketAddr {
    let mut app = Router::new();
    let mut paths = std::collections::BTreeSet::new();
    for row in rows.iter().filter(|row| paths.insert(row.scope_names("-"))) {
        let layer = auth.clone().require(required(row.scopes));
        let path = format!("/{}", row.scope_names("-"));
        app = app.merge(Router::new().route(&path, get(async || "in")).route_layer(layer));
    }
    serve(app).await
}

struct HttpLayer(SocketAddr);

impl Face for HttpLayer {
    fn name(&self) -> String {
        "the layer of an axum application".to_owned()
    }

    fn can_ask(&self, row: &Row) -> bool {
        reaches_a_layer(row)
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let path = format!("/{}", row.scope_names("-"));
        let answer = ask(self.0, &path, &row.token, row.workspace).await;
        if row.denial.is_none() {
            assert_eq!(answer.body, "in", "{row:?}: {answer:?}");
            return FaceAnswer { status: answer.status, ..FaceAnswer::default() };
        }
        assert_refused(&answer, row.status(), row.denial());
        refusal(&answer)
    }
}

struct GrpcLayer(HealthClient<tonic::transport::Channel>);

impl Face for GrpcLayer {
    fn name(&self) -> String {
        "the layer of a tonic service".to_owned()
    }

    /// One of its methods requires `read`, and one `capture`.
    fn can_ask(&self, row: &Row) -> bool {
        reaches_a_layer(row) && matches!(row.scopes, [Scope::Read | Scope::Capture])
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let mut metadata = Vec::new();
        if !row.token.is_empty() {
            metadata.push(layer_grpc::bearer(&row.token));
        }
        if !row.workspace.is_empty() {
            metadata.push(layer_grpc::workspace(row.workspace));
        }
        let (mut health, request) = (self.0.clone(), layer_grpc::request(&metadata));
        let outcome = match row.scopes {
            [Scope::Read] => health.check(request).await.map(drop),
            _ => health.watch(request).await.map(drop),
        };
        let Err(status) = outcome else {
            return FaceAnswer { status: 200, ..FaceAnswer::default() };
        };
        let info = status.get_details_error_info().expect("it says why");
        assert_eq!(info.domain, "auth.sophic.so");
        let challenge = status.metadata().get("www-authenticate").expect("a challenge");
        FaceAnswer {
            status: match status.code() {
                Code::Unauthenticated => 401,
                Code::PermissionDenied => 403,
                Code::InvalidArgument => 400,
                _ => panic!("{row:?}: {status:?}"),
            },
            denial: Some(info.reason),
            challenge: Some(challenge.to_str().expect("ASCII").to_owned()),
            ..FaceAnswer::default()
        }
    }
}

impl Face for Gateway {
    fn name(&self) -> String {
        "the example gateway".to_owned()
    }

    /// It has an endpoint that requires `read`, and one that requires `capture`.
    fn can_ask(&self, row: &Row) -> bool {
        reaches_a_layer(row) && matches!(row.scopes, [Scope::Read | Scope::Capture])
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let answer = match row.scopes {
            [Scope::Read] => self.get("/api/v1/documents", &row.token, row.workspace).await,
            _ => {
                let (token, workspace) = (&row.token, row.workspace);
                Gateway::ask(self, "POST", "/api/ingest/cli", token, workspace, CAPTURE).await
            }
        };
        if row.denial.is_none() {
            // A capture creates a document.
            assert!([200, 201].contains(&answer.status), "{row:?}: {answer:?}");
            return FaceAnswer { status: 200, ..FaceAnswer::default() };
        }
        refusal(&answer)
    }
}

struct InLanguage<'a>(&'a Scene, Language);

impl Face for InLanguage<'_> {
    fn name(&self) -> String {
        self.1.name.to_owned()
    }

    async fn ask(&self, row: &Row) -> FaceAnswer {
        let (scene, url) = (self.0, self.0.h.running.grpc_url());
        let scopes = names(row.scopes);
        let caller = (url.as_str(), scene.caller_token.as_str());
        let output = self.1.ask(caller, &row.token, row.workspace, &scopes);
        let errors = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{row:?}: no answer but {errors}"));
        assert_eq!(answer["allowed"], row.denial.is_none(), "{row:?}");
        assert_eq!(answer["permitted"], row.denial.is_none(), "{row:?}");
        assert_eq!(output.status.code(), Some(i32::from(row.denial.is_some())), "{row:?}");
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        FaceAnswer {
            status: answer["http_status"].as_u64().and_then(|it| it.try_into().ok()).expect("one"),
            denial: Some(text("denial")),
            challenge: Some(text("www_authenticate")),
            ..FaceAnswer::default()
        }
    }
}
