//! The layer in front of a tonic service. Refusals are trailers-only responses.

use sophic_auth_client::{AuthLayer, Client, Scopes};
use tokio::net::TcpListener;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use tower::Layer as _;

use super::stage::{Stage, remembered};
use crate::proxy::{Mode, Proxy};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    a_grpc_service_admits_allowed_calls_and_explains_refusals,
    a_method_without_a_scope_admits_nobody,
    a_single_service_can_be_wrapped,
    a_grpc_service_refuses_calls_during_an_outage,
}

/// Required scopes of the health service, which stands in for any gRPC service: `Check` needs `read`, everything else
/// `capture`.
fn by_method(parts: &http::request::Parts) -> Scopes {
    match parts.uri.path() {
        "/grpc.health.v1.Health/Check" => Scopes::READ,
        _ => Scopes::CAPTURE,
    }
}

/// Serves it behind a layer, which wraps the whole server or only this service.
pub(super) async fn serve(client: &Client, before_all: bool) -> HealthClient<Channel> {
    let auth = AuthLayer::grpc(client.clone()).require_by(by_method);
    serve_behind(auth, before_all).await
}

async fn serve_behind(auth: AuthLayer, before_all: bool) -> HealthClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    let incoming = TcpIncoming::from(listener);
    let (_, health) = tonic_health::server::health_reporter();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move {
        if before_all {
            // docs: begin tonic
            let server = Server::builder().layer(auth).add_service(health);
            // docs: end
            server.serve_with_incoming(incoming).await
        } else {
            let server = Server::builder().add_service(auth.layer(health));
            server.serve_with_incoming(incoming).await
        }
    });
    let channel = Channel::from_shared(url).expect("a URL").connect().await;
    HealthClient::new(channel.expect("it accepts"))
}

async fn check(
    health: &HealthClient<Channel>,
    metadata: &[(&'static str, String)],
) -> Result<(), Status> {
    health.clone().check(request(metadata)).await.map(drop)
}

pub(super) fn request(metadata: &[(&'static str, String)]) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    for (name, value) in metadata {
        let value: AsciiMetadataValue = value.parse().expect("a value");
        request.metadata_mut().append(*name, value);
    }
    request
}

pub(super) fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

pub(super) fn workspace(name: &str) -> (&'static str, String) {
    ("x-sophic-workspace", name.to_owned())
}

fn assert_refused(outcome: Result<(), Status>, code: Code, reason: &str) {
    let status = outcome.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().expect("it says why");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "auth.sophic.so"));
}

async fn a_grpc_service_admits_allowed_calls_and_explains_refusals(stage: Stage) {
    let (client, _) = stage.client().await;
    let health = serve(&client, true).await;
    let Stage { key, pat, .. } = &stage;
    check(&health, &[bearer(key)]).await.expect("it may read");
    check(&health, &[bearer(pat), workspace("acme")]).await.expect("it may read");
    assert_refused(check(&health, &[]).await, Code::Unauthenticated, "TOKEN_MISSING");
    assert_refused(check(&health, &[bearer("x")]).await, Code::Unauthenticated, "TOKEN_UNKNOWN");
    let twice = [bearer(key), bearer(key)];
    assert_refused(check(&health, &twice).await, Code::Unauthenticated, "TOKEN_UNKNOWN");
    let two = [bearer(pat), workspace("acme"), workspace("globex")];
    assert_refused(check(&health, &two).await, Code::InvalidArgument, "REQUEST_MALFORMED");
    assert_refused(
        check(&health, &[bearer(pat)]).await,
        Code::InvalidArgument,
        "WORKSPACE_REQUIRED",
    );
    let elsewhere = [bearer(key), workspace("globex")];
    assert_refused(check(&health, &elsewhere).await, Code::PermissionDenied, "WORKSPACE_MISMATCH");
    // Another method of the same service requires another scope.
    let status = health.clone().watch(request(&[bearer(key)])).await.expect_err("it is refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    let challenge = status.metadata().get("www-authenticate").expect("a challenge");
    assert!(challenge.to_str().expect("ASCII").starts_with("Bearer realm=\"sophic\""));
    health.clone().watch(request(&[bearer(pat), workspace("acme")])).await.expect("it may");

    assert!(remembered(&client, &stage.reading()).await.is_allowed());
    stage.revoke_key().await;
    within("a revoked key is refused", async {
        loop {
            let outcome = check(&health, &[bearer(key)]).await;
            if outcome.is_err() {
                assert_refused(outcome, Code::Unauthenticated, "TOKEN_REVOKED");
                break;
            }
        }
    })
    .await
}

async fn a_method_without_a_scope_admits_nobody(stage: Stage) {
    let (client, _) = stage.client().await;
    let layer = AuthLayer::grpc(client.clone());
    let health = serve_behind(layer.clone(), true).await;
    assert_refused(
        check(&health, &[bearer(&stage.key)]).await,
        Code::Internal,
        "NO_SCOPE_REQUIRED",
    );
    let health = serve_behind(layer.admit_identity_only(), true).await;
    check(&health, &[bearer(&stage.key)]).await.expect("it is admitted");
    assert_refused(check(&health, &[bearer("x")]).await, Code::Unauthenticated, "TOKEN_UNKNOWN");
}

async fn a_single_service_can_be_wrapped(stage: Stage) {
    let (client, _) = stage.client().await;
    let health = serve(&client, false).await;
    check(&health, &[bearer(&stage.key)]).await.expect("it may read");
    assert_refused(check(&health, &[]).await, Code::Unauthenticated, "TOKEN_MISSING");
}

async fn a_grpc_service_refuses_calls_during_an_outage(stage: Stage) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder = Client::builder(proxy.url()).caller_token(&stage.caller_token);
    let health = serve(&builder.without_cache().build().expect("a client"), true).await;
    check(&health, &[bearer(&stage.key)]).await.expect("it may read");
    proxy.set(Mode::Refuse);
    proxy.cut();
    let outcome = check(&health, &[bearer(&stage.key)]).await;
    assert_refused(outcome, Code::Unavailable, "AUTHORIZATION_UNAVAILABLE");
}
