//! The gRPC face: one file for each service, a thin translation of the use cases in `service`.
//!
//! Every request passes `gate.rs` first, which authenticates the caller, checks its permission and sets the deadline.
//! No RPC can skip these checks.

mod admin;
mod audit;
mod auth;
mod caller;
pub mod codec;
mod connection;
mod convert;
mod credentials;
mod directory;
mod ext_authz;
mod gate;
pub mod health;
mod introspect;
mod message;
mod nul_check;
mod protocol;
mod response_body;
mod service_status;
mod status;
mod unauthenticated;
mod watch;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use gate::Gate;
pub use response_body::ResponseBody;
pub use status::code;

use std::sync::Arc;

use tonic::service::Routes;

use self::envoy::service::auth::v3::authorization_server::{self, AuthorizationServer};
use self::pb::admin_service_server::{self, AdminServiceServer};
use self::pb::auth_service_server::{self, AuthServiceServer};
use self::pb::directory_service_server::{self, DirectoryServiceServer};
use crate::service::Service;
use crate::service::rpcs::request_bytes_max;

/// The messages and services of package `sophic.auth.v1`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto has the documentation"
)]
pub mod pb {
    pub use sophic_auth_protocol::pb::*;

    include!("generated/sophic.auth.v1.rs");
}

/// The part of Envoy's protocol that `ext_authz.rs` uses, in modules named after its packages.
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
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                include!("generated/envoy.service.auth.v3.rs");
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            include!("generated/envoy.r#type.v3.rs");
        }
    }
}

/// The part of `google.rpc` that Envoy's protocol uses.
pub mod google {
    /// Package `google.rpc`.
    pub mod rpc {
        include!("generated/google.rpc.rs");
    }
}

/// Encoded descriptors of every proto file, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// Returns the routes to all services, with server reflection v1 and v1alpha if `reflection` is set.
pub fn routes(service: &Arc<Service>, health: health::HealthFace, reflection: bool) -> Routes {
    let auth = auth::AuthFace(Arc::clone(service));
    let directory = directory::DirectoryFace(Arc::clone(service));
    let admin = admin::AdminFace(Arc::clone(service));
    let ext_authz = ext_authz::ExtAuthzFace(Arc::clone(service));
    let routes = Routes::new(
        AuthServiceServer::new(auth)
            .max_decoding_message_size(request_bytes_max(auth_service_server::SERVICE_NAME)),
    )
    .add_service(
        DirectoryServiceServer::new(directory)
            .max_decoding_message_size(request_bytes_max(directory_service_server::SERVICE_NAME)),
    )
    .add_service(
        AdminServiceServer::new(admin)
            .max_decoding_message_size(request_bytes_max(admin_service_server::SERVICE_NAME)),
    )
    .add_service(
        AuthorizationServer::new(ext_authz)
            .max_decoding_message_size(request_bytes_max(authorization_server::SERVICE_NAME)),
    )
    .add_service(health);
    let routes = if reflection { health::with_reflection(routes) } else { routes };
    routes.prepare()
}
