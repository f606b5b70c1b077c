//! Assembly: a configuration becomes listeners, services and a store. The one place that picks the store, and the one
//! that starts tasks of its own.

mod background;
mod connections;
mod known_digests;
mod readiness;
mod replica;
mod tls;
mod waiting;

pub use background::Housekeeping;
pub use tls::{ClientCertificates, TlsError, TlsFiles};

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::cache::{Barrier, Direct};
use crate::grpc::{self, Connection, Gate};
use crate::http;
use crate::model::{Clock, SystemClock};
use crate::service::{
    self, Commits, Limits, Options, Peer, Readiness, Requests, Service, StoreClock,
};
use crate::store::{self, PoolSizes, Store, StoreError};
use crate::token::OsRandom;
use background::Background;
use connections::{ConnectionLimits, Connections};
use tls::Tls;

/// How the server is to be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the store is.
    pub database_url: String,
    /// Make the store if it is not there, and bring its schema up to date.
    pub migrate: bool,
    /// Where to listen for gRPC.
    pub listen: SocketAddr,
    /// Where to listen for HTTP.
    pub http_listen: SocketAddr,
    /// Certificate and key; without, connections are in the clear.
    pub tls: Option<TlsFiles>,
    /// Listen in the clear beyond loopback.
    pub insecure: bool,
    /// Let the protocol describe itself.
    pub reflection: bool,
    /// Connections at once, on each port; where one more comes, the one that has asked nothing for longest goes. 0: any
    /// number.
    pub connections_max: usize,
    /// Requests at once on one connection; 0: any number.
    pub streams_max: u32,
    /// How old a connection may grow, before it is asked to come again; zero: any age.
    pub connection_age_max: Duration,
    /// How long a new connection may take to say what a client must say first, TLS and HTTP/2's preface and SETTINGS, and
    /// the headers of any request to come.
    pub handshake_timeout: Duration,
    /// Requests at once, and how long each may take.
    pub limits: Limits,
    /// How long to go on accepting after the word to stop, while load balancers learn of it from health checks.
    pub drain_delay: Duration,
    /// How long requests under way may take after that.
    pub shutdown_grace: Duration,
    /// What it does on its own.
    pub housekeeping: Housekeeping,
    /// The URL that OAuth clients know the HTTP port by (RFC 8414's issuer), if it is not the port's own.
    pub issuer: Option<String>,
    /// Connections to Postgres at the most.
    pub pools: PoolSizes,
    /// How this process answers from memory.
    pub cache: CacheConfig,
    /// Choices of the service itself.
    pub options: Options,
}

/// How a server answers from memory.
#[derive(Debug, Clone, Copy)]
pub struct CacheConfig {
    /// Credentials in memory at the most, and as many users and workspaces.
    pub capacity: usize,
    /// How long answers from memory may be believed after a sync with the primary.
    pub lease: Duration,
    /// How long after that to answer what was known, where the store is out of reach.
    pub outage_grace: Duration,
    /// Unknown tokens a second that are looked up for one caller; 0: no limit.
    pub unknown_rate_max: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            capacity: 1_000_000,
            lease: Duration::from_secs(10),
            outage_grace: Duration::ZERO,
            unknown_rate_max: 1_000,
        }
    }
}

impl Config {
    /// A server with every choice left as it is, in the clear.
    pub fn new(database_url: &str, listen: SocketAddr, http_listen: SocketAddr) -> Self {
        Self {
            database_url: database_url.to_owned(),
            migrate: true,
            listen,
            http_listen,
            tls: None,
            insecure: false,
            reflection: true,
            connections_max: 10_000,
            streams_max: 256,
            connection_age_max: Duration::from_mins(30),
            handshake_timeout: Duration::from_secs(10),
            limits: Limits { requests_max: 4_096, request_timeout: Duration::from_secs(15) },
            drain_delay: Duration::ZERO,
            shutdown_grace: Duration::from_secs(10),
            housekeeping: Housekeeping::default(),
            issuer: None,
            pools: PoolSizes::default(),
            cache: CacheConfig::default(),
            options: Options::default(),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// In the clear beyond loopback.
    #[error(
        "{0} is not a loopback address, and without TLS anybody on the way could read tokens: \
         give --tls-cert and --tls-key, or --insecure if the network itself is protected"
    )]
    Insecure(SocketAddr),
}

/// A server that runs.
pub struct Running {
    /// Where it listens for gRPC.
    pub grpc: SocketAddr,
    /// Where it listens for HTTP.
    pub http: SocketAddr,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The use cases, for whoever runs in the same process.
    pub service: Arc<Service>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
    certificates: Option<Arc<Tls>>,
}

