//! Follows the service's Watch stream, which keeps the cache coherent.
//!
//! A checkpoint says that the cache was current when the checkpoint was *sent*, but it may be delayed on the way. Its
//! age is therefore counted from an instant before it was sent. To get one, the client checks the service's health on
//! the same TCP connection, whose bytes arrive in order. A checkpoint that follows the answer was therefore sent after
//! the check began. If a proxy delays everything by ten seconds, every checkpoint is too old, and the cache gives no
//! answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};
use tower::retry::backoff::Backoff as _;
use tower::service_fn;

use crate::cache::Cache;
use crate::call::{Caller, Calls, backoff};
use crate::clock::BootInstant;
use crate::observe::Event;
use crate::pb::auth_service_client::AuthServiceClient;
use crate::pb::{WatchRequest, WatchResponse};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between two probes: a third of the interval between checkpoints.
const PROBE_INTERVAL: Duration = Duration::from_millis(300);

/// Follows changes until the task is aborted, and reconnects as needed.
pub(crate) async fn run(endpoint: Endpoint, caller: Caller, cache: Arc<Cache>, calls: Arc<Calls>) {
    let mut follower = Follower { endpoint, caller, cache, calls, cursor: String::new() };
    let fresh_backoff = || backoff(Duration::from_millis(50), Duration::from_secs(2));
    let mut pause = fresh_backoff();
    loop {
        let mut received_any = false;
        let ended = follower.follow(&mut received_any).await;
        if received_any {
            follower.calls.notify(Event::WatchDown);
            pause = fresh_backoff();
        }
        // The missed changes are no longer available. An OUT_OF_RANGE answer to an empty cursor is treated like any
        // other error: pause, then retry.
        if ended.code() == Code::OutOfRange && !follower.cursor.is_empty() {
            follower.drop_all();
            continue;
        }
        tracing::debug!(status = %ended.message(), "the stream of changes broke");
        pause.next_backoff().await;
        if follower.cache.is_expired(BootInstant::now()) && !follower.cursor.is_empty() {
            follower.drop_all();
        }
    }
}

struct Follower {
    endpoint: Endpoint,
    caller: Caller,
    cache: Arc<Cache>,
    calls: Arc<Calls>,
    /// Cursor of the last applied response. Empty to start from scratch.
    cursor: String,
}

impl Follower {
    fn drop_all(&mut self) {
        self.cursor.clear();
        self.cache.drop_all();
        self.calls.notify(Event::Dropped);
    }

    /// Follows one stream, on its own connection, until it ends.
    async fn follow(&mut self, received_any: &mut bool) -> Status {
        let timeout = self.cache.limits().checkpoint_max;
        let started = BootInstant::now();
        let opening = async {
            let channel = connect_single(&self.endpoint).await?;
            let stream = self.open_stream(channel.clone()).await?;
            Ok::<_, Status>((channel, stream))
        };
        let (channel, mut stream) = match tokio::time::timeout(timeout, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the service did not answer Watch in time"),
        };
        // Nothing was sent before the connection existed.
        let mut sent_after = started;
        let mut probes = Probes::new(channel, timeout);
        let mut last = Instant::now();
        loop {
            let asked_at = tokio::select! {
                biased;
                response = timeout_at(last + timeout, stream.message()) => {
                    match response {
                        Ok(Ok(Some(response))) => self.apply(response, sent_after, received_any),
                        Ok(Ok(None)) => return Status::unavailable("the service ended the stream"),
                        Ok(Err(status)) => return status,
                        Err(_) => return Status::deadline_exceeded("no checkpoint arrived in time"),
                    }
                    last = Instant::now();
                    continue;
                }
                asked_at = probes.next() => asked_at,
            };
            match asked_at {
                Ok(asked_at) => {
                    // Responses that are here already may have arrived before the answer, so they count from the
                    // previous probe.
                    while let Some(response) = next_if_ready(&mut stream).await {
                        self.apply(response, sent_after, received_any);
                    }
                    sent_after = sent_after.max(asked_at);
                }
                Err(status) => return status,
            }
        }
    }

    async fn open_stream(&self, channel: Channel) -> Result<Streaming<WatchResponse>, Status> {
        let service = InterceptedService::new(channel, self.caller.clone());
        let request = WatchRequest { cursor: self.cursor.clone() };
        Ok(AuthServiceClient::new(service).watch(request).await?.into_inner())
    }

    fn apply(&mut self, response: WatchResponse, sent_after: BootInstant, received_any: &mut bool) {
        let restarted = self.cursor.is_empty();
        if self.cache.apply(&response, sent_after, restarted, BootInstant::now()) {
            self.calls.notify(Event::Dropped);
        }
        self.cursor = response.cursor;
        if !*received_any {
            *received_any = true;
            self.calls.notify(Event::WatchUp);
        }
    }
}

/// Returns the next response if it has arrived. The end of the stream is reported by the next wait.
async fn next_if_ready(stream: &mut Streaming<WatchResponse>) -> Option<WatchResponse> {
    tokio::select! {
        biased;
        response = stream.message() => response.ok().flatten(),
        () = std::future::ready(()) => None,
    }
}

/// Returns a channel of a single TCP connection, which never reconnects.
async fn connect_single(endpoint: &Endpoint) -> Result<Channel, Status> {
    let used = Arc::new(AtomicBool::new(false));
    let connector = service_fn(move |uri: Uri| {
        let used = Arc::clone(&used);
        async move {
            if used.swap(true, Ordering::Relaxed) {
                return Err(std::io::Error::other("the connection has ended"));
            }
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(default_port);
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        }
    });
    let connecting = endpoint.connect_with_connector(connector);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(_)) => Err(Status::unavailable("the service is unreachable")),
        Err(_) => {
            Err(Status::deadline_exceeded("the service did not accept the connection in time"))
        }
    }
}

/// A probe in flight. Its result is the instant at which it was sent.
type Probe = std::pin::Pin<Box<dyn Future<Output = Result<BootInstant, Status>> + Send>>;

/// Health checks. Everything that follows the answer to a check was sent after that check.
struct Probes {
    channel: Channel,
    timeout: Duration,
    pending: Option<Probe>,
}

impl Probes {
    fn new(channel: Channel, timeout: Duration) -> Self {
        Self { channel, timeout, pending: None }
    }

    /// Returns the instant at which the next answered probe was sent. Cancellation-safe.
    async fn next(&mut self) -> Result<BootInstant, Status> {
        let pending =
            self.pending.get_or_insert_with(|| Box::pin(probe(self.channel.clone(), self.timeout)));
        let asked_at = pending.as_mut().await;
        self.pending = None;
        asked_at
    }
}

async fn probe(channel: Channel, timeout: Duration) -> Result<BootInstant, Status> {
    tokio::time::sleep(PROBE_INTERVAL).await;
    let asked_at = BootInstant::now();
    let asking = async {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|_| Status::unavailable("the connection has ended"))?;
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        // The contents of request and response do not matter, so both are decoded as empty.
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        grpc.unary(Request::new(()), path, codec).await
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(Ok(_)) => Ok(asked_at),
        Ok(Err(status)) => match status.code() {
            // This is an answer too, from a service without health checks or one that is not ready.
            Code::Unimplemented
            | Code::NotFound
            | Code::Unauthenticated
            | Code::PermissionDenied => Ok(asked_at),
            _ => Err(status),
        },
        Err(_) => Err(Status::deadline_exceeded("the service does not answer a health check")),
    }
}
