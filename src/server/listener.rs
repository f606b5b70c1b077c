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
use tokio::sync::oneshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::Tls;
use crate::service::Peer;

/// How long a new connection may take to say anything, and to finish its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that was asked to end may take over it.
const AGE_GRACE: Duration = Duration::from_secs(20);
/// A connection is asked whether it is still there this often, and given this long to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after the machine ran out of something; accepting at once again would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Headers of a gRPC request: what is usual.
const GRPC_HEADER_BYTES_MAX: u32 = 8 * 1024;
/// Headers of an HTTP request: behind a proxy they are those of its client, and what a proxy lets through is let through.
const HTTP_HEADER_BYTES_MAX: u32 = 64 * 1024;
const HTTP_HEADERS_MAX: usize = 200;
/// The request line, and what HTTP/2 counts for each header beside its bytes.
const HTTP_HEADER_BYTES_MORE: u32 = 8 * 1024;

/// Bounds of connections.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "limits are named so everywhere")]
pub(super) struct ConnectionLimits {
    pub(super) connections_max: usize,
    pub(super) streams_max: u32,
    pub(super) age_max: Duration,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1, and HTTP/2 for who wants it.
    Http,
}

/// The connections of one port.
#[derive(Clone)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    tls: Option<Arc<Tls>>,
    protocol: Protocol,
    tasks: TaskTracker,
    end: CancellationToken,
    abort: CancellationToken,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, tls: Option<Arc<Tls>>, protocol: Protocol) -> Self {
        let (tasks, end, abort) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        Self { limits, tls, protocol, tasks, end, abort }
    }

    /// When every connection has ended, after they were asked to.
    pub(super) async fn closed(&self) {
        self.tasks.wait().await;
    }

    /// Drops every connection.
    pub(super) fn abort(&self) {
        self.abort.cancel();
    }

    /// Accepts until `stop`, then asks every connection to end.
    pub(super) async fn accept<S, B>(
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
        let room = Arc::new(Semaphore::new(self.limits.connections_max));
        loop {
            let next = async {
                // The semaphore is never closed, so there is always a place in the end.
                let place = Arc::clone(&room).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = stop.cancelled() => break,
            };
            match (place, accepted) {
                (Ok(place), Ok((stream, address))) => {
                    self.watched(|ask_to_end| {
                        let service_for = service_for.clone();
                        self.clone().serve(stream, address, service_for, place, ask_to_end)
                    });
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (Err(_), _) => break,
            }
        }
        self.tasks.close();
        self.end.cancel();
    }

    /// Runs a connection, with a second task beside it that looks after its end: the time limits and the words to stop
    /// are looked at when they come, not each time that a request wakes the connection.
    fn watched<F: Future<Output = ()> + Send + 'static>(
        &self,
        connection: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) {
        let (ask_to_end, asked) = oneshot::channel();
        let mut connection = self.tasks.spawn(connection(asked));
        let (end, abort, age) = (self.end.clone(), self.abort.clone(), self.limits.age_max);
        self.tasks.spawn(async move {
            tokio::select! {
                _ = &mut connection => return,
                () = tokio::time::sleep(age) => {}
                () = end.cancelled() => {}
            }
            // If it has ended meanwhile, nobody needs to be asked.
            let _ = ask_to_end.send(());
            tokio::select! {
                _ = &mut connection => return,
                () = tokio::time::sleep(AGE_GRACE) => {}
                () = abort.cancelled() => {}
            }
            connection.abort();
        });
    }

    async fn serve<S, B>(
        self,
        stream: TcpStream,
        address: std::net::SocketAddr,
        service_for: impl Fn(Peer) -> S,
        _place: OwnedSemaphorePermit,
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
        match &self.tls {
            None => {
                // hyper gives a connection that never speaks all the time in the world.
                let spoke = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.readable()).await;
                if matches!(spoke, Ok(Ok(()))) {
                    let peer = Peer { address, sans: Arc::default() };
                    self.drive(stream, service_for(peer), ask_to_end).await;
                }
            }
            Some(tls) => {
                let handshake = tls.accept(stream, self.protocol);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok(Ok((stream, sans))) => {
                        let service = service_for(Peer { address, sans });
                        self.drive(stream, service, ask_to_end).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%address, "TLS handshake timed out"),
                }
            }
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
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => return note(ended),
            // Whoever asks is there for as long as the connection.
            _ = ask_to_end => connection.as_mut().graceful_shutdown(),
        }
        note(connection.await);
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        let header_bytes_max = match self.protocol {
            Protocol::Grpc => GRPC_HEADER_BYTES_MAX,
            Protocol::Http => HTTP_HEADER_BYTES_MAX + HTTP_HEADER_BYTES_MORE,
        };
        builder
            .http2()
            .timer(TokioTimer::new())
            // No implementation of gRPC sends one, and no caller reads it.
            .auto_date_header(self.protocol == Protocol::Http)
            .max_concurrent_streams(self.limits.streams_max)
            .max_local_error_reset_streams(256)
            .max_pending_accept_reset_streams(20)
            .max_header_list_size(header_bytes_max)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE_TIMEOUT)
            .max_headers(HTTP_HEADERS_MAX)
            .max_buf_size(header_bytes_max as usize);
        if self.protocol == Protocol::Grpc { builder.http2_only() } else { builder }
    }
}

fn note(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}
