//! The checks that every request passes before it reaches a service, in this order: it is gRPC, it has a deadline, the
//! caller is authenticated, the caller has a free permit, and the caller has the permission. The caller is authorised
//! before its request is decoded or validated (AIP-211), and again once it has been received whole, since the client
//! decides how long that takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::service::Routes;
use tower::Service as _;
use tracing::{Instrument as _, Level, Span, field};

use super::connection::Connection;
use super::health;
use super::introspect::{self, batch};
use super::message::{self, FramedMessage, MemoryReservation};
use super::protocol::{grpc_timeout, refuse_non_grpc};
use super::response_body::{RequestGuard, ResponseBody};
use super::status;
use super::unauthenticated::{
    self, DeadlineBody, UNAUTHENTICATED_TIMEOUT, UnauthenticatedRequests,
};
use crate::model::{AuditAction, Caller, Permission};
use crate::service::grant::Rule;
use crate::service::rpcs::CallType;
use crate::service::{
    Attempt, AuthenticatedCaller, CallPermits, Context, Reason, Recorded, Requester,
    RequestsInFlight, Result, Rpc, Service, ServiceError,
};

/// Longest wait for the message of a refused call, which is read for the audit log.
const REFUSED_MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// A request whose caller was authenticated and has its permits. It has no [`Context`] yet that a use case could take:
/// that is made by [`Self::received`].
struct Admitted<'c> {
    connection: &'c Connection,
    authenticated: AuthenticatedCaller,
    context: Context,
}

impl Admitted<'_> {
    /// Returns the context of the call, now that its message has been received.
    async fn received(self, service: &Service, rpc: Rpc) -> Result<Context> {
        let peer = Some(self.connection.peer());
        service.admit_received(&self.authenticated, peer, rpc, self.context).await
    }
}

/// Checks every request, and passes it on to its service.
pub struct Gate {
    routes: Routes,
    service: Arc<Service>,
    requests: Arc<RequestsInFlight>,
    unauthenticated: UnauthenticatedRequests,
}

impl Gate {
    /// A gate in front of these services.
    pub fn new(routes: Routes, service: Arc<Service>, requests: Arc<RequestsInFlight>) -> Self {
        Self { routes, service, requests, unauthenticated: UnauthenticatedRequests::default() }
    }

    /// Answers a request.
    pub async fn handle(
        &self,
        mut request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<ResponseBody> {
        let mut buffered = Bytes::new();
        let at_once = || self.introspect_at_once(&mut request, connection, &mut buffered);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(at_once)) {
            Ok(Some(answer)) => {
                connection.peer().activity.touch();
                return answer.map_or_else(ResponseBody::refusal, |response| {
                    response.map(ResponseBody::unary)
                });
            }
            Ok(None) => {}
            Err(_) => return panic_response(),
        }
        // Boxed, because this future is thousands of bytes, which the fast path above should not carry.
        Box::pin(self.handle_with_deadline(request, buffered, connection)).await
    }

    /// Answers an introspection without waiting, if it comes from the last caller on this connection, has been received
    /// whole, and can be answered from memory. Otherwise returns `None`, and [`Self::handle_with_deadline`] continues
    /// with the bytes in `buffered`.
    fn introspect_at_once(
        &self,
        request: &mut Request<Incoming>,
        connection: &Connection,
        buffered: &mut Bytes,
    ) -> Option<Result<Response<introspect::UnaryBody>>> {
        if request.uri().path() != Rpc::Introspect.row().path || tracing::enabled!(Level::DEBUG) {
            return None;
        }
        let headers = request.headers();
        let in_time =
            matches!(grpc_timeout(headers), Ok(timeout) if timeout != Some(Duration::ZERO));
        if !in_time || message::is_compressed(headers) || refuse_non_grpc(request).is_some() {
            return None;
        }
        let snapshot = self.service.lease_snapshot();
        let caller = connection.last_caller(&self.service, headers)?;
        if !caller.permissions.contains(Permission::Introspect) {
            return None;
        }
        introspect::try_answer_from_memory(
            &self.service,
            caller.id,
            snapshot,
            request.body_mut(),
            buffered,
        )
    }

