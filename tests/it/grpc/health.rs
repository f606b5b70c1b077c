//! Health, readiness and reflection, which need no caller.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::refusal::reason;
use crate::harness::Harness;
use crate::stores::{Database, on_every_store};
use crate::waits::within;

on_every_store! {
    every_service_is_serving_once_the_store_answers,
    a_health_watch_reports_that_the_server_stops,
    the_protocol_describes_itself_in_both_versions,
    reflection_can_be_switched_off,
    an_unknown_service_is_not_found,
    the_http_port_reports_liveness_and_readiness,
}

const SERVICES: [&str; 4] = [
    "",
    "sophic.auth.v1.AuthService",
    "sophic.auth.v1.DirectoryService",
    "sophic.auth.v1.AdminService",
];

pub(super) async fn status(h: &Harness, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    let response = HealthClient::new(h.channel()).check(request).await.expect("an answer");
    response.into_inner().status()
}

/// Waits until this is the status.
pub(super) async fn until(h: &Harness, service: &str, wanted: ServingStatus) {
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut watch = HealthClient::new(h.channel()).watch(request).await.expect("a stream");
    within(&format!("{service:?} is {wanted:?}"), async {
        while let Some(now) = watch.get_mut().message().await.expect("a message") {
            if now.status() == wanted {
                return;
            }
        }
        panic!("the stream ended before {wanted:?}");
    })
    .await;
}

async fn every_service_is_serving_once_the_store_answers(h: Harness) {
    for service in SERVICES {
        until(&h, service, ServingStatus::Serving).await;
        assert_eq!(status(&h, service).await, ServingStatus::Serving);
    }
}

async fn a_health_watch_reports_that_the_server_stops(h: Harness) {
    let slow = h.another(|config| config.drain_delay = Duration::from_millis(300)).await;
    until(&slow, "", ServingStatus::Serving).await;
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(slow.channel()).watch(request).await.expect("a stream");
    let stopping = tokio::task::spawn(slow.running.stop());
    let mut last = ServingStatus::Unknown;
    // Reads to the end of the stream. Stopping does not wait for it.
    within("the watch of a server that stops ends", async {
        while let Ok(Some(now)) = watch.get_mut().message().await {
            last = now.status();
        }
    })
    .await;
    assert_eq!(last, ServingStatus::NotServing);
    stopping.await.expect("it stops");
}

async fn an_unknown_service_is_not_found(h: Harness) {
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    let status = HealthClient::new(h.channel()).check(request).await.expect_err("there is none");
    assert_eq!(status.code(), Code::NotFound);
}

async fn the_protocol_describes_itself_in_both_versions(h: Harness) {
    let expected = [
        "grpc.health.v1.Health",
        "sophic.auth.v1.AdminService",
        "sophic.auth.v1.AuthService",
        "sophic.auth.v1.DirectoryService",
    ];
    let mut services = Vec::new();
    {
        use v1::server_reflection_request::MessageRequest;
        use v1::server_reflection_response::MessageResponse;
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(h.channel());
        let request = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let responses = client.server_reflection_info(tokio_stream::once(request)).await;
        let response = within("an answer", responses.expect("a stream").get_mut().message()).await;
        let response = response.expect("a message");
        let Some(MessageResponse::ListServicesResponse(list)) =
            response.expect("an answer").message_response
        else {
            panic!("no list")
        };
        services.push(list.service.into_iter().map(|one| one.name).collect::<Vec<_>>());
    }
    {
        use v1alpha::server_reflection_request::MessageRequest;
        use v1alpha::server_reflection_response::MessageResponse;
        let mut client =
            v1alpha::server_reflection_client::ServerReflectionClient::new(h.channel());
        let request = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let responses = client.server_reflection_info(tokio_stream::once(request)).await;
        let response = within("an answer", responses.expect("a stream").get_mut().message()).await;
        let response = response.expect("a message");
        let Some(MessageResponse::ListServicesResponse(list)) =
            response.expect("an answer").message_response
        else {
            panic!("no list")
        };
        services.push(list.service.into_iter().map(|one| one.name).collect::<Vec<_>>());
    }
    for services in services {
        for service in expected {
            assert!(services.iter().any(|one| one == service), "{service} of {services:?}");
        }
    }
}

