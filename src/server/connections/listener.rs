//! Accepting connections and keeping them within bounds: how many, how long, how slow (CATALOGUE B1).
//!
//! hyper is driven here directly, not through tonic's server, which leaves several of these bounds open.

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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::header_room::HeaderRoom;
use super::listened::Listened;
use super::room::{Place, Room};
use super::turns::{CANCELLED_MAX, InTurns};
use crate::server::Config;
use crate::server::tls::Tls;
use crate::service::{Activity, Peer};

/// How long a connection that was asked to end may take over it.
const AGE_GRACE: Duration = Duration::from_secs(20);
/// The same for one whose place is another's already, and how many may be taking it at once; of more, none is asked.
const EVICTED_GRACE: Duration = Duration::from_secs(1);
const EVICTED_MAX: usize = 64;
/// The answer to a caller may wait for its reader as long as so many of the longest requests, and for this long in any case.
const UNREAD_TIMEOUTS: u32 = 2;
const UNREAD_MIN: Duration = Duration::from_secs(1);
/// A connection is asked whether it is still there this often, and given this long to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after the machine ran out of something; accepting at once again would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Headers of a request: behind a proxy they are those of its client, a gateway passes metadata on, and what is let through
/// there is let through here. More than four times as much, or what h2 takes no more CONTINUATIONs of, ends a connection.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
const HTTP_HEADERS_MAX: usize = 200;
/// The request line, and what HTTP/2 counts for each header beside its bytes.
const HEADER_BYTES_MORE: u32 = 8 * 1024;
/// Requests that break the protocol, in the whole life of a connection; also those that had to be refused or cut short, of
/// which more was under way.
const ERROR_RESETS_MAX: usize = 1_024;
/// Bytes of an answer that h2 holds for its reader: as good as none, since what it holds is counted by nobody.
const UNREAD_BYTES: usize = 1;
/// What a peer may have sent that nobody has read, of one request and of all on a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bounds of connections.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct ConnectionLimits {
    /// 0: any number.
    pub(in crate::server) connections_max: usize,
    /// 0: any number.
    pub(in crate::server) streams_max: u32,
    /// Zero: any age.
    pub(in crate::server) age_max: Duration,
    /// How long a new connection may take to finish its handshakes, and the headers of any request to come.
    pub(in crate::server) handshake_timeout: Duration,
    /// How long the answer to a caller may wait for its reader; zero: as long as it likes.
    pub(in crate::server) unread_max: Duration,
}

impl ConnectionLimits {
    /// As the server is to be run.
    pub(in crate::server) fn of(config: &Config) -> Self {
        Self {
            connections_max: config.connections_max,
            streams_max: config.streams_max,
            age_max: config.connection_age_max,
            handshake_timeout: config.handshake_timeout,
            unread_max: unread_max(config.limits.request_timeout),
        }
    }
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1, and HTTP/2 for who wants it.
    Http,
}

/// The connections of one port.
#[derive(Clone)]
pub(in crate::server) struct Connections {
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    protocol: Protocol,
    header_room: Arc<HeaderRoom>,
    tasks: TaskTracker,
    /// Connections that were evicted and are asked to end.
    leaving: Arc<Semaphore>,
    end: CancellationToken,
    abort: CancellationToken,
}

impl Connections {
    pub(in crate::server) fn new(
        limits: ConnectionLimits,
        tls: Option<Arc<Tls>>,
        protocol: Protocol,
        header_room: &Arc<HeaderRoom>,
    ) -> Self {
        let header_room = Arc::clone(header_room);
        let (tasks, end, abort) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let leaving = Arc::new(Semaphore::new(EVICTED_MAX));
        Self { limits, tls, protocol, header_room, tasks, leaving, end, abort }
    }

    /// When every connection has ended, after they were asked to.
    pub(in crate::server) async fn closed(&self) {
        self.tasks.wait().await;
    }

    /// Drops every connection.
    pub(in crate::server) fn abort(&self) {
        self.abort.cancel();
    }

