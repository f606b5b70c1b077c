//! Accepts connections and enforces limits on their number, age and speed.
//!
//! Drives hyper directly, because tonic's server does not offer several of these limits. `docs/operations.md` lists them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_limit::{ConnectionLimit, ConnectionPermit};
use super::header_budget::HeaderBudget;
use super::header_limit::HeaderLimitedStream;
use super::read_limit::{CANCELLED_REQUESTS_MAX, ReadLimitedStream};
use crate::server::Config;
use crate::server::tls::{ClientCertificate, Tls};
use crate::service::{Activity, Peer};

/// Time that a connection has to end after a graceful shutdown was requested.
const AGE_GRACE: Duration = Duration::from_secs(20);
/// The same for a connection whose client certificate has expired, and for an evicted one, and how many evicted
/// connections may have it at a time. Others are dropped at once.
const EVICTED_GRACE: Duration = Duration::from_secs(1);
const EVICTED_MAX: usize = 64;
/// Time limit for a caller to read an answer, as a multiple of the request timeout, and its minimum.
const UNREAD_TIMEOUTS: u32 = 2;
const UNREAD_MIN: Duration = Duration::from_secs(1);
/// Interval and timeout of HTTP/2 keepalive pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after `accept` failed, as for lack of file descriptors. Without it the loop would use a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Maximum size of a request's headers, in bytes. It is generous because proxies and gateways pass on the headers of their
/// clients. h2 closes a connection that sends more than four times as much, or too many CONTINUATION frames.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
const HTTP_HEADERS_MAX: usize = 200;
/// Allowance for the request line, and for the overhead that HTTP/2 counts for each header, in bytes.
const HEADER_OVERHEAD_BYTES: u32 = 8 * 1024;
/// Maximum number of streams that the server resets over the life of a connection: for protocol errors, and for refused
/// requests whose body was still being sent.
const ERROR_RESETS_MAX: usize = 1_024;
/// Bytes of an answer that h2 buffers. Practically none, because no limit counts the bytes that it buffers.
const SEND_BUFFER_BYTES: usize = 1;
/// Flow-control windows of a stream and of a connection, in bytes: how much a peer may send before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct ConnectionLimits {
    /// Maximum number of connections. 0 means no limit.
    pub(in crate::server) connections_max: usize,
    /// Maximum number of concurrent requests per connection. 0 means no limit.
    pub(in crate::server) streams_max: u32,
    /// Maximum age of a connection. Zero means no limit.
    pub(in crate::server) age_max: Duration,
    /// Time limit for the handshakes of a connection, and for the headers of each request.
    pub(in crate::server) handshake_timeout: Duration,
    /// Time limit for a caller to read an answer. Zero means no limit.
    pub(in crate::server) unread_max: Duration,
}

impl ConnectionLimits {
    /// Takes the limits from the server's configuration.
    pub(in crate::server) fn from_config(config: &Config) -> Self {
        Self {
            connections_max: config.connections_max,
            streams_max: config.streams_max,
            age_max: config.connection_age_max,
            handshake_timeout: config.handshake_timeout,
            unread_max: unread_max(config.limits.request_timeout),
        }
    }
}

/// Protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1 or HTTP/2.
    Http,
}

/// The connections of one port.
#[derive(Clone)]
pub(in crate::server) struct Connections {
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    protocol: Protocol,
    header_budget: Arc<HeaderBudget>,
    tasks: TaskTracker,
    /// Permits for evicted connections that may still end gracefully.
    evicting: Arc<Semaphore>,
    end: CancellationToken,
    abort: CancellationToken,
}

impl Connections {
    pub(in crate::server) fn new(
        limits: ConnectionLimits,
        tls: Option<Arc<Tls>>,
        protocol: Protocol,
        header_budget: &Arc<HeaderBudget>,
    ) -> Self {
        let header_budget = Arc::clone(header_budget);
        let (tasks, end, abort) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let evicting = Arc::new(Semaphore::new(EVICTED_MAX));
        Self { limits, tls, protocol, header_budget, tasks, evicting, end, abort }
    }

    /// Waits until every connection has ended, after [`Self::accept`] has returned.
    pub(in crate::server) async fn closed(&self) {
        self.tasks.wait().await;
    }

    /// Drops every connection.
    pub(in crate::server) fn abort(&self) {
        self.abort.cancel();
    }