async fn reflection_can_be_switched_off(h: Harness) {
    let silent = h.another(|config| config.reflection = false).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(silent.channel());
    let request = v1::ServerReflectionRequest::default();
    let outcome = client.server_reflection_info(tokio_stream::once(request)).await;
    assert_eq!(outcome.expect_err("it is off").code(), Code::Unimplemented);
    silent.running.stop().await;
}

/// Sends a handwritten request. Returns the first line and the body of the answer.
pub(super) async fn http(h: &Harness, request: &str) -> String {
    let mut stream = TcpStream::connect(h.running.http).await.expect("the server accepts");
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

async fn the_http_port_reports_liveness_and_readiness(h: Harness) {
    until(&h, "", ServingStatus::Serving).await;
    until(&h, "sophic.auth.v1.AdminService", ServingStatus::Serving).await;
    assert!(http(&h, "GET /healthz").await.starts_with("HTTP/1.1 200"));
    let ready = http(&h, "GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.ends_with("\r\n\r\nready\nmanagement: ready\n"), "{ready}");
    assert!(http(&h, "GET /nothing").await.starts_with("HTTP/1.1 404"));
    assert!(http(&h, "POST /healthz").await.starts_with("HTTP/1.1 405"));
    let draining = h.another(|config| config.drain_delay = Duration::from_secs(5)).await;
    until(&draining, "", ServingStatus::Serving).await;
    let address = draining.running.http;
    let request = HealthCheckRequest { service: String::new() };
    let watch = HealthClient::new(draining.channel()).watch(request).await;
    let mut watch = watch.expect("a stream").into_inner();
    let stopping = tokio::task::spawn(draining.running.stop());
    within("the server says that it stops", async {
        while let Ok(Some(now)) = watch.message().await {
            if now.status() == ServingStatus::NotServing {
                break;
            }
        }
    })
    .await;
    // It reports this while it still accepts connections.
    let mut stream = TcpStream::connect(address).await.expect("it still accepts");
    let get = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(get.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    stopping.abort();
}

/// Postgres only: a file cannot refuse its users.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_outage_is_reported_and_no_token_is_called_inactive() {
    use sophic_auth::grpc::pb::{IntrospectRequest, Scope};
    use tonic_types::StatusExt as _;
    let database = std::sync::Arc::new(Database::postgres().await);
    let short =
        |config: &mut sophic_auth::server::Config| config.cache.lease = Duration::from_secs(1);
    let h = Harness::start(std::sync::Arc::clone(&database), short).await;
    until(&h, "", ServingStatus::Serving).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let token = root.create_key("acme", &[Scope::Read]).await.token;
    database.refuse_connections().await;
    until(&h, "", ServingStatus::NotServing).await;
    for service in SERVICES {
        assert_eq!(status(&h, service).await, ServingStatus::NotServing);
    }
    assert!(http(&h, "GET /readyz").await.starts_with("HTTP/1.1 503"));
    assert!(http(&h, "GET /healthz").await.starts_with("HTTP/1.1 200"));
    // A token that is not in memory is neither active nor inactive.
    let request = IntrospectRequest { token: token.clone(), fresh: true, ..Default::default() };
    let refused = root.auth().introspect(request).await.expect_err("there is no answer");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(refused.get_details_retry_info().is_some(), "{refused:?}");
    database.allow_connections().await;
    until(&h, "", ServingStatus::Serving).await;
    assert!(root.introspect(&token, "acme", &[Scope::Read]).await.allowed);
    h.running.stop().await;
    database.drop_database().await;
}
