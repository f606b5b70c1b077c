//! `grpc.health.v1` and reflection. Every status is `NOT_SERVING` until the store has answered once. From then on the
//! status of the server and of `AuthService` says whether introspections can be answered, which memory can do. The
//! status of the management services says whether the store can be reached.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service as _;

use super::message::{self, MemoryReservation};
use super::pb::{admin_service_server, auth_service_server, directory_service_server};
use super::protocol::refuse_non_grpc;
use super::unauthenticated::UNAUTHENTICATED_TIMEOUT;
use super::{DESCRIPTORS, ResponseBody};
use crate::service::{Readiness, Reason, Result, Rpc};

/// Service names whose status follows introspection. The empty name is the whole server.
const INTROSPECTION_SERVICES: [&str; 2] = ["", auth_service_server::SERVICE_NAME];
/// Service names whose status follows management.
const MANAGEMENT_SERVICES: [&str; 2] =
    [directory_service_server::SERVICE_NAME, admin_service_server::SERVICE_NAME];

/// The health service of tonic.
pub type HealthFace = HealthServer<HealthService>;

/// Returns the health service, and a future that updates it from `ready` until the sender of `ready` is dropped.
pub async fn health_service(
    mut ready: watch::Receiver<Readiness>,
) -> (HealthFace, impl Future<Output = ()>) {
    let reporter = HealthReporter::new();
    // A new reporter starts with the server as `SERVING`. No client may see that.
    let now = *ready.borrow_and_update();
    report(&reporter, now).await;
    let service = HealthService::from_health_reporter(reporter.clone());
    let bytes_max = Rpc::HealthCheck.row().request_bytes_max;
    let service = HealthServer::new(service).max_decoding_message_size(bytes_max);
    let follow_readiness = async move {
        while ready.changed().await.is_ok() {
            let now = *ready.borrow_and_update();
            report(&reporter, now).await;
        }
    };
    (service, follow_readiness)
}

async fn report(reporter: &HealthReporter, Readiness { introspection, management }: Readiness) {
    for (services, serving) in
        [(INTROSPECTION_SERVICES, introspection), (MANAGEMENT_SERVICES, management)]
    {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services {
            reporter.set_service_status(service, status).await;
        }
    }
}

/// Returns the routes of a server that has no store yet: health only.
pub fn health_routes(health: HealthFace) -> Routes {
    Routes::new(health).prepare()
}

/// Answers health checks. Every other request is refused with `STORE_UNAVAILABLE`.
pub async fn answer_before_startup(
    mut routes: Routes,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    if let Some(refusal) = refuse_non_grpc(&request) {
        return ResponseBody::from_tonic(refusal);
    }
    if !request.uri().path().starts_with("/grpc.health.v1.Health/") {
        return ResponseBody::refusal(Reason::StoreUnavailable.into());
    }
    let (parts, body) = request.into_parts();
    let bytes_max = Rpc::HealthCheck.row().request_bytes_max;
    let mut reserved = MemoryReservation::unauthenticated();
    let receiving = message::receive(&parts.headers, Bytes::new(), body, bytes_max, &mut reserved);
    let received = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT, receiving).await;
    let received = received.unwrap_or_else(|_| Err(Reason::DeadlineExceeded.into()));
    let checked = received.and_then(|received| {
        check_request(&received.message())?;
        Ok(Request::from_parts(parts, received.into_body()))
    });
    match checked {
        Ok(request) => match routes.call(request).await {
            Ok(response) => ResponseBody::from_tonic(response),
            Err(never) => match never {},
        },
        Err(error) => ResponseBody::refusal(error),
    }
}

/// Checks the message of a health RPC, because tonic would answer `INTERNAL` to one that does not decode.
///
/// # Errors
/// `REQUEST_MALFORMED`.
pub(super) fn check_request(message: &Bytes) -> Result<()> {
    HealthCheckRequest::decode(message.clone()).map_err(|_| Reason::RequestMalformed)?;
    Ok(())
}

/// Adds reflection, v1 and v1alpha, of all services.
pub(super) fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Both sets are generated, and the code next to them compiles only if they are well formed.
    let v1 = builder().build_v1().expect("well-formed descriptors");
    let v1alpha = builder().build_v1alpha().expect("well-formed descriptors");
    let bytes_max = |rpc: Rpc| rpc.row().request_bytes_max;
    routes
        .add_service(v1.max_decoding_message_size(bytes_max(Rpc::Reflection)))
        .add_service(v1alpha.max_decoding_message_size(bytes_max(Rpc::ReflectionAlpha)))
}
