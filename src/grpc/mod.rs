//! The gRPC face: one file per service, each a thin translation of `service`.
//!
//! `gate.rs` stands before all of them: who calls, whether it may, how long it may take. No RPC can forget to ask.

mod admin;
mod answer;
mod audit;
mod auth;
mod batch;
mod bulk;
mod caller;
pub mod codec;
mod connection;
mod convert;
mod directory;
mod ext_authz;
mod gate;
pub mod health;
mod introspect;
mod life;
mod message;
mod permission;
mod protocol;
mod redact;
mod refusals;
mod status;
mod strangers;
mod texts;
mod watch;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use connection::Connection;
pub use gate::Gate;
pub use permission::{Case, Rule, rule};
pub use status::code;

use std::sync::Arc;

use tonic::service::Routes;

use crate::cache::Hub;
use crate::service::Service;

/// The messages and services of package `sophic.auth.v1`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto has the documentation"
)]
pub mod pb {
    tonic::include_proto!("sophic.auth.v1");
}

/// What is used of Envoy's protocol, in the folders of its packages, and of Google's, which it names.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto has the documentation"
)]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                tonic::include_proto!("envoy.service.auth.v3");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            tonic::include_proto!("envoy.r#type.v3");
        }
    }
}

/// `google.rpc`, as far as Envoy's protocol names it.
pub mod google {
    /// The package.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// Every file of the protocol, encoded, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest request, in bytes: of the services that take little, of the directory, whose names may be long, and of
/// credentials, which take a thousand candidates with their URLs at once. Nobody unknown comes this far.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
const MANAGEMENT_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Envoy sends all the headers of its client's request, of which it takes 60 KiB by default.
const CHECK_REQUEST_BYTES_MAX: usize = 128 * 1024;
/// The largest request of the calls that take 1,000 tokens at once, with what goes with each.
const BATCH_REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The largest message of the RPC at this path.
fn message_bytes_max(path: &str) -> usize {
    match path {
        introspect::PATH => introspect::MESSAGE_BYTES_MAX,
        introspect::batch::PATH | "/sophic.auth.v1.AuthService/RevokeLeaked" => {
            BATCH_REQUEST_BYTES_MAX
        }
        "/envoy.service.auth.v3.Authorization/Check" => CHECK_REQUEST_BYTES_MAX,
        path if path.starts_with("/sophic.auth.v1.AdminService/") => REQUEST_BYTES_MAX,
        path if path.starts_with("/grpc.health.v1.") => strangers::HEALTH_BYTES_MAX,
        _ => MANAGEMENT_REQUEST_BYTES_MAX,
    }
}

/// All the services. With `reflection`, the protocol describes itself, v1 and v1alpha.
pub fn routes(
    service: &Arc<Service>,
    hub: &Arc<Hub>,
    health: health::HealthFace,
    reflection: bool,
) -> Routes {
    let auth = auth::AuthFace(Arc::clone(service), Arc::clone(hub));
    let directory = directory::DirectoryFace(Arc::clone(service));
    let admin = admin::AdminFace(Arc::clone(service));
    let routes = Routes::new(
        pb::auth_service_server::AuthServiceServer::new(auth)
            .max_decoding_message_size(BATCH_REQUEST_BYTES_MAX),
    )
    .add_service(
        pb::directory_service_server::DirectoryServiceServer::new(directory)
            .max_decoding_message_size(MANAGEMENT_REQUEST_BYTES_MAX),
    )
    .add_service(
        pb::admin_service_server::AdminServiceServer::new(admin)
            .max_decoding_message_size(REQUEST_BYTES_MAX),
    )
    .add_service(
        envoy::service::auth::v3::authorization_server::AuthorizationServer::new(
            ext_authz::ExtAuthzFace(Arc::clone(service)),
        )
        .max_decoding_message_size(CHECK_REQUEST_BYTES_MAX),
    )
    .add_service(health);
    let routes = if reflection { health::with_reflection(routes) } else { routes };
    routes.prepare()
}
