//! Every face beside the gRPC API: OAuth, forward-auth and Envoy, spoken to over the wire and through real proxies.

mod forward_auth;
mod oauth;
mod scene;
mod wire;