impl Running {
    /// The URL of the gRPC port.
    pub fn grpc_url(&self) -> String {
        url(self.tls, self.grpc)
    }

    /// The URL of the HTTP port.
    pub fn http_url(&self) -> String {
        url(self.tls, self.http)
    }

    /// Reads certificates, keys and client CAs anew, if there are any; what does not load leaves the old ones in use.
    ///
    /// # Errors
    /// What was wrong with the new ones.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.certificates.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Stops: health says so, then nothing more is accepted, then what is under way is waited for, in that order.
    pub async fn stop(self) {
        self.stop.cancel();
        // The task only ends by itself; were it to panic, there would be nothing left to wait for.
        let _ = self.done.await;
    }
}

/// Opens the store and makes the use cases, with this machine's clock and randomness and no memory: what the command
/// line works with. It waits for servers on the same store, and nobody waits for it. It makes no store and migrates none.
///
/// # Errors
/// If there is no store, or one that cannot be used as it is.
pub async fn open_service(
    database_url: &str,
    options: Options,
) -> Result<Arc<Service>, StoreError> {
    let store = store::open_as_is(database_url).await?;
    let clock = Arc::new(StoreClock::new(Arc::new(SystemClock)));
    let service = without_memory(store, clock, options);
    // Where it cannot be asked, whatever the command does next says why.
    let _ = service.hear_the_time().await;
    Ok(service)
}

/// The use cases over this store and by this clock, with this machine's randomness and no memory.
pub fn without_memory(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Arc<Service> {
    let boot = Arc::new(SystemClock);
    let barrier = Barrier::new(Arc::clone(&store), Arc::clone(&boot) as _, None);
    Arc::new(Service::new(service::Parts {
        lookup: Arc::new(Direct(Arc::clone(&store))),
        commits: Commits::new(store, barrier),
        hub: Arc::default(),
        clock,
        boot,
        random: Arc::new(OsRandom),
        tasks: TaskTracker::new(),
        unknown_rate_max: 0,
        options,
    }))
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    grpc: SocketAddr,
    http: SocketAddr,
    tls: bool,
}

impl Listening {
    /// The URL of the gRPC port.
    pub fn grpc_url(self) -> String {
        url(self.tls, self.grpc)
    }

    /// The URL of the HTTP port.
    pub fn http_url(self) -> String {
        url(self.tls, self.http)
    }
}

/// Starts a server; it listens when this returns.
///
/// # Errors
/// If a port, the store or TLS cannot be had. Nothing is left running then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let ports = Ports::bind(&config).await?;
    let store = open(&config).await?;
    Ok(assemble(config, ports, store).await)
}

/// Opens the store, and brings its schema up to date unless that is forbidden.
async fn open(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    if config.migrate {
        store::open_with(&config.database_url, config.pools).await
    } else {
        store::open_as_is_with(&config.database_url, config.pools).await
    }
}

/// Starts a server as [`start`] does, but for a store that is away: it is waited for, and meanwhile the server listens and
/// says that it is not serving. `listening` is told where, once. Where `end` comes first there is no server.
///
/// # Errors
/// If a port or TLS cannot be had, or if the store cannot be used, however long it is waited for.
pub async fn start_patiently(
    config: Config,
    listening: impl FnOnce(Listening) + Send,
    end: impl Future<Output = ()> + Send,
) -> Result<Option<Running>, StartError> {
    let ports = Ports::bind(&config).await?;
    let listens = ports.listening;
    let mut listening = Some(|| listening(listens));
    let store = tokio::select! {
        store = waiting::open(&config, &ports, &mut listening) => store?,
        () = end => return Ok(None),
    };
    let running = assemble(config, ports, store).await;
    // Only now: whoever is told may end it at once, and in good order.
    if let Some(listening) = listening {
        listening();
    }
    Ok(Some(running))
}

/// The ports, and what is spoken on them.
struct Ports {
    grpc: TcpListener,
    http: TcpListener,
    certificates: Option<Arc<Tls>>,
    listening: Listening,
}

impl Ports {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        for address in [config.listen, config.http_listen] {
            if config.tls.is_none() && !config.insecure && !address.ip().is_loopback() {
                return Err(StartError::Insecure(address));
            }
        }
        let certificates = config.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let grpc = bind(config.listen).await?;
        let http = bind(config.http_listen).await?;
        let listening = Listening {
            grpc: local(&grpc, config.listen)?,
            http: local(&http, config.http_listen)?,
            tls: certificates.is_some(),
        };
        Ok(Self { grpc, http, certificates, listening })
    }
}

