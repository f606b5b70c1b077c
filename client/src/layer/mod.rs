//! The tower layer: a request reaches the service behind it only if its token may do what the route requires.
//!
//! It fails closed: while the service is unavailable, requests are refused with 503, and a request for which no scope is
//! required is refused with 500, unless the layer says that it admits those. Whether refusals are HTTP or gRPC is
//! configured. If the request decided, a client could have its refusals sent as HTTP 200.

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

/// Puts authorization in front of a service. The service finds the [`Introspection`] in the extensions of its requests.
/// The `authorization` header is removed, so that no code behind the layer can log it.
///
/// A layer needs [`require`](Self::require) or [`require_by`](Self::require_by): it refuses every request for which no
/// scope is required, since such a request is authorised for nothing.
#[derive(Clone)]
pub struct AuthLayer {
    client: Client,
    face: Face,
    required: Required,
    client_ip: ClientIp,
    admits_identity_only: bool,
}

#[derive(Clone)]
enum Required {
    Always(Scopes),
    By(Arc<dyn Fn(&Parts) -> Scopes + Send + Sync>),
}

impl AuthLayer {
    /// Creates a layer for an HTTP service. Refusals are 400, 401, 403 and 503, and 500 if no scope is required, with a
    /// problem body (RFC 9457).
    pub fn http(client: Client) -> Self {
        let required = Required::Always(Scopes::NONE);
        let client_ip = ClientIp::connection();
        Self { client, face: Face::Http, required, client_ip, admits_identity_only: false }
    }

    /// Creates a layer for a gRPC service. Refusals are `INVALID_ARGUMENT`, `UNAUTHENTICATED`, `PERMISSION_DENIED` and
    /// `UNAVAILABLE`, and `INTERNAL` if no scope is required.
    pub fn grpc(client: Client) -> Self {
        Self { face: Face::Grpc, ..Self::http(client) }
    }

    /// Requires all of these scopes. With none, the layer refuses every request, unless
    /// [`admit_identity_only`](Self::admit_identity_only) is set.
    #[must_use]
    pub fn require(self, scopes: Scopes) -> Self {
        Self { required: Required::Always(scopes), ..self }
    }

    /// Requires the scopes that this function returns for a request, for example by the method of a gRPC service.
    #[must_use]
    pub fn require_by(self, scopes: impl Fn(&Parts) -> Scopes + Send + Sync + 'static) -> Self {
        Self { required: Required::By(Arc::new(scopes)), ..self }
    }

    /// Admits requests for which no scope is required, if their token is valid and may act in the named workspace. Such a
    /// request is authorised for nothing: in the service behind the layer, its [`Introspection`] says
    /// [`is_identity_only`](Introspection::is_identity_only), and [`is_allowed`](Introspection::is_allowed) is false.
    /// For an endpoint that tells clients who they are, or that checks the scopes itself.
    #[must_use]
    pub fn admit_identity_only(self) -> Self {
        Self { admits_identity_only: true, ..self }
    }

    /// Sets the source of the client's address, for credentials with an IP allowlist.
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
        if scopes.is_empty() && !self.admits_identity_only {
            tracing::error!(
                "a request is refused, because its route requires no scope: use AuthLayer::require or require_by"
            );
            return Err(Refusal::no_scope_required());
        }
        let presented = Presented::new(token)
            .in_workspace(workspace)
            .requiring(scopes)
            .from_ip(self.client_ip.resolve(parts));
        let answer = match self.client.introspect(&presented).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "a request is refused, because the service gave no answer");
                return Err(Refusal::unavailable(&error));
            }
        };
        parts.headers.remove(AUTHORIZATION);
        let admitted = answer.is_allowed()
            || (self.admits_identity_only
                && answer.is_identity_only()
                && answer.denial().is_none());
        if admitted { Ok(answer) } else { Err(Refusal::denied(answer)) }
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
        // The service that is ready is used, because its clone may not be.
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
