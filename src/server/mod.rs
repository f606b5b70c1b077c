//! Assembly of a server from its configuration: store, use cases, listeners and background tasks. Only this module spawns
//! tasks that outlive a request.

mod background;
mod connections;
pub mod defaults;
mod known_digests;
mod readiness;
mod replica;
mod store_wait;
mod tls;
mod uncached;

pub use background::Housekeeping;
pub use tls::{ClientCertificates, TlsError, TlsFiles};
pub use uncached::{open_uncached_service, uncached_service};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::grpc::{self, Connection, Gate};
use crate::http;
use crate::service::{Options, Peer, Readiness, RequestLimits, RequestsInFlight, Service};
use crate::store::{self, Location, PoolSizes, Store, StoreError};
use background::Background;
use connections::{ConnectionLimits, Connections};
use tls::Tls;

/// Configuration of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The store.
    pub location: Location,
    /// Whether to create the store if it does not exist, and migrate its schema.
    pub migrate: bool,
    /// Address of the gRPC port.
    pub listen: SocketAddr,
    /// Address of the HTTP port.
    pub http_listen: SocketAddr,
    /// TLS certificate and key. `None` serves plaintext.
    pub tls: Option<TlsFiles>,
    /// Whether plaintext is allowed on addresses other than loopback.
    pub insecure: bool,
    /// Whether to serve gRPC reflection.
    pub reflection: bool,
    /// Maximum number of open connections per port. Beyond it, a new connection evicts an idle one. 0 means no limit.
    pub connections_max: usize,
    /// Maximum number of concurrent requests per connection. 0 means no limit.
    pub streams_max: u32,
    /// Age at which the server closes a connection gracefully, so that the client reconnects. Zero means no limit.
    pub connection_age_max: Duration,
    /// Time limit for the handshakes of a new connection (TLS, the HTTP/2 preface and SETTINGS), and for the headers of each
    /// request.
    pub handshake_timeout: Duration,
    /// Maximum number of requests in flight, and the time limit of each.
    pub limits: RequestLimits,
    /// Time after a stop signal during which the server still accepts connections, while its health checks fail. It gives load
    /// balancers time to notice.
    pub drain_delay: Duration,
    /// Time limit for requests in flight after the drain delay.
    pub shutdown_grace: Duration,
    /// Intervals of background tasks, and retention times.
    pub housekeeping: Housekeeping,
    /// Issuer URL (RFC 8414) by which OAuth clients reach the HTTP port. `None` uses the address of the port.
    pub issuer: Option<String>,
    /// Sizes of the Postgres connection pools.
    pub pools: PoolSizes,
    /// Settings of the cache.
    pub cache: CacheConfig,
    /// Options of the use cases.
    pub options: Options,
}

/// Settings of the cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheConfig {
    /// Maximum number of cached credentials, of cached users and of cached workspaces.
    pub capacity: usize,
    /// How long the server answers from memory after a sync with the primary.
    pub lease: Duration,
    /// How long after the lease the server answers with stale data while the store is unreachable.
    pub outage_grace: Duration,
    /// Maximum rate of store look-ups of unknown tokens, per caller and second. 0 means no limit.
    pub unknown_rate_max: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            capacity: defaults::CACHE_CAPACITY,
            lease: defaults::LEASE.value,
            outage_grace: defaults::OUTAGE_GRACE.value,
            unknown_rate_max: defaults::UNKNOWN_RATE_MAX,
        }
    }
}

impl Config {
    /// A plaintext server with default settings.
    pub fn new(location: Location, listen: SocketAddr, http_listen: SocketAddr) -> Self {
        Self {
            location,
            migrate: true,
            listen,
            http_listen,
            tls: None,
            insecure: false,
            reflection: defaults::REFLECTION,
            connections_max: defaults::CONNECTIONS_MAX,
            streams_max: defaults::STREAMS_MAX,
            connection_age_max: defaults::CONNECTION_AGE_MAX.value,
            handshake_timeout: Duration::from_secs(10),
            limits: RequestLimits {
                requests_max: defaults::REQUESTS_MAX,
                request_timeout: defaults::REQUEST_TIMEOUT.value,
            },
            drain_delay: defaults::DRAIN_DELAY.value,
            shutdown_grace: defaults::SHUTDOWN_GRACE.value,
            housekeeping: Housekeeping::default(),
            issuer: None,
            pools: PoolSizes::default(),
            cache: CacheConfig::default(),
            options: Options::default(),
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address to bind.
        address: SocketAddr,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Plaintext on an address other than loopback, without `insecure`.
    #[error(
        "{0} is not a loopback address, and without TLS tokens could be read on the network: \
         give --tls-cert and --tls-key, or --insecure if the network itself is protected"
    )]
    Insecure(SocketAddr),
}

