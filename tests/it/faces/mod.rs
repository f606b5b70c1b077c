//! All faces besides the gRPC API: OAuth, forward-auth and Envoy, over the wire and through real proxies.

mod attacks;
mod client_address;
mod ext_authz;
mod forward_auth;
mod libraries;
mod oauth;
mod page;
pub(crate) mod process;
mod proxies;
mod rate;
pub(crate) mod restricted;
mod rows;
pub(crate) mod scene;
pub(crate) mod table;
mod upstream;
pub(crate) mod wire;
