//! Following the service's changes, so that the cache knows what it may still say.
//!
//! A checkpoint says that the cache was current when it was *sent*; on its way it may have been held up for any time. So it
//! counts from a moment that it was surely sent after: this asks for the service's health on the same connection (one TCP
//! connection, whose bytes come in order), and what comes behind an answer was sent after the question was. A proxy that
//! delays everything by ten seconds thus makes every checkpoint too old, and nothing is answered from memory.

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
use crate::clock::Moment;
use crate::observe::Event;
use crate::pb::auth_service_client::AuthServiceClient;
use crate::pb::{WatchRequest, WatchResponse};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between one question for a proof of time and the next: a third of the time between checkpoints.
const PROBE_INTERVAL: Duration = Duration::from_millis(300);

/// Follows for ever, over as many connections as it takes.
pub(crate) async fn run(endpoint: Endpoint, caller: Caller, cache: Arc<Cache>, calls: Arc<Calls>) {
    let mut follower = Follower { endpoint, caller, cache, calls, cursor: String::new() };
    let fresh_backoff = || backoff(Duration::from_millis(50), Duration::from_secs(2));
    let mut pause = fresh_backoff();
    loop {
        let mut heard = false;
        let ended = follower.follow(&mut heard).await;
        if heard {
            follower.calls.tell(Event::WatchDown);
            pause = fresh_backoff();
        }
        // What was missed is not to be had any more. An empty cursor cannot be too old: that would be a fault, to be paused
        // after as after any other.
        if ended.code() == Code::OutOfRange && !follower.cursor.is_empty() {
            follower.drop_all();
            continue;
        }
        tracing::debug!(status = %ended.message(), "the stream of changes broke");
        pause.next_backoff().await;
        if follower.cache.is_over(Moment::now()) && !follower.cursor.is_empty() {
            follower.drop_all();
        }
    }
}

struct Follower {
    endpoint: Endpoint,
    caller: Caller,
    cache: Arc<Cache>,
    calls: Arc<Calls>,
    /// Of the last response that was taken in; empty: start afresh.
    cursor: String,
}

impl Follower {
    fn drop_all(&mut self) {
        self.cursor.clear();
        self.cache.drop_all();
        self.calls.tell(Event::Dropped);
    }

    /// Follows one stream, on a connection of its own, to its end.
    async fn follow(&mut self, followed: &mut bool) -> Status {
        let patience = self.cache.limits().checkpoint_max;
        let begun = Moment::now();
        let opening = async {
            let channel = connect_once(&self.endpoint).await?;
            let stream = self.open(channel.clone()).await?;
            Ok::<_, Status>((channel, stream))
        };
        let (channel, mut stream) = match tokio::time::timeout(patience, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("Watch was not answered"),
        };
        // Nothing can have been sent on a connection that was not there.
        let mut proved = begun;
        let mut probes = Probes::new(channel, patience);
        let mut last = Instant::now();
        loop {
            let asked = tokio::select! {
                biased;
                response = timeout_at(last + patience, stream.message()) => {
                    match response {
                        Ok(Ok(Some(response))) => self.take_in(response, proved, followed),
                        Ok(Ok(None)) => return Status::unavailable("the service ended the stream"),
                        Ok(Err(status)) => return status,
                        Err(_) => return Status::deadline_exceeded("no checkpoint came"),
                    }
                    last = Instant::now();
                    continue;
                }
                asked = probes.next() => asked,
            };
            match asked {
                Ok(asked) => {
                    // What has come by now may have come before the answer, and counts by the proof of before.
                    while let Some(response) = at_once(&mut stream).await {
                        self.take_in(response, proved, followed);
                    }
                    proved = proved.max(asked);
                }
                Err(status) => return status,
            }
        }
    }

    async fn open(&self, channel: Channel) -> Result<Streaming<WatchResponse>, Status> {
        let service = InterceptedService::new(channel, self.caller.clone());
        let request = WatchRequest { cursor: self.cursor.clone() };
        Ok(AuthServiceClient::new(service).watch(request).await?.into_inner())
    }

    fn take_in(&mut self, response: WatchResponse, proved: Moment, followed: &mut bool) {
        let afresh = self.cursor.is_empty();
        if self.cache.take_in(&response, proved, afresh, Moment::now()) {
            self.calls.tell(Event::Dropped);
        }
        self.cursor = response.cursor;
        if !*followed {
            *followed = true;
            self.calls.tell(Event::WatchUp);
        }
    }
}

/// The next response, if it is there already. An end of the stream shows itself to whoever waits for more.
async fn at_once(stream: &mut Streaming<WatchResponse>) -> Option<WatchResponse> {
    tokio::select! {
        biased;
        response = stream.message() => response.ok().flatten(),
        () = std::future::ready(()) => None,
    }
}

/// A channel that is one TCP connection and never another: with the connection it ends.
async fn connect_once(endpoint: &Endpoint) -> Result<Channel, Status> {
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
        Ok(Err(_)) => Err(Status::unavailable("the service is out of reach")),
        Err(_) => Err(Status::deadline_exceeded("the service does not accept the connection")),
    }
}

/// A question under way, and when it was asked once it is answered.
type Probe = std::pin::Pin<Box<dyn Future<Output = Result<Moment, Status>> + Send>>;

/// Questions whose answers prove that what comes behind them was sent after they were asked.
struct Probes {
    channel: Channel,
    patience: Duration,
    under_way: Option<Probe>,
}

impl Probes {
    fn new(channel: Channel, patience: Duration) -> Self {
        Self { channel, patience, under_way: None }
    }

    /// When the next question that is answered was asked. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Moment, Status> {
        let under_way = self
            .under_way
            .get_or_insert_with(|| Box::pin(probe(self.channel.clone(), self.patience)));
        let asked = under_way.as_mut().await;
        self.under_way = None;
        asked
    }
}

async fn probe(channel: Channel, patience: Duration) -> Result<Moment, Status> {
    tokio::time::sleep(PROBE_INTERVAL).await;
    let asked = Moment::now();
    let asking = async {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|_| Status::unavailable("the connection has ended"))?;
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        // Request and answer are of no interest, so neither has any field here.
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        grpc.unary(Request::new(()), path, codec).await
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(Ok(_)) => Ok(asked),
        Ok(Err(status)) => match status.code() {
            // An answer too, from a service without health, or before it is ready.
            Code::Unimplemented
            | Code::NotFound
            | Code::Unauthenticated
            | Code::PermissionDenied => Ok(asked),
            _ => Err(status),
        },
        Err(_) => Err(Status::deadline_exceeded("the connection stalls")),
    }
}