/// A running server.
pub struct Running {
    /// Address of the gRPC port.
    pub grpc: SocketAddr,
    /// Address of the HTTP port.
    pub http: SocketAddr,
    /// Whether connections use TLS.
    pub tls: bool,
    /// The use cases, for code in the same process.
    pub service: Arc<Service>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
    certificates: Option<Arc<Tls>>,
}

impl Running {
    /// Returns the URL of the gRPC port.
    pub fn grpc_url(&self) -> String {
        url(self.tls, self.grpc)
    }

    /// Returns the URL of the HTTP port.
    pub fn http_url(&self) -> String {
        url(self.tls, self.http)
    }

    /// Reloads the certificate, the key and the client CAs. Does nothing without TLS.
    ///
    /// # Errors
    /// A file cannot be used. The old files then stay in use.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.certificates.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Stops the server: fails its health checks, then stops accepting, then waits for requests in flight.
    pub async fn stop(self) {
        self.stop.cancel();
        // Nothing aborts this task, so the only error is a panic, and then there is nothing left to wait for.
        let _ = self.done.await;
    }
}

/// Addresses of the bound ports.
#[derive(Debug, Clone, Copy)]
pub struct ListenAddresses {
    grpc: SocketAddr,
    http: SocketAddr,
    tls: bool,
}

impl ListenAddresses {
    /// Returns the URL of the gRPC port.
    pub fn grpc_url(self) -> String {
        url(self.tls, self.grpc)
    }

    /// Returns the URL of the HTTP port.
    pub fn http_url(self) -> String {
        url(self.tls, self.http)
    }
}

/// Starts a server. It listens when this returns.
///
/// # Errors
/// A port cannot be bound, or the store or TLS cannot be set up. Nothing is left running then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let ports = BoundPorts::bind(&config).await?;
    let store = open_store(&config).await?;
    Ok(assemble(config, ports, store).await)
}

/// Opens the store, and migrates its schema if the configuration allows it.
async fn open_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    if config.migrate {
        store::open_with(&config.location, config.pools).await
    } else {
        store::open_existing_with(&config.location, config.pools).await
    }
}

/// Starts a server as [`start`] does, but waits for a store that is unreachable. Meanwhile the server listens and its
/// health checks fail. Calls `listening` once, with the addresses. Returns `None` if `end` completes first.
///
/// # Errors
/// A port cannot be bound, TLS cannot be set up, or the store cannot be used for a reason that waiting does not change.
pub async fn start_waiting_for_store(
    config: Config,
    listening: impl FnOnce(ListenAddresses) + Send,
    end: impl Future<Output = ()> + Send,
) -> Result<Option<Running>, StartError> {
    let ports = BoundPorts::bind(&config).await?;
    let listens = ports.listening;
    let mut listening = Some(|| listening(listens));
    let store = tokio::select! {
        store = store_wait::open(&config, &ports, &mut listening) => store?,
        () = end => return Ok(None),
    };
    let running = assemble(config, ports, store).await;
    // Announce only now: once announced, a supervisor may stop the server, which must then shut down gracefully.
    if let Some(listening) = listening {
        listening();
    }
    Ok(Some(running))
}

/// The bound ports, and their TLS settings.
struct BoundPorts {
    grpc: TcpListener,
    http: TcpListener,
    certificates: Option<Arc<Tls>>,
    listening: ListenAddresses,
}

impl BoundPorts {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        for address in [config.listen, config.http_listen] {
            if config.tls.is_none() && !config.insecure && !address.ip().is_loopback() {
                return Err(StartError::Insecure(address));
            }
        }
        let certificates = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let grpc = bind(config.listen).await?;
        let http = bind(config.http_listen).await?;
        let listening = ListenAddresses {
            grpc: local_address(&grpc, config.listen)?,
            http: local_address(&http, config.http_listen)?,
            tls: certificates.is_some(),
        };
        Ok(Self { grpc, http, certificates, listening })
    }
}

