//! What every request passes before any service sees it, in this order: is it gRPC, who calls, is there room for one more
//! of it, may it, and how long may it take (AIP-211: the caller is authorised before its request is validated, or even
//! decoded).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::{Instrument as _, Level, Span, field};

use super::answer::{Answer, Held};
use super::connection::Connection;
use super::introspect::{self, batch};
use super::message::{self, Read, Replay, Reserved};
use super::protocol::{grpc_timeout, refuse_foreign};
use super::status;
use super::strangers::{self, InTime, OPEN_TIMEOUT, Strangers};
use crate::model::{AuditAction, Caller, Permission};
use crate::service::grant::Rule;
use crate::service::rpcs::CallType;
use crate::service::{
    Attempt, Context, Reason, Recorded, Requester, Requests, Result, Rpc, Service, ServiceError,
};

/// How long the message of a refused call is waited for at the most.
const REFUSED_MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Stands before all the services.
pub struct Gate {
    routes: Routes,
    service: Arc<Service>,
    requests: Arc<Requests>,
    strangers: Strangers,
}

impl Gate {
    /// Before these services.
    pub fn new(routes: Routes, service: Arc<Service>, requests: Arc<Requests>) -> Self {
        Self { routes, service, requests, strangers: Strangers::default() }
    }

    /// Answers a request.
    pub async fn handle(
        &self,
        mut request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<Answer> {
        let mut read = Bytes::new();
        let at_once = || self.introspect_at_once(&mut request, connection, &mut read);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(at_once)) {
            Ok(Some(answer)) => {
                connection.peer().activity.touch();
                return answer.map_or_else(refusal, |response| response.map(Answer::once));
            }
            Ok(None) => {}
            Err(_) => return panicked(),
        }
        // Boxed: it is thousands of bytes, which what is answered at once had better not carry along.
        Box::pin(self.handle_in_time(request, read, connection)).await
    }

    /// Answers an introspection that need not wait: its caller is the one that spoke on this connection last, all of it
    /// has come, and memory knows. All else is for [`Self::handle_in_time`],
    /// with what was `read`.
    fn introspect_at_once(
        &self,
        request: &mut Request<Incoming>,
        connection: &Connection,
        read: &mut Bytes,
    ) -> Option<Result<Response<introspect::Once>>> {
        if request.uri().path() != Rpc::Introspect.row().path || tracing::enabled!(Level::DEBUG) {
            return None;
        }
        let headers = request.headers();
        let in_time =
            matches!(grpc_timeout(headers), Ok(timeout) if timeout != Some(Duration::ZERO));
        if !in_time || message::is_encoded(headers) || refuse_foreign(request).is_some() {
            return None;
        }
        let term = self.service.term();
        let caller = connection.last_caller(&self.service, headers)?;
        if !caller.permissions.contains(Permission::Introspect) {
            return None;
        }
        introspect::answer_at_once(&self.service, caller.id, term, request.body_mut(), read)
    }

