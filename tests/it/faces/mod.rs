//! Every face beside the gRPC API: OAuth, forward-auth and Envoy, spoken to over the wire and through real proxies.

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
mod rows;
mod scene;
mod upstream;
pub(crate) mod wire;
