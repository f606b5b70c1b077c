//! The tower layer: no request reaches the service behind it unless its token may do what the route needs.
//!
//! It fails closed: what cannot be told is refused, with 503. It speaks HTTP or gRPC, as it is told: by the request's own
//! word on it a client could have its refusals dressed as HTTP 200.

mod client_ip;
mod refusal;

pub use client_ip::ClientIp;
pub use sophic_auth_protocol::headers::WORKSPACE_HEADER;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use sophic_auth_protocol::headers::{self, Bearer};
use tower::{Layer, Service};

use crate::Scopes;
use crate::client::Client;
use crate::introspection::Introspection;
use crate::presented::Presented;
use refusal::{Face, Refusal};

/// Puts authorization in front of a service. What the service finds in its request's extensions is the
/// [`Introspection`]; the `authorization` header is taken out, so that nothing behind can print it.
#[derive(Clone)]
pub struct AuthLayer {
    client: Client,
    face: Face,
    required: Required,
    client_ip: ClientIp,
}

#[derive(Clone)]
enum Required {
    Always(Scopes),
    By(Arc<dyn Fn(&Parts) -> Scopes + Send + Sync>),
}

impl AuthLayer {
    /// For a service of HTTP: refusals are 400, 401, 403 and 503, with a problem body (RFC 9457).
    pub fn http(client: Client) -> Self {
        let required = Required::Always(Scopes::NONE);
        Self { client, face: Face::Http, required, client_ip: ClientIp::connection() }
    }

    /// For a service of gRPC: refusals are `INVALID_ARGUMENT`, `UNAUTHENTICATED`, `PERMISSION_DENIED` and `UNAVAILABLE`.
    pub fn grpc(client: Client) -> Self {
        Self { face: Face::Grpc, ..Self::http(client) }
    }

    /// All of these scopes are needed. Without this, any live token is let in that acts in some workspace.
    #[must_use]
    pub fn require(self, scopes: Scopes) -> Self {
        Self { required: Required::Always(scopes), ..self }
    }

    /// Which scopes are needed depends on the request: as its path, for a gRPC service with several methods.
    #[must_use]
    pub fn require_by(self, scopes: impl Fn(&Parts) -> Scopes + Send + Sync + 'static) -> Self {
        Self { required: Required::By(Arc::new(scopes)), ..self }
    }

    /// Where the client's address is found, for credentials with an IP allowlist.
    #[must_use]
    pub fn client_ip(self, client_ip: ClientIp) -> Self {
        Self { client_ip, ..self }
    }

    async fn admit(&self, parts: &mut Parts) -> Result<Introspection, Refusal> {
        let token = match Bearer::from_headers(values(&parts.headers, AUTHORIZATION.as_str())) {
            Bearer::Missing => return Err(Refusal::denied(Introspection::missing())),
            Bearer::Malformed => return Err(Refusal::denied(Introspection::unknown())),
            Bearer::Token(token) => token,
        };
        let workspace = headers::workspace(values(&parts.headers, WORKSPACE_HEADER))
            .ok_or_else(Refusal::bad_workspace_header)?;
        let scopes = match &self.required {
            Required::Always(scopes) => *scopes,
            Required::By(by) => by(parts),
        };
        let presented = Presented::new(token)
            .in_workspace(workspace)
            .requiring(scopes)
            .from_ip(self.client_ip.of(parts));
        let answer = match self.client.introspect(&presented).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "a request is refused, for nobody can tell whose it is");
                return Err(Refusal::cannot_tell(&error));
            }
        };
        parts.headers.remove(AUTHORIZATION);
        if answer.is_allowed() { Ok(answer) } else { Err(Refusal::denied(answer)) }
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}

impl std::fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthLayer").field("client", &self.client).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService { inner, auth: self.clone() }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    inner: S,
    auth: AuthLayer,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for AuthService<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Either<Full<Bytes>, R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is used; its clone may not be.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let auth = self.auth.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match auth.admit(&mut parts).await {
                Ok(answer) => {
                    parts.extensions.insert(answer);
                    let response = inner.call(Request::from_parts(parts, body)).await?;
                    Ok(response.map(Either::Right))
                }
                Err(refusal) => Ok(refusal.into_response(auth.face).map(Either::Left)),
            }
        })
    }
}