/// A server of what it is made of.
async fn assemble(config: Config, bound: Ports, store: Arc<dyn Store>) -> Running {
    let Ports { grpc: grpc_listener, http: http_listener, certificates, listening } = bound;
    let (service, replica) = replica::start(store, config.cache, config.options.clone());
    // Before anything is answered or cleaned up by a clock that is wrong, which it says.
    if let Err(error) = service.hear_the_time().await {
        tracing::warn!(%error, "the store could not be asked for the time");
    }
    let (ready_sender, ready) = watch::channel(Readiness::NONE);
    let (health, report) = grpc::health::face(ready.clone()).await;
    let routes = grpc::routes(&service, health, config.reflection);
    let requests = Requests::new(config.limits);
    let gate = Arc::new(Gate::new(routes, Arc::clone(&service), Arc::clone(&requests)));
    let stop = CancellationToken::new();
    let issuer = config.issuer.clone().unwrap_or_else(|| listening.http_url());
    let face = http::Face::new(Arc::clone(&service), issuer, Arc::clone(&requests));
    let parts = Parts {
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
    let Listening { grpc, http, tls } = listening;
    let done = spawn(run(config, parts));
    Running { grpc, http, tls, service, stop, done, certificates }
}

struct Parts {
    grpc_listener: TcpListener,
    http_listener: TcpListener,
    certificates: Option<Arc<Tls>>,
    service: Arc<Service>,
    replica: replica::Replica,
    gate: Arc<Gate>,
    face: Arc<http::Face>,
    requests: Arc<Requests>,
    ready_sender: watch::Sender<Readiness>,
    ready: watch::Receiver<Readiness>,
    report: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: CancellationToken,
}

/// Runs until told to stop, and then to the end of it.
async fn run(config: Config, parts: Parts) {
    let Parts { gate, face, service, replica, certificates, ready_sender, ready, stop, .. } = parts;
    let connection_limits = ConnectionLimits::of(&config);
    let accepting = CancellationToken::new();
    let report = spawn(parts.report);
    let background = Background::start(&service, config.housekeeping, &stop);
    let monitor =
        spawn(readiness::monitor(Arc::clone(&service), ready_sender.clone(), stop.clone()));

    let (room, tls) = (Arc::default(), certificates);
    let protocol = connections::Protocol::Grpc;
    let grpc = Connections::new(connection_limits, tls.clone(), protocol, &room);
    let grpc_gate = Arc::clone(&gate);
    let grpc_accept =
        spawn(grpc.clone().accept(parts.grpc_listener, accepting.clone(), move |peer: Peer| {
            let gate = Arc::clone(&grpc_gate);
            let connection = Arc::new(Connection::new(peer));
            service_fn(move |request| {
                let (gate, connection) = (Arc::clone(&gate), Arc::clone(&connection));
                async move { Ok::<_, Infallible>(gate.handle(request, &connection).await) }
            })
        }));
    let http = Connections::new(connection_limits, tls, connections::Protocol::Http, &room);
    let router = http::router(&face, ready);
    let http_accept =
        spawn(http.clone().accept(parts.http_listener, accepting.clone(), move |peer: Peer| {
            let router = router.clone();
            service_fn(move |mut request: ::http::Request<hyper::body::Incoming>| {
                let under_way = Arc::new(peer.activity.begin());
                request.extensions_mut().insert(peer.clone());
                request.extensions_mut().insert(Arc::clone(&under_way));
                let answer = router.clone().oneshot(request);
                async move {
                    let answer = answer.await;
                    drop(under_way);
                    answer
                }
            })
        }));

    stop.cancelled().await;
    let _ = monitor.await;
    ready_sender.send_replace(Readiness::NONE);
    tokio::time::sleep(config.drain_delay).await;
    accepting.cancel();
    // Streams end now, with a word that sends their clients elsewhere.
    service.end_watches();
    let _ = tokio::join!(grpc_accept, http_accept);
    let drained = async {
        // A health watch or an idle connection may stay open for ever (CATALOGUE 0.9): what counts is requests.
        tokio::select! {
            ((), ()) = futures::future::join(grpc.closed(), http.closed()) => {}
            () = parts.requests.idle() => {}
        }
        service.drain().await;
    };
    if tokio::time::timeout(config.shutdown_grace, drained).await.is_err() {
        tracing::warn!("requests were still under way when the time to stop was over");
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

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address, source })
}

/// The one place that starts tasks outside the tracker: they are the server, and [`Running::stop`] waits for them.
fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the server's own tasks, which stopping waits for"
    )]
    tokio::spawn(future)
}