/// Builds a server from its parts and runs it in a task.
async fn assemble(config: Config, bound: BoundPorts, store: Arc<dyn Store>) -> Running {
    let BoundPorts { grpc: grpc_listener, http: http_listener, certificates, listening } = bound;
    let (service, replica) = replica::start(store, config.cache, config.options.clone());
    // Before the first answer and the first purge, because this machine's clock may be wrong. A deviation is logged.
    if let Err(error) = service.sync_clock().await {
        tracing::warn!(%error, "could not read the store's time");
    }
    let (ready_sender, ready) = watch::channel(Readiness::NONE);
    let (health, report) = grpc::health::health_service(ready.clone()).await;
    let routes = grpc::routes(&service, health, config.reflection);
    let requests = RequestsInFlight::new(config.limits);
    let gate = Arc::new(Gate::new(routes, Arc::clone(&service), Arc::clone(&requests)));
    let stop = CancellationToken::new();
    let issuer = config.issuer.clone().unwrap_or_else(|| listening.http_url());
    let face = http::HttpFace::new(Arc::clone(&service), issuer, Arc::clone(&requests));
    let components = Components {
        grpc_listener,
        http_listener,
        certificates: certificates.clone(),
        service: Arc::clone(&service),
        replica,
        gate,
        face,
        requests,
        ready_sender,
        ready,
        report: Box::pin(report),
        stop: stop.clone(),
    };
    let ListenAddresses { grpc, http, tls } = listening;
    let done = spawn(run(config, components));
    Running { grpc, http, tls, service, stop, done, certificates }
}

struct Components {
    grpc_listener: TcpListener,
    http_listener: TcpListener,
    certificates: Option<Arc<Tls>>,
    service: Arc<Service>,
    replica: replica::Replica,
    gate: Arc<Gate>,
    face: Arc<http::HttpFace>,
    requests: Arc<RequestsInFlight>,
    ready_sender: watch::Sender<Readiness>,
    ready: watch::Receiver<Readiness>,
    report: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: CancellationToken,
}

/// Runs the server until `stop`, then shuts it down.
async fn run(config: Config, components: Components) {
    let Components { gate, face, service, replica, ready_sender, ready, stop, .. } = components;
    let (grpc_listener, http_listener) = (components.grpc_listener, components.http_listener);
    let connection_limits = ConnectionLimits::from_config(&config);
    let accepting = CancellationToken::new();
    let report = spawn(components.report);
    let background = Background::start(&service, config.housekeeping, &stop);
    let monitor =
        spawn(readiness::monitor(Arc::clone(&service), ready_sender.clone(), stop.clone()));

    let (budget, tls) = (Arc::default(), components.certificates);
    let protocol = connections::Protocol::Grpc;
    let grpc = Connections::new(connection_limits, tls.clone(), protocol, &budget);
    let grpc_gate = Arc::clone(&gate);
    let grpc_accept =
        spawn(grpc.clone().accept(grpc_listener, accepting.clone(), move |peer: Peer| {
            let gate = Arc::clone(&grpc_gate);
            let connection = Arc::new(Connection::new(peer));
            service_fn(move |request| {
                let (gate, connection) = (Arc::clone(&gate), Arc::clone(&connection));
                async move { Ok::<_, Infallible>(gate.handle(request, &connection).await) }
            })
        }));
    let http = Connections::new(connection_limits, tls, connections::Protocol::Http, &budget);
    let router = http::router(&face, ready);
    let http_accept =
        spawn(http.clone().accept(http_listener, accepting.clone(), move |peer: Peer| {
            let router = router.clone();
            service_fn(move |mut request: ::http::Request<hyper::body::Incoming>| {
                let in_flight = Arc::new(peer.activity.begin_request());
                request.extensions_mut().insert(peer.clone());
                request.extensions_mut().insert(Arc::clone(&in_flight));
                let answer = router.clone().oneshot(request);
                async move {
                    let answer = answer.await;
                    drop(in_flight);
                    answer
                }
            })
        }));

    stop.cancelled().await;
    let _ = monitor.await;
    ready_sender.send_replace(Readiness::NONE);
    tokio::time::sleep(config.drain_delay).await;
    accepting.cancel();
    // Ends Watch streams with a status that sends their clients to another server.
    service.end_watches();
    let _ = tokio::join!(grpc_accept, http_accept);
    let drained = async {
        // A health watch or an idle connection may stay open for ever, so shutdown waits for requests only.
        tokio::select! {
            ((), ()) = futures::future::join(grpc.closed(), http.closed()) => {}
            () = components.requests.idle() => {}
        }
        service.drain().await;
    };
    if tokio::time::timeout(config.shutdown_grace, drained).await.is_err() {
        tracing::warn!("requests were still in flight when --shutdown-grace was over");
    }
    grpc.abort();
    http.abort();
    drop(ready_sender);
    let _ = report.await;
    background.finish().await;
    service.stop().await;
    replica.stop().await;
    service.close().await;
    tracing::info!("stopped");
}

fn url(tls: bool, address: SocketAddr) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address, source })
}

/// Spawns a task of the server itself, outside the task tracker. [`Running::stop`] waits for these tasks.
fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the server's own tasks, which stopping waits for"
    )]
    tokio::spawn(future)
}
