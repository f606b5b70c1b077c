//! Client of sophic-auth: asks whose token this is, and whether it may do this here.
//!
//! [`Client`] asks the service, caches the answers, and follows changes. [`AuthLayer`] puts it in front of an axum or
//! tonic service. `docs/rust.md` in the repository shows both.
//!
//! # Layout
//!
//! - `config`, `client`, `manage`: configuration, introspection, management of credentials
//! - `layer`: the tower layer
//! - `cache`, `in_flight`, `watch`: cached answers, and when they are valid
//! - `call`, `error`, `observe`: calls with retries, errors, events for metrics
//! - `presented`, `introspection`: the question and the answer
//! - `generated`: the service clients of the protocol, committed, so that no user of this crate compiles protobuf. The
//!   messages are in `sophic-auth-protocol`
//!
//! # Example
//!
//! ```no_run
//! use sophic_auth_client::{Client, Presented, Scopes};
//!
//! # async fn example() -> Result<(), sophic_auth_client::Error> {
//! let client = Client::from_env()?.build()?;
//! let presented = Presented::new("sophic_pat_…").in_workspace("acme").requiring(Scopes::READ);
//! let answer = client.introspect(&presented).await?;
//! if answer.is_allowed() {
//!     println!("{:?} may read", answer.principal());
//! }
//! # Ok(())
//! # }
//! ```

mod cache;
mod call;
mod client;
mod clock;
mod config;
mod error;
mod in_flight;
mod introspection;
mod layer;
mod manage;
mod observe;
mod presented;
mod watch;

/// The messages and clients of package `sophic.auth.v1`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto has the documentation"
)]
pub mod pb {
    pub use sophic_auth_protocol::pb::*;

    include!("generated/sophic.auth.v1.rs");
}

pub use call::{Authenticated, Caller};
pub use client::Client;
pub use config::{Builder, CALLER_TOKEN_VARIABLE, ENDPOINT_VARIABLE};
pub use error::{Error, ErrorKind, Violation};
pub use introspection::Introspection;
pub use layer::{AuthLayer, AuthService, ClientIp, WORKSPACE_HEADER};
pub use observe::{Counters, Event, Observer};
pub use pb::introspect_response::Principal;
pub use pb::{Denial, Role};
pub use presented::Presented;
pub use sophic_auth_protocol::ScopeSet as Scopes;
pub use sophic_auth_protocol::token::TokenKind;