    async fn handle_in_time(
        &self,
        request: Request<Incoming>,
        read: Bytes,
        connection: &Connection,
    ) -> Response<Answer> {
        let rpc = Rpc::from_path(request.uri().path());
        let span = span(rpc, connection);
        let begun = Instant::now();
        let in_flight = connection.peer().activity.begin_request();
        let mut held = Held::new(in_flight);
        let answer = self.answer(request, read, connection, rpc, &mut held);
        let response = answer.instrument(span.clone()).await;
        record(&span, &response, begun);
        response.map(|answer| answer.holding(held))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        read: Bytes,
        connection: &Connection,
        rpc: Option<Rpc>,
        held: &mut Held,
    ) -> Response<Answer> {
        if let Some(refusal) = refuse_foreign(&request) {
            return refusal.map(Answer::tonic);
        }
        let answer = std::panic::AssertUnwindSafe(async {
            let Some(rpc) = rpc else { return Ok(self.call(request).await) };
            match rpc.row().rule {
                Rule::Open => self.open(request, rpc, held).await,
                Rule::AnyOf(_) | Rule::AnyOfAndHeld(_) | Rule::ByMessage(_) => {
                    self.admit(request, read, connection, rpc, held).await
                }
            }
        });
        match answer.catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => refusal(error),
            Err(_) => panicked(),
        }
    }

    /// Finds out who calls, and holds one of its places among the requests under way until the answer has left.
    async fn admit(
        &self,
        mut request: Request<Incoming>,
        read: Bytes,
        connection: &Connection,
        rpc: Rpc,
        held: &mut Held,
    ) -> Result<Response<Answer>> {
        let timeout = grpc_timeout(request.headers())?.unwrap_or(Duration::MAX);
        let timeout = timeout.min(self.requests.limits.request_timeout);
        if timeout.is_zero() {
            // Its time is over before it begins: it must not depend on how fast the store is.
            return Err(Reason::DeadlineExceeded.into());
        }
        let deadline = Instant::now() + timeout;
        let answer = async {
            let caller = connection.caller(&self.service, request.headers_mut());
            let caller = self.requests.identify(connection.peer().network(), caller).await?;
            held.in_flight.mark_authenticated();
            held.place = Some(self.requests.enter(&caller)?);
            held.reserved = Reserved::of(Arc::clone(&self.requests), Arc::clone(&caller));
            let context = context(Arc::clone(&caller), connection, deadline);
            if let Some(action) = rpc.row().action {
                return Ok(self.manage(request, rpc, action, context, held).await);
            }
            rpc.require(&context)?;
            if rpc.row().call_type == CallType::ServerStreaming {
                held.watch = Some(self.requests.watch(&caller)?);
            }
            if let Rpc::Introspect | Rpc::BatchIntrospect = rpc {
                return self.introspect(request, rpc, read, context, held).await;
            }
            let (parts, body) = request.into_parts();
            let read = self.read(&parts, rpc, read, body, held).await;
            let answer = self.replay(parts, read, context).await;
            if held.watch.is_some() { Ok(answer) } else { weighed(answer, held).await }
        };
        let answer = tokio::time::timeout_at(deadline, answer).await;
        if held.watch.is_some() {
            held.place = None;
        }
        answer.map_err(|_| Reason::DeadlineExceeded)?
    }

    /// A management call. The audit log is told if it is refused here or for what its fields hold; what a use case refuses
    /// it has recorded itself, with its target. The acting user is read out of the message only to be recorded, and
    /// decides nothing: the use case alone decodes the message.
    async fn manage(
        &self,
        request: Request<Incoming>,
        rpc: Rpc,
        action: AuditAction,
        context: Context,
        held: &mut Held,
    ) -> Response<Answer> {
        let context = Context { recorded: Recorded::watched(), ..context };
        let attempt = Attempt::new(&context, action);
        let (parts, body) = request.into_parts();
        let reading = self.read(&parts, rpc, Bytes::new(), body, held);
        let acting = |read: &Read| rpc.row().acting_user_field.zip(read.message());
        let (acting, response) = match rpc.require(&context) {
            Ok(()) => {
                let read = reading.await;
                (acting(&read), self.replay(parts, read, context).await)
            }
            Err(error) => {
                let read = tokio::time::timeout(patience(&context), reading).await;
                (read.ok().as_ref().and_then(acting), refusal(error))
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

    /// Introspects one, or many.
    async fn introspect(
        &self,
        request: Request<Incoming>,
        rpc: Rpc,
        read: Bytes,
        context: Context,
        held: &mut Held,
    ) -> Result<Response<Answer>> {
        let (parts, body) = request.into_parts();
        let read = self.read(&parts, rpc, read, body, held).await;
        if let (Some(message), Some(caller)) = (read.message(), context.caller_id()) {
            let answer = if rpc == Rpc::BatchIntrospect {
                batch::answer(&self.service, &message, caller).await
            } else {
                introspect::answer(&self.service, &message, caller).await
            };
            if let Some(answer) = answer {
                let answer = answer?;
                held.reserved.grow_by(answer.body().len())?;
                return Ok(answer.map(Answer::once));
            }
        }
        Ok(self.replay(parts, read, context).await)
    }

    /// Lets tonic say what is wrong with a request whose body was begun to read.
    async fn replay(
        &self,
        mut parts: request::Parts,
        read: Read,
        context: Context,
    ) -> Response<Answer> {
        parts.extensions.insert(context);
        match Replay::of(read) {
            Ok(body) => self.call(Request::from_parts(parts, body)).await,
            Err(error) => refusal(error),
        }
    }

    /// Reads a request's message, within what it may have, and all of them together.
    async fn read(
        &self,
        parts: &request::Parts,
        rpc: Rpc,
        read: Bytes,
        body: Incoming,
        held: &mut Held,
    ) -> Read {
        let bytes_max = rpc.row().request_bytes_max;
        message::read(&parts.headers, read, body, bytes_max, &mut held.reserved).await
    }

    /// Answers what anybody may ask.
    async fn open(
        &self,
        request: Request<Incoming>,
        rpc: Rpc,
        held: &mut Held,
    ) -> Result<Response<Answer>> {
        let reflection = rpc.row().call_type == CallType::BidiStreaming;
        held.seat = Some(self.strangers.enter(held.in_flight.activity(), reflection)?);
        let deadline = Instant::now() + OPEN_TIMEOUT.min(self.requests.limits.request_timeout);
        let (mut parts, mut body) = request.into_parts();
        strangers::only_what_is_read(&mut parts);
        if reflection {
            // tonic's reflection ends a stream that begins badly as if it had been answered.
            let begun = message::begin(&mut body, rpc.row().request_bytes_max);
            let begun = tokio::time::timeout_at(deadline, begun).await;
            let begun = begun.map_err(|_| Reason::DeadlineExceeded)??;
            let body = InTime::new(begun, body, deadline);
            return Ok(self.call(Request::from_parts(parts, body)).await);
        }
        let reading = self.read(&parts, rpc, Bytes::new(), body, held);
        let read = tokio::time::timeout_at(deadline, reading).await;
        let body = Replay::of(read.map_err(|_| Reason::DeadlineExceeded)?)?;
        Ok(self.call(Request::from_parts(parts, body)).await)
    }

    async fn call<B>(&self, request: Request<B>) -> Response<Answer>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.routes.clone().call(request).await {
            Ok(response) => response.map(Answer::tonic),
            Err(never) => match never {},
        }
    }
}

/// Counts the one message of an answer with what is large, and keeps it at hand. Of what changes something no answer is
/// withheld for that: it has happened.
async fn weighed(mut answer: Response<Answer>, held: &mut Held) -> Result<Response<Answer>> {
    if let Some(Ok(frame)) = answer.body_mut().frame().await {
        held.reserved.grow_by(frame.data_ref().map_or(0, Bytes::len))?;
        held.ahead = Some(frame);
    }
    Ok(answer)
}

/// How long to wait for the message of a call that is refused whatever it says. A caller sends it along, as a rule; one that
/// holds it back is refused in time all the same, and recorded.
fn patience(context: &Context) -> Duration {
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

fn panicked() -> Response<Answer> {
    refusal(ServiceError::internal(&"a handler panicked"))
}

fn refusal(error: ServiceError) -> Response<Answer> {
    Status::from(error).into_http::<Body>().map(Answer::tonic)
}

/// Introspection is traced at `debug`, all else at `info`. No field is ever taken from a request's body.
fn span(rpc: Option<Rpc>, connection: &Connection) -> Span {
    let (path, rule) = rpc.map_or(("unknown", None), |rpc| (rpc.row().path, Some(rpc.row().rule)));
    let peer = field::display(connection.peer().address);
    if rule == Some(Rule::AnyOf(&[Permission::Introspect])) {
        tracing::debug_span!("rpc", rpc = path, peer, caller = field::Empty)
    } else {
        tracing::info_span!("rpc", rpc = path, peer, caller = field::Empty)
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
