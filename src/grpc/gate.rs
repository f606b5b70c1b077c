//! What every request passes before any service sees it, in this order: is it gRPC, is there room, who calls, may it,
//! and how long may it take (AIP-211: the caller is authorised before its request is validated, or even decoded).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{Request, Response, request};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::{Instrument as _, Level, Span, field};

use super::answer::Answer;
use super::connection::Connection;
use super::introspect::{self, Read, Replay};
use super::permission::{Rule, rule};
use super::protocol::{grpc_timeout, refuse_foreign};
use super::refusals::{self, Managed};
use crate::model::{Caller, Permission};
use crate::service::{Context, Limits, Reason, Recorded, Requester, Result, Service, ServiceError};

/// Stands before all the services.
pub struct Gate {
    routes: Routes,
    service: Arc<Service>,
    room: Semaphore,
    limits: Limits,
}

impl Gate {
    /// Before these services.
    pub fn new(routes: Routes, service: Arc<Service>, limits: Limits) -> Self {
        Self { routes, service, room: Semaphore::new(limits.requests_max), limits }
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.room.available_permits() == self.limits.requests_max
    }

    /// Answers a request.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<Answer> {
        let rule = rule(request.uri().path());
        let introspection = request.uri().path() == introspect::PATH;
        if introspection && !tracing::enabled!(Level::DEBUG) {
            return self.answer(request, connection, rule).await;
        }
        let span = span(&request, rule, connection);
        let begun = Instant::now();
        let response = self.answer(request, connection, rule).instrument(span.clone()).await;
        record(&span, &response, begun);
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        rule: Rule,
    ) -> Response<Answer> {
        if let Some(refusal) = refuse_foreign(&request) {
            return refusal.map(Answer::Tonic);
        }
        let answer = std::panic::AssertUnwindSafe(async {
            match rule {
                Rule::Open | Rule::Unknown => Ok(self.call(request).await),
                Rule::AnyOf(permissions) => self.admit(request, connection, permissions).await,
            }
        });
        match answer.catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => refusal(error),
            Err(_) => refusal(ServiceError::internal(&"a handler panicked")),
        }
    }

    /// Takes a place among the requests under way, and holds it until there is an answer.
    async fn admit(
        &self,
        mut request: Request<Incoming>,
        connection: &Connection,
        permissions: &'static [Permission],
    ) -> Result<Response<Answer>> {
        let _room: SemaphorePermit<'_> = self.room.try_acquire().map_err(|_| Reason::Overloaded)?;
        let timeout = grpc_timeout(request.headers())?.unwrap_or(Duration::MAX);
        let deadline = Instant::now() + timeout.min(self.limits.request_timeout);
        let answer = async {
            let caller = connection.caller(&self.service, request.headers_mut()).await?;
            if let Some(managed) = refusals::action(request.uri().path()) {
                let context = context(caller, connection, deadline);
                return Ok(self.manage(request, permissions, context, managed).await);
            }
            require(&caller, permissions)?;
            if request.uri().path() == introspect::PATH {
                return self.introspect(request, connection, caller, deadline).await;
            }
            request.extensions_mut().insert(context(caller, connection, deadline));
            Ok(self.call(request).await)
        };
        tokio::time::timeout_at(deadline, answer).await.map_err(|_| Reason::DeadlineExceeded)?
    }

    /// What manages something: the audit log is told if it is refused.
    async fn manage(
        &self,
        mut request: Request<Incoming>,
        permissions: &'static [Permission],
        context: Context,
        managed: Managed,
    ) -> Response<Answer> {
        let context = Context { recorded: Recorded::watched(), ..context };
        let response = if permissions.iter().any(|permission| context.permits(*permission)) {
            request.extensions_mut().insert(context.clone());
            self.call(request).await
        } else {
            refusal(permission_missing(permissions))
        };
        refusals::record(&self.service, &context, managed, response.headers()).await;
        response
    }

    async fn introspect(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
        caller: Arc<Caller>,
        deadline: Instant,
    ) -> Result<Response<Answer>> {
        let (mut parts, body) = request.into_parts();
        let (read, rest) = match introspect::read(&parts.headers, body).await {
            Read::Message(message) => {
                if let Some(asked) = introspect::parse(&message, caller.id) {
                    let answer = introspect::answer(&self.service, &asked).await?;
                    return Ok(answer.map(Answer::Once));
                }
                (introspect::framed(&message), None)
            }
            Read::Other(read, rest) => (BytesMut::freeze(read), rest),
        };
        parts.extensions.insert(context(caller, connection, deadline));
        Ok(self.replay(parts, read, rest).await)
    }

    /// Lets tonic say what is wrong with a request whose body was begun to read.
    async fn replay(
        &self,
        parts: request::Parts,
        read: Bytes,
        rest: Option<Incoming>,
    ) -> Response<Answer> {
        self.call(Request::from_parts(parts, Replay::new(read, rest))).await
    }

    async fn call<B>(&self, request: Request<B>) -> Response<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.routes.clone().call(request).await {
            Ok(response) => response.map(Answer::Tonic),
            Err(never) => match never {},
        }
    }
}

fn require(caller: &Caller, permissions: &'static [Permission]) -> Result<()> {
    if permissions.iter().any(|permission| caller.permissions.contains(*permission)) {
        return Ok(());
    }
    Err(permission_missing(permissions))
}

fn permission_missing(permissions: &'static [Permission]) -> ServiceError {
    let names: Vec<_> = permissions.iter().map(|permission| permission.as_str()).collect();
    ServiceError::from(Reason::PermissionMissing).with("permission", names.join(" or "))
}

fn context(caller: Arc<Caller>, connection: &Connection, deadline: Instant) -> Context {
    Context {
        requester: Requester::Caller(caller),
        remote_address: Some(connection.peer().address.ip().to_string()),
        deadline: Some(deadline),
        recorded: Recorded::default(),
    }
}

fn refusal(error: ServiceError) -> Response<Answer> {
    Status::from(error).into_http::<Body>().map(Answer::Tonic)
}

/// Introspection is traced at `debug`, all else at `info`. No field is ever taken from a request's body.
fn span(request: &Request<Incoming>, rule: Rule, connection: &Connection) -> Span {
    let rpc = if rule == Rule::Unknown { "unknown" } else { request.uri().path() };
    let peer = field::display(connection.peer().address);
    if rule == Rule::AnyOf(&[Permission::Introspect]) {
        tracing::debug_span!("rpc", rpc, peer, caller = field::Empty)
    } else {
        tracing::info_span!("rpc", rpc, peer, caller = field::Empty)
    }
}

fn record(span: &Span, response: &Response<Answer>, begun: Instant) {
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