    /// Accepts connections until `stop`, then requests a graceful shutdown of each.
    pub(in crate::server) async fn accept<S, B>(
        self,
        listener: TcpListener,
        stop: CancellationToken,
        service_for: impl Fn(Peer) -> S + Send + Clone + 'static,
    ) where
        S: Service<::http::Request<Incoming>, Response = ::http::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = ConnectionLimit::new(self.limits.connections_max);
        loop {
            let next = async {
                let (stream, address) = listener.accept().await?;
                // The permit comes after `accept`, so that no connection is evicted before another needs its place.
                Ok::<_, std::io::Error>((stream, address, limit.acquire().await))
            };
            let next = tokio::select! {
                next = next => next,
                () = stop.cancelled() => break,
            };
            match next {
                Ok((stream, address, permit)) => {
                    let peer = Peer {
                        address,
                        sans: Arc::default(),
                        activity: Arc::clone(&permit.activity),
                    };
                    self.spawn_supervised(permit, |ask_to_end, certified| {
                        let signals = (ask_to_end, certified);
                        self.clone().serve(stream, peer, service_for.clone(), signals)
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.tasks.close();
        self.end.cancel();
    }

    /// Runs a connection in a task, and supervises its end in a second task. The time limits and shutdown signals are in the
    /// second task so that they are not polled each time a request wakes the connection.
    fn spawn_supervised<F: Future<Output = ()> + Send + 'static>(
        &self,
        permit: ConnectionPermit,
        connection: impl FnOnce(oneshot::Receiver<()>, oneshot::Sender<ClientCertificate>) -> F,
    ) {
        let (ask_to_end, asked) = oneshot::channel();
        let (certified, certificate) = oneshot::channel();
        let mut connection = self.tasks.spawn(connection(asked, certified));
        let (evicting, end, abort) =
            (Arc::clone(&self.evicting), self.end.clone(), self.abort.clone());
        let ConnectionLimits { age_max, handshake_timeout, unread_max, .. } = self.limits;
        self.tasks.spawn(async move {
            let silent = async {
                tokio::time::sleep(handshake_timeout).await;
                if permit.activity.is_established() {
                    std::future::pending::<()>().await;
                }
            };
            let aged = async {
                tokio::time::sleep(age_max).await;
                if age_max.is_zero() {
                    std::future::pending::<()>().await;
                }
            };
            let expired = async {
                match certificate.await {
                    Ok(certificate) => ClientCertificate::expired(certificate).await,
                    Err(_) => std::future::pending().await,
                }
            };
            // The permit of an evicted connection is held until the connection has ended.
            let (grace, _leaving) = tokio::select! {
                _ = &mut connection => return,
                () = silent => {
                    tracing::debug!("a connection was not established in time");
                    (Duration::ZERO, None)
                }
                () = answers_unread(&permit.activity, unread_max) => {
                    tracing::debug!("a client does not read its answers");
                    (Duration::ZERO, None)
                }
                () = permit.activity.headers_are_late(handshake_timeout) => {
                    tracing::debug!("the headers of a request were not complete in time");
                    (Duration::ZERO, None)
                }
                () = permit.activity.evicted() => {
                    let may_ask = permit.activity.is_established();
                    let evicting = evicting.try_acquire().ok().filter(|_| may_ask);
                    (evicting.as_ref().map_or(Duration::ZERO, |_| EVICTED_GRACE), evicting)
                }
                () = aged => (AGE_GRACE, None),
                () = expired => (EVICTED_GRACE, None),
                () = end.cancelled() => (AGE_GRACE, None),
            };
            if !grace.is_zero() {
                // Fails if the connection has ended meanwhile.
                let _ = ask_to_end.send(());
                tokio::select! {
                    _ = &mut connection => return,
                    () = tokio::time::sleep(grace) => {}
                    // Evicted while it shuts down. It has had time to end.
                    () = permit.activity.evicted(), if grace == AGE_GRACE => {}
                    () = abort.cancelled() => {}
                }
            }
            connection.abort();
        });
    }

    async fn serve<S, B>(
        self,
        stream: TcpStream,
        peer: Peer,
        service_for: impl Fn(Peer) -> S,
        (ask_to_end, certified): (oneshot::Receiver<()>, oneshot::Sender<ClientCertificate>),
    ) where
        S: Service<::http::Request<Incoming>, Response = ::http::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Disables Nagle's algorithm, which would delay small answers. Fails only if the socket is closed already.
        let _ = stream.set_nodelay(true);
        let activity = Arc::clone(&peer.activity);
        let (stream, peer) = match &self.tls {
            None => (Either::Left(stream), peer),
            Some(tls) => match tls.accept(stream, self.protocol).await {
                Ok((stream, None)) => (Either::Right(stream), peer),
                Ok((stream, Some(certificate))) => {
                    let sans = Arc::clone(&certificate.sans);
                    // Fails if the supervisor has ended the connection meanwhile.
                    let _ = certified.send(certificate);
                    (Either::Right(stream), Peer { sans, ..peer })
                }
                Err(error) => {
                    tracing::debug!(address = %peer.address, %error, "TLS handshake failed");
                    return;
                }
            },
        };
        let stream = HeaderLimitedStream::new(stream, activity, &self.header_budget);
        self.drive(stream, service_for(peer), ask_to_end).await;
    }

    async fn drive<I, S, B>(&self, stream: I, service: S, ask_to_end: oneshot::Receiver<()>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<::http::Request<Incoming>, Response = ::http::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let builder = self.builder();
        let (stream, read_budget) = ReadLimitedStream::new(stream);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = read_budget.refill_each_poll(connection.as_mut()) => return log_error(ended),
            // The supervisor holds the sender for as long as the connection runs, so this is a request.
            _ = ask_to_end => connection.as_mut().graceful_shutdown(),
        }
        log_error(read_budget.refill_each_poll(connection).await);
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let ConnectionLimits { streams_max, handshake_timeout, .. } = self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let header_bytes_max = HEADER_BYTES_MAX + HEADER_OVERHEAD_BYTES;
        builder
            .http2()
            .timer(TokioTimer::new())
            // gRPC servers send no `date` header.
            .auto_date_header(self.protocol == Protocol::Http)
            .max_concurrent_streams((streams_max != 0).then_some(streams_max))
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_pending_accept_reset_streams(CANCELLED_REQUESTS_MAX)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(header_bytes_max)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(handshake_timeout)
            .max_headers(HTTP_HEADERS_MAX)
            .max_buf_size(header_bytes_max as usize);
        if self.protocol == Protocol::Grpc { builder.http2_only() } else { builder }
    }
}

fn unread_max(request_timeout: Duration) -> Duration {
    if request_timeout.is_zero() {
        return Duration::ZERO;
    }
    request_timeout.saturating_mul(UNREAD_TIMEOUTS).max(UNREAD_MIN)
}

/// Waits until an answer has been unread for `longest`. Waits for ever if that is zero.
async fn answers_unread(activity: &Activity, longest: Duration) {
    loop {
        if longest.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(longest / 4).await;
        if activity.has_unread_answer_for(longest) {
            return;
        }
    }
}

fn log_error(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
