//! `grpc.health.v1` and reflection. Everything is `NOT_SERVING` until the store was first found to answer. The whole and
//! `AuthService` are about introspections, which memory can answer; the services that only manage need the store.

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service as _;

use super::DESCRIPTORS;
use super::pb::{admin_service_server, auth_service_server, directory_service_server};
use crate::service::{Readiness, Reason, Rpc, ServiceError};

/// What a health check may ask for: the whole, and each of the services.
const INTROSPECTION: [&str; 2] = ["", auth_service_server::SERVICE_NAME];
const MANAGEMENT: [&str; 2] =
    [directory_service_server::SERVICE_NAME, admin_service_server::SERVICE_NAME];

/// The health service.
pub type HealthFace = HealthServer<HealthService>;

/// The health service, and what keeps it told: that future ends when the sender of `ready` is dropped.
pub async fn face(mut ready: watch::Receiver<Readiness>) -> (HealthFace, impl Future<Output = ()>) {
    let reporter = HealthReporter::new();
    // A new reporter says of the whole that it serves: nobody is to hear that.
    let now = *ready.borrow_and_update();
    report(&reporter, now).await;
    let service = HealthService::from_health_reporter(reporter.clone());
    let bytes_max = Rpc::HealthCheck.row().request_bytes_max;
    let service = HealthServer::new(service).max_decoding_message_size(bytes_max);
    let keep_told = async move {
        while ready.changed().await.is_ok() {
            let now = *ready.borrow_and_update();
            report(&reporter, now).await;
        }
    };
    (service, keep_told)
}

async fn report(reporter: &HealthReporter, Readiness { introspection, management }: Readiness) {
    for (services, serving) in [(INTROSPECTION, introspection), (MANAGEMENT, management)] {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services {
            reporter.set_service_status(service, status).await;
        }
    }
}

/// Health alone, for a server that has no store yet.
pub fn alone(health: HealthFace) -> Routes {
    Routes::new(health).prepare()
}

/// Answers a question about health; whatever else is asked cannot be told yet.
pub async fn answer_alone(mut routes: Routes, request: Request<Incoming>) -> Response<Body> {
    if !request.uri().path().starts_with("/grpc.health.v1.Health/") {
        return Status::from(ServiceError::from(Reason::StoreUnavailable)).into_http();
    }
    match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Adds reflection, v1 and v1alpha, of everything that is served.
pub(super) fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Both sets were made by this build and are well formed, or nothing here would have compiled.
    let v1 = builder().build_v1().expect("well-formed descriptors");
    let v1alpha = builder().build_v1alpha().expect("well-formed descriptors");
    let bytes_max = |rpc: Rpc| rpc.row().request_bytes_max;
    routes
        .add_service(v1.max_decoding_message_size(bytes_max(Rpc::Reflection)))
        .add_service(v1alpha.max_decoding_message_size(bytes_max(Rpc::ReflectionAlpha)))
}