    async fn handle_with_deadline(
        &self,
        request: Request<Incoming>,
        buffered: Bytes,
        connection: &Connection,
    ) -> Response<ResponseBody> {
        let rpc = Rpc::from_path(request.uri().path());
        let span = span(rpc, connection);
        let start = Instant::now();
        let in_flight = connection.peer().activity.begin_request();
        let mut guard = RequestGuard::new(in_flight);
        let answer = self.answer(request, buffered, connection, rpc, &mut guard);
        let response = answer.instrument(span.clone()).await;
        log_response(&span, &response, start);
        response.map(|answer| answer.with_guard(guard))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        buffered: Bytes,
        connection: &Connection,
        rpc: Option<Rpc>,
        guard: &mut RequestGuard,
    ) -> Response<ResponseBody> {
        if let Some(refusal) = refuse_non_grpc(&request) {
            return ResponseBody::from_tonic(refusal);
        }
        let answer = std::panic::AssertUnwindSafe(async {
            // Never passed on: a method that tonic serves and that has no row would be open to everyone.
            let rpc = rpc.ok_or(Reason::MethodUnknown)?;
            match rpc.row().rule {
                Rule::Open => self.answer_unauthenticated(request, rpc, guard).await,
                Rule::AnyOf(_) | Rule::AnyOfAndHeld(_) | Rule::ByMessage(_) => {
                    self.admit(request, buffered, connection, rpc, guard).await
                }
            }
        });
        match answer.catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => ResponseBody::refusal(error),
            Err(_) => panic_response(),
        }
    }

    /// Authenticates the caller, and takes one of its permits for requests in flight until the response has been sent,
    /// and all that the request has started has ended.
    async fn admit(
        &self,
        mut request: Request<Incoming>,
        buffered: Bytes,
        connection: &Connection,
        rpc: Rpc,
        guard: &mut RequestGuard,
    ) -> Result<Response<ResponseBody>> {
        let timeout = grpc_timeout(request.headers())?.unwrap_or(Duration::MAX);
        let timeout = timeout.min(self.requests.limits.request_timeout);
        if timeout.is_zero() {
            // The deadline has passed already, so the answer must not depend on how fast the store is.
            return Err(Reason::DeadlineExceeded.into());
        }
        let deadline = Instant::now() + timeout;
        let answer = async {
            let caller = connection.caller(&self.service, request.headers_mut());
            let authenticated = self.requests.identify(connection.peer().network(), caller).await?;
            guard.in_flight.mark_authenticated();
            let permits = self.requests.enter(&authenticated.caller)?;
            guard.caller_permit = Some(permits.clone());
            guard.memory = MemoryReservation::for_caller(permits.clone());
            let context = context(Arc::clone(&authenticated.caller), connection, deadline);
            let admitted = Admitted { connection, authenticated, context };
            permits.run(self.answer_admitted(request, buffered, rpc, admitted, guard)).await
        };
        let answer = tokio::time::timeout_at(deadline, answer).await;
        if guard.watch_permit.is_some() {
            guard.caller_permit = None;
            guard.memory = MemoryReservation::unauthenticated();
        }
        answer.map_err(|_| Reason::DeadlineExceeded)?
    }

    /// Answers a request whose caller is known and has its permits.
    async fn answer_admitted(
        &self,
        request: Request<Incoming>,
        buffered: Bytes,
        rpc: Rpc,
        admitted: Admitted<'_>,
        guard: &mut RequestGuard,
    ) -> Result<Response<ResponseBody>> {
        if let Some(action) = rpc.row().action {
            return Ok(self.manage(request, rpc, action, admitted, guard).await);
        }
        rpc.require(&admitted.context)?;
        if rpc.row().call_type == CallType::ServerStreaming {
            guard.watch_permit =
                guard.caller_permit.as_ref().map(CallPermits::watch).transpose()?;
        }
        if let Rpc::Introspect | Rpc::BatchIntrospect = rpc {
            return self.introspect(request, rpc, buffered, admitted, guard).await;
        }
        let (parts, body) = request.into_parts();
        let received = self.receive(&parts, rpc, buffered, body, guard).await;
        let context = admitted.received(&self.service, rpc).await?;
        let answer = self.forward_to_tonic(parts, received, context).await;
        if guard.watch_permit.is_some() {
            Ok(answer)
        } else {
            reserve_response(answer, guard).await
        }
    }

    /// Answers a management call, and records its refusal in the audit log if the gate or a field check refused it. A
    /// use case records its own refusals, with their target.
    ///
    /// The acting user is read from the message only for the audit log, never for a decision. Decoding the message is
    /// left to the use case.
    async fn manage(
        &self,
        request: Request<Incoming>,
        rpc: Rpc,
        action: AuditAction,
        mut admitted: Admitted<'_>,
        guard: &mut RequestGuard,
    ) -> Response<ResponseBody> {
        admitted.context.recorded = Recorded::watched();
        let attempt = Attempt::new(&admitted.context, action);
        let (parts, body) = request.into_parts();
        let receiving = self.receive(&parts, rpc, Bytes::new(), body, guard);
        let acting =
            |received: FramedMessage| rpc.row().acting_user_field.zip(Some(received.message()));
        let (acting, response) = match rpc.require(&admitted.context) {
            Ok(()) => {
                let received = receiving.await;
                let acting = received.as_ref().ok().cloned().and_then(acting);
                let response = match admitted.received(&self.service, rpc).await {
                    Ok(context) => self.forward_to_tonic(parts, received, context).await,
                    Err(error) => ResponseBody::refusal(error),
                };
                (acting, response)
            }
            Err(error) => {
                let timeout = refused_message_timeout(&admitted.context);
                let received = tokio::time::timeout(timeout, receiving).await;
                (received.ok().and_then(Result::ok).and_then(acting), ResponseBody::refusal(error))
            }
        };
        if let Some(reason) = status::reason(&response) {
            let acting_user = acting.as_ref();
            let acting_user =
                acting_user.and_then(|(field, message)| message::string_field(message, *field));
            let attempt = attempt.acting_for(acting_user.unwrap_or_default());
            self.service.record_refusal(&attempt, reason).await;
        }
        response
    }

    /// Answers `Introspect` and `BatchIntrospect`.
    async fn introspect(
        &self,
        request: Request<Incoming>,
        rpc: Rpc,
        buffered: Bytes,
        admitted: Admitted<'_>,
        guard: &mut RequestGuard,
    ) -> Result<Response<ResponseBody>> {
        let (parts, body) = request.into_parts();
        let received = self.receive(&parts, rpc, buffered, body, guard).await;
        let context = admitted.received(&self.service, rpc).await?;
        if let (Ok(received), Some(caller)) = (&received, context.caller_id()) {
            let message = received.message();
            let answer = if rpc == Rpc::BatchIntrospect {
                batch::answer(&self.service, &message, caller).await
            } else {
                introspect::answer(&self.service, &message, caller).await
            };
            if let Some(answer) = answer {
                let answer = answer?;
                guard.memory.grow_by(answer.body().len())?;
                return Ok(answer.map(ResponseBody::unary));
            }
        }
        Ok(self.forward_to_tonic(parts, received, context).await)
    }

    /// Passes a request on to tonic, after its message was read.
    async fn forward_to_tonic(
        &self,
        mut parts: request::Parts,
        received: Result<FramedMessage>,
        context: Context,
    ) -> Response<ResponseBody> {
        parts.extensions.insert(context);
        match received {
            Ok(received) => self.call_tonic(Request::from_parts(parts, received.into_body())).await,
            Err(error) => ResponseBody::refusal(error),
        }
    }

    /// Receives a request's message, of which `buffered` has the bytes so far, within the limit of its RPC and the
    /// memory of all requests.
    async fn receive(
        &self,
        parts: &request::Parts,
        rpc: Rpc,
        buffered: Bytes,
        body: Incoming,
        guard: &mut RequestGuard,
    ) -> Result<FramedMessage> {
        let bytes_max = rpc.row().request_bytes_max;
        message::receive(&parts.headers, buffered, body, bytes_max, &mut guard.memory).await
    }

    /// Answers an RPC that needs no caller.
    async fn answer_unauthenticated(
        &self,
        request: Request<Incoming>,
        rpc: Rpc,
        guard: &mut RequestGuard,
    ) -> Result<Response<ResponseBody>> {
        let reflection = rpc.row().call_type == CallType::BidiStreaming;
        guard.unauthenticated_permit =
            Some(self.unauthenticated.enter(guard.in_flight.activity(), reflection)?);
        let deadline =
            Instant::now() + UNAUTHENTICATED_TIMEOUT.min(self.requests.limits.request_timeout);
        let (mut parts, mut body) = request.into_parts();
        unauthenticated::drop_unread_headers(&mut parts);
        if reflection {
            // tonic's reflection reports success for a stream whose first message is invalid, so it is checked here.
            let bytes_max = rpc.row().request_bytes_max;
            let first = message::read_stream_start(&parts.headers, &mut body, bytes_max);
            let first = tokio::time::timeout_at(deadline, first).await;
            let first = first.map_err(|_| Reason::DeadlineExceeded)??;
            let body = DeadlineBody::new(first, body, deadline);
            return Ok(self.call_tonic(Request::from_parts(parts, body)).await);
        }
        let receiving = self.receive(&parts, rpc, Bytes::new(), body, guard);
        let received = tokio::time::timeout_at(deadline, receiving).await;
        let received = received.map_err(|_| Reason::DeadlineExceeded)??;
        health::check_request(&received.message())?;
        Ok(self.call_tonic(Request::from_parts(parts, received.into_body())).await)
    }

    async fn call_tonic<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.routes.clone().call(request).await {
            Ok(response) => ResponseBody::from_tonic(response),
            Err(never) => match never {},
        }
    }
}

