//! What every request passes before any service sees it, in this order: is it gRPC, is there room, who calls, may it,
//! and how long may it take (AIP-211: the caller is authorised before its request is validated, or even decoded).

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::{Instrument as _, Span, field};

use super::permission::{Rule, rule};
use super::{Peer, caller, refusals};
use crate::model::Permission;
use crate::service::{Context, Reason, Recorded, Requester, Result, Service, ServiceError};

/// How much, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests under way at once, over all connections; one more is refused, not queued.
    pub requests_max: usize,
    /// The longest that a request may take, whatever deadline it brings.
    pub request_timeout: Duration,
}

/// Stands before all the services.
#[derive(Clone)]
pub struct Gate {
    routes: Routes,
    service: Arc<Service>,
    room: Arc<Semaphore>,
    limits: Limits,
}

impl Gate {
    /// Before these services.
    pub fn new(routes: Routes, service: Arc<Service>, limits: Limits) -> Self {
        Self { routes, service, room: Arc::new(Semaphore::new(limits.requests_max)), limits }
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.room.available_permits() == self.limits.requests_max
    }

    /// Answers a request.
    pub async fn handle(
        self,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Body>, Infallible> {
        let rule = rule(request.uri().path());
        let span = span(&request, rule);
        let begun = Instant::now();
        let response = self.answer(request, rule).instrument(span.clone()).await;
        record(&span, &response, begun);
        Ok(response)
    }

    async fn answer(mut self, mut request: Request<Incoming>, rule: Rule) -> Response<Body> {
        if let Some(refusal) = refuse_foreign(&request) {
            return refusal;
        }
        let managed = refusals::action(request.uri().path());
        let (deadline, _room) = match rule {
            Rule::Open | Rule::Unknown => (None, None),
            Rule::AnyOf(permissions) => match self.admit(&mut request, permissions).await {
                Ok((deadline, room)) => (Some(deadline), Some(room)),
                Err(error) => {
                    let response = Status::from(error).into_http();
                    if let Some((managed, context)) = managed.zip(context(&request)) {
                        let headers = response.headers();
                        refusals::record(&self.service, &context, managed, headers).await;
                    }
                    return response;
                }
            },
        };
        let managed = managed.and_then(|managed| Some((managed, context(&request)?)));
        let call = AssertUnwindSafe(self.routes.call(request)).catch_unwind();
        let called = match deadline {
            None => call.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, call).await {
                Ok(called) => called,
                Err(_) => {
                    return Status::from(ServiceError::from(Reason::DeadlineExceeded)).into_http();
                }
            },
        };
        match called {
            Ok(Ok(response)) => {
                if let Some((managed, context)) = managed {
                    let headers = response.headers();
                    refusals::record(&self.service, &context, managed, headers).await;
                }
                response
            }
            Ok(Err(never)) => match never {},
            Err(_) => Status::from(ServiceError::internal(&"a handler panicked")).into_http(),
        }
    }

    /// The deadline, and a place among the requests under way; the context goes into the request's extensions.
    async fn admit(
        &self,
        request: &mut Request<Incoming>,
        permissions: &'static [Permission],
    ) -> Result<(Instant, OwnedSemaphorePermit)> {
        let begun = Instant::now();
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Reason::Overloaded)?;
        let timeout = grpc_timeout(request.headers())?.unwrap_or(Duration::MAX);
        let deadline = begun + timeout.min(self.limits.request_timeout);
        let peer = request.extensions().get::<Peer>().cloned();
        let presented = caller::presented(request.headers_mut(), peer.as_ref())?;
        let caller = tokio::time::timeout_at(deadline, self.service.authenticate(&presented));
        let caller = caller.await.map_err(|_| Reason::DeadlineExceeded)??;
        Span::current().record("caller", caller.name.as_str());
        let context = Context {
            requester: Requester::Caller(caller),
            remote_address: peer.map(|peer| peer.address.ip().to_string()),
            deadline: Some(deadline),
            recorded: match refusals::action(request.uri().path()) {
                Some(_) => Recorded::watched(),
                None => Recorded::default(),
            },
        };
        let permitted = permissions.iter().any(|permission| context.permits(*permission));
        request.extensions_mut().insert(context);
        if !permitted {
            let names: Vec<_> = permissions.iter().map(|permission| permission.as_str()).collect();
            return Err(ServiceError::from(Reason::PermissionMissing)
                .with("permission", names.join(" or ")));
        }
        Ok((deadline, room))
    }
}

/// Who asks, once that is known.
fn context(request: &Request<Incoming>) -> Option<Context> {
    request.extensions().get::<Context>().cloned()
}

/// tonic itself takes any method and any content type (CATALOGUE B12).
fn refuse_foreign(request: &Request<Incoming>) -> Option<Response<Body>> {
    let mut refusal = Response::new(Body::default());
    if request.method() != Method::POST {
        *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        refusal.headers_mut().insert(ALLOW, http::HeaderValue::from_static("POST"));
        return Some(refusal);
    }
    let content_type = request.headers().get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let grpc = content_type.and_then(|value| value.strip_prefix(b"application/grpc")).is_some_and(
        |rest| {
            rest.is_empty()
                || rest == b"+proto"
                || rest.starts_with(b";")
                || rest.starts_with(b"+proto;")
        },
    );
    if grpc {
        return None;
    }
    *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(refusal)
}

/// The deadline that the client brings: at most eight digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let fits =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let amount: u64 = digits.parse().ok().filter(|_| fits)?;
        Some(match unit {
            "H" => Duration::from_secs(amount * 3_600),
            "M" => Duration::from_secs(amount * 60),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    });
    match parsed {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(ServiceError::from(Reason::RequestMalformed).with("header", "grpc-timeout")),
    }
}

/// Introspection is traced at `debug`, all else at `info`. No field is ever taken from a request's body.
fn span(request: &Request<Incoming>, rule: Rule) -> Span {
    let rpc = if rule == Rule::Unknown { "unknown" } else { request.uri().path() };
    let peer = request.extensions().get::<Peer>().map(|peer| field::display(peer.address));
    if rule == Rule::AnyOf(&[Permission::Introspect]) {
        tracing::debug_span!("rpc", rpc, peer, caller = field::Empty)
    } else {
        tracing::info_span!("rpc", rpc, peer, caller = field::Empty)
    }
}

fn record(span: &Span, response: &Response<Body>, begun: Instant) {
    if span.is_disabled() {
        return;
    }
    let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    let elapsed_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let http_status = response.status().as_u16();
    span.in_scope(|| {
        tracing::debug!(status = status.unwrap_or("0"), http_status, elapsed_us, "answered");
    });
}
