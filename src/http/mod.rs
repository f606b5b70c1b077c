//! The HTTP face: health probes, OAuth for its client libraries, and forward-auth for proxies.
//!
//! As in `grpc/gate.rs`, every request is checked before it reaches an endpoint: the caller is authenticated, has a
//! free permit and the permission, and the request has a deadline.

mod caller;
mod form;
mod forward_auth;
mod health;
mod oauth2;
mod problem;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use axum::routing::{MethodRouter, any, get, post};
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument as _, field};

use crate::service::{
    Attempt, AuthenticatedCaller, Context, InFlightGuard, Peer, Readiness, Reason, Recorded,
    Requester, RequestsInFlight, Rpc, Service, ServiceError,
};
pub use problem::status;
use problem::{Problem, Style};

/// State that the endpoints share.
pub(crate) struct HttpFace {
    service: Arc<Service>,
    issuer: String,
    requests: Arc<RequestsInFlight>,
}

/// The endpoints that authenticate their caller.
#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Introspect,
    Revoke,
    ForwardAuth,
}

impl HttpFace {
    /// A face over these use cases. `issuer` is the public URL of the endpoints (RFC 8414).
    pub(crate) fn new(
        service: Arc<Service>,
        issuer: String,
        requests: Arc<RequestsInFlight>,
    ) -> Arc<Self> {
        Arc::new(Self { service, issuer, requests })
    }

    /// Answers a request by its deadline, even if a handler panics.
    async fn handle(self: Arc<Self>, endpoint: Endpoint, request: Request) -> Response<Body> {
        let style = endpoint.style();
        let deadline = Instant::now() + self.requests.limits.request_timeout;
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>().map(|peer| field::display(peer.address));
        let span = tracing::debug_span!("http", ?endpoint, peer, caller = field::Empty);
        let work = AssertUnwindSafe(self.answer(endpoint, &parts, body, deadline)).catch_unwind();
        let worked = tokio::time::timeout_at(deadline, work.instrument(span.clone())).await;
        let response = match worked {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(problem))) => problem.respond(style),
            Ok(Err(_)) => {
                Problem::from(ServiceError::internal(&"a handler panicked")).respond(style)
            }
            Err(_) => Problem::from(Reason::DeadlineExceeded).respond(style),
        };
        span.in_scope(|| tracing::debug!(http_status = response.status().as_u16(), "answered"));
        response
    }

    async fn answer(
        &self,
        endpoint: Endpoint,
        parts: &Parts,
        body: Body,
        deadline: Instant,
    ) -> Result<Response<Body>, Problem> {
        let peer = parts.extensions.get::<Peer>();
        let credentials = match endpoint {
            Endpoint::Introspect | Endpoint::Revoke => {
                caller::from_authorization(&parts.headers, peer)?
            }
            Endpoint::ForwardAuth => caller::from_caller_header(&parts.headers, peer)?,
        };
        let service = &self.service;
        let identified = caller::authenticate(service, credentials, peer);
        let authenticated = match peer {
            Some(peer) => self.requests.identify(peer.network(), identified).await?,
            None => identified.await?,
        };
        let permits = self.requests.enter(&authenticated.caller)?;
        if let Some(in_flight) = parts.extensions.get::<Arc<InFlightGuard>>() {
            in_flight.mark_authenticated();
        }
        let context = Context {
            requester: Requester::Caller(Arc::clone(&authenticated.caller)),
            remote_address: peer.map(|peer| peer.address.ip().to_string()),
            deadline: Some(deadline),
            recorded: Recorded::default(),
        };
        permits.run(self.answer_admitted(endpoint, authenticated, context, parts, body)).await
    }

    /// Answers a request whose caller is known and has its permits.
    async fn answer_admitted(
        &self,
        endpoint: Endpoint,
        authenticated: AuthenticatedCaller,
        context: Context,
        parts: &Parts,
        body: Body,
    ) -> Result<Response<Body>, Problem> {
        let Some(action) = endpoint.rpc().row().action else {
            return self.serve(endpoint, authenticated, context, parts, body).await;
        };
        // Refusals are recorded in the audit log, as in `grpc/gate.rs`. No endpoint has an acting user.
        let context = Context { recorded: Recorded::watched(), ..context };
        let attempt = Attempt::new(&context, action);
        let answer = self.serve(endpoint, authenticated, context, parts, body).await;
        if let Err(problem) = &answer {
            self.service.record_refusal(&attempt, problem.reason()).await;
        }
        answer
    }

    async fn serve(
        &self,
        endpoint: Endpoint,
        authenticated: AuthenticatedCaller,
        context: Context,
        parts: &Parts,
        body: Body,
    ) -> Result<Response<Body>, Problem> {
        let rpc = endpoint.rpc();
        rpc.require(&context)?;
        let service = &self.service;
        let receive = async |context| -> Result<_, Problem> {
            let form = oauth2::read_form(parts, body).await?;
            let peer = parts.extensions.get::<Peer>();
            Ok((form, service.admit_received(&authenticated, peer, rpc, context).await?))
        };
        match endpoint {
            Endpoint::Introspect => {
                let (form, context) = receive(context).await?;
                oauth2::introspect(service, &context, &self.issuer, &form).await
            }
            Endpoint::Revoke => {
                let (form, context) = receive(context).await?;
                oauth2::revoke(service, context, &form).await
            }
            Endpoint::ForwardAuth => forward_auth::answer(service, &context, parts).await,
        }
    }
}

impl Endpoint {
    /// The RPC whose permission and audit action the endpoint shares.
    const fn rpc(self) -> Rpc {
        match self {
            Self::Introspect => Rpc::Introspect,
            Self::Revoke => Rpc::Revoke,
            Self::ForwardAuth => Rpc::Check,
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Introspect | Self::Revoke => Style::OAuth,
            Self::ForwardAuth => Style::Problem,
        }
    }
}

/// Returns the routes to all endpoints.
pub(crate) fn router(face: &Arc<HttpFace>, ready: watch::Receiver<Readiness>) -> Router {
    let handler = |endpoint| {
        let face = Arc::clone(face);
        move |request: Request| Arc::clone(&face).handle(endpoint, request)
    };
    let metadata = {
        let face = Arc::clone(face);
        move || async move { oauth2::metadata(&face.issuer) }
    };
    let known = "/.well-known/oauth-authorization-server";
    let mut router = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(async move || health::readyz(&ready)))
        .route("/oauth2/introspect", refuse_other_methods(post(handler(Endpoint::Introspect))))
        .route("/oauth2/revoke", refuse_other_methods(post(handler(Endpoint::Revoke))))
        .route("/auth", any(handler(Endpoint::ForwardAuth)))
        .route(known, refuse_other_methods(get(metadata.clone())));
    // For an issuer with a path, RFC 8414 §3.1 puts the path behind the well-known one.
    let path = issuer_path(&face.issuer);
    if !path.is_empty() {
        router = router.route(&format!("{known}{path}"), refuse_other_methods(get(metadata)));
    }
    router.fallback(async || StatusCode::NOT_FOUND)
}

/// Returns the routes of a server that has no store yet: the health probes only.
pub(crate) fn health_router(ready: watch::Receiver<Readiness>) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(async move || health::readyz(&ready)))
        .fallback(async || Problem::from(Reason::StoreUnavailable).respond(Style::Problem))
}

/// Answers other methods with a problem body.
fn refuse_other_methods(methods: MethodRouter) -> MethodRouter {
    methods.fallback(async || Problem::Method.respond(Style::OAuth))
}

fn issuer_path(issuer: &str) -> &str {
    let rest = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}