/// Reserves memory for the message of a response, and keeps it as the next frame. Only for calls that change nothing: a
/// change has happened by then, and its response must not be withheld.
async fn reserve_response(
    mut answer: Response<ResponseBody>,
    guard: &mut RequestGuard,
) -> Result<Response<ResponseBody>> {
    if let Some(Ok(frame)) = answer.body_mut().frame().await {
        guard.memory.grow_by(frame.data_ref().map_or(0, Bytes::len))?;
        guard.next_frame = Some(frame);
    }
    Ok(answer)
}

/// How long to wait for the message of a call that will be refused in any case. A caller that never sends the message
/// is still refused in time, and recorded.
fn refused_message_timeout(context: &Context) -> Duration {
    let left = context.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(REFUSED_MESSAGE_TIMEOUT, |left| REFUSED_MESSAGE_TIMEOUT.min(left / 2))
}

fn context(caller: Arc<Caller>, connection: &Connection, deadline: Instant) -> Context {
    Context {
        requester: Requester::Caller(caller),
        remote_address: Some(connection.peer().address.ip().to_string()),
        deadline: Some(deadline),
        recorded: Recorded::default(),
    }
}

fn panic_response() -> Response<ResponseBody> {
    ResponseBody::refusal(ServiceError::internal(&"a handler panicked"))
}

/// Makes the span of a request: `debug` for introspection, `info` for all other RPCs. No field comes from a request's
/// body.
fn span(rpc: Option<Rpc>, connection: &Connection) -> Span {
    let (path, rule) = rpc.map_or(("unknown", None), |rpc| (rpc.row().path, Some(rpc.row().rule)));
    let peer = field::display(connection.peer().address);
    if rule == Some(Rule::AnyOf(&[Permission::Introspect])) {
        tracing::debug_span!("rpc", rpc = path, peer, caller = field::Empty)
    } else {
        tracing::info_span!("rpc", rpc = path, peer, caller = field::Empty)
    }
}

fn log_response(span: &Span, response: &Response<ResponseBody>, start: Instant) {
    if span.is_disabled() {
        return;
    }
    let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let http_status = response.status().as_u16();
    span.in_scope(|| {
        tracing::debug!(status = status.unwrap_or("0"), http_status, elapsed_us, "answered");
    });
}