    /// Accepts until `stop`, then asks every connection to end.
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
        let room = Room::new(self.limits.connections_max);
        loop {
            let next = async {
                let (stream, address) = listener.accept().await?;
                // After it has come: while nobody waits to be let in, nobody has to go.
                Ok::<_, std::io::Error>((stream, address, room.enter().await))
            };
            let next = tokio::select! {
                next = next => next,
                () = stop.cancelled() => break,
            };
            match next {
                Ok((stream, address, place)) => {
                    let peer = Peer {
                        address,
                        sans: Arc::default(),
                        activity: Arc::clone(&place.activity),
                    };
                    self.watched(place, |ask_to_end| {
                        self.clone().serve(stream, peer, service_for.clone(), ask_to_end)
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.tasks.close();
        self.end.cancel();
    }

    /// Runs a connection, with a second task beside it that looks after its end: the time limits and the words to stop
    /// are looked at when they come, not each time that a request wakes the connection.
    fn watched<F: Future<Output = ()> + Send + 'static>(
        &self,
        place: Place,
        connection: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) {
        let (ask_to_end, asked) = oneshot::channel();
        let mut connection = self.tasks.spawn(connection(asked));
        let (leaving, end, abort) =
            (Arc::clone(&self.leaving), self.end.clone(), self.abort.clone());
        let ConnectionLimits { age_max, handshake_timeout, unread_max, .. } = self.limits;
        self.tasks.spawn(async move {
            let silent = async {
                tokio::time::sleep(handshake_timeout).await;
                if place.activity.is_established() {
                    std::future::pending::<()>().await;
                }
            };
            let aged = async {
                tokio::time::sleep(age_max).await;
                if age_max.is_zero() {
                    std::future::pending::<()>().await;
                }
            };
            // What limits how many may be leaving is held as long as this one is.
            let (grace, _leaving) = tokio::select! {
                _ = &mut connection => return,
                () = silent => {
                    tracing::debug!("a connection was not established in time");
                    (Duration::ZERO, None)
                }
                () = unread(&place.activity, unread_max) => {
                    tracing::debug!("a connection's answers are not read");
                    (Duration::ZERO, None)
                }
                () = place.activity.headers_are_late(handshake_timeout) => {
                    tracing::debug!("the headers of a request did not come to their end in time");
                    (Duration::ZERO, None)
                }
                () = place.activity.ended() => {
                    let may_ask = place.activity.is_established();
                    let leaving = leaving.try_acquire().ok().filter(|_| may_ask);
                    (leaving.as_ref().map_or(Duration::ZERO, |_| EVICTED_GRACE), leaving)
                }
                () = aged => (AGE_GRACE, None),
                () = end.cancelled() => (AGE_GRACE, None),
            };
            if !grace.is_zero() {
                // If it has ended meanwhile, nobody needs to be asked.
                let _ = ask_to_end.send(());
                tokio::select! {
                    _ = &mut connection => return,
                    () = tokio::time::sleep(grace) => {}
                    // Its place is another's now: it has had its time to leave.
                    () = place.activity.ended(), if grace == AGE_GRACE => {}
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
        ask_to_end: oneshot::Receiver<()>,
    ) where
        S: Service<::http::Request<Incoming>, Response = ::http::Response<B>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Small answers must not wait for each other's acknowledgement; a socket that refuses is gone already.
        let _ = stream.set_nodelay(true);
        let activity = Arc::clone(&peer.activity);
        match &self.tls {
            None => {
                let stream = Listened::new(stream, activity, &self.header_room);
                self.drive(stream, service_for(peer), ask_to_end).await;
            }
            Some(tls) => match tls.accept(stream, self.protocol).await {
                Ok((stream, sans)) => {
                    let service = service_for(Peer { sans, ..peer });
                    let stream = Listened::new(stream, activity, &self.header_room);
                    self.drive(stream, service, ask_to_end).await;
                }
                Err(error) => {
                    tracing::debug!(address = %peer.address, %error, "TLS handshake failed");
                }
            },
        }
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
        let (stream, turn) = InTurns::new(stream);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = turn.each(connection.as_mut()) => return note(ended),
            // Whoever asks is there for as long as the connection.
            _ = ask_to_end => connection.as_mut().graceful_shutdown(),
        }
        note(turn.each(connection).await);
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let ConnectionLimits { streams_max, handshake_timeout, .. } = self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let header_bytes_max = HEADER_BYTES_MAX + HEADER_BYTES_MORE;
        builder
            .http2()
            .timer(TokioTimer::new())
            // No implementation of gRPC sends one, and no caller reads it.
            .auto_date_header(self.protocol == Protocol::Http)
            .max_concurrent_streams((streams_max != 0).then_some(streams_max))
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_pending_accept_reset_streams(CANCELLED_MAX)
            .max_send_buf_size(UNREAD_BYTES)
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

/// Waits for an answer that has waited for its reader for so long.
async fn unread(activity: &Activity, longest: Duration) {
    loop {
        if longest.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(longest / 4).await;
        if activity.is_unread_for(longest) {
            return;
        }
    }
}

fn note(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
