//! Startup while the store is unreachable: the server listens with failing health checks, and starts once the store is
//! reachable.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

use super::connections::{ConnectionLimits, Connections, Protocol};
use super::{BoundPorts, Config, StartError, spawn};
use crate::grpc;
use crate::http;
use crate::service::{Peer, Readiness};
use crate::store::{self, Store, StoreError};

/// Pause between two attempts to open the store.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between log messages while the server waits.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Serves health checks on both ports while there is no store. Stops when it is dropped.
struct HealthServer {
    _accepting: DropGuard,
    _ready: watch::Sender<Readiness>,
}

/// Opens the store, and waits for it while it is unreachable. Returns every other error at once.
pub(super) async fn open(
    config: &Config,
    ports: &BoundPorts,
    listening: &mut Option<impl FnOnce() + Send>,
) -> Result<Arc<dyn Store>, StartError> {
    let mut waiting: Option<(HealthServer, Instant)> = None;
    loop {
        let error = match super::open_store(config).await {
            Ok(store) => {
                if waiting.is_some() {
                    tracing::info!("the store answers: starting");
                }
                return Ok(store);
            }
            Err(error) if error.is_outage() && store::may_be_unreachable(&config.location) => error,
            Err(error) => return Err(error.into()),
        };
        if let Some(listening) = listening.take() {
            listening();
        }
        let logged = waiting.as_ref().is_some_and(|(_, logged)| logged.elapsed() < LOG_INTERVAL);
        if !logged {
            log_waiting(&error);
            let health_server = match waiting.take() {
                Some((health_server, _)) => health_server,
                None => health_server(config, ports).await?,
            };
            waiting = Some((health_server, Instant::now()));
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

fn log_waiting(error: &StoreError) {
    let error = error.cause();
    tracing::warn!(error, "the store is unreachable: not serving, and waiting for it");
}

/// Accepts on both ports, and answers health checks with "not serving".
async fn health_server(config: &Config, ports: &BoundPorts) -> Result<HealthServer, StartError> {
    let limits = ConnectionLimits::from_config(config);
    let (accepting, header_budget) = (CancellationToken::new(), Arc::default());
    let (sender, ready) = watch::channel(Readiness::NONE);

    let certificates = &ports.certificates;
    let connections =
        Connections::new(limits, certificates.clone(), Protocol::Grpc, &header_budget);
    let (health, report) = grpc::health::health_service(ready.clone()).await;
    spawn(report);
    let routes = grpc::health::health_routes(health);
    spawn(connections.accept(
        duplicate(&ports.grpc, config.listen)?,
        accepting.clone(),
        move |_: Peer| {
            let routes = routes.clone();
            service_fn(move |request| {
                let routes = routes.clone();
                async move {
                    Ok::<_, Infallible>(grpc::health::answer_before_startup(routes, request).await)
                }
            })
        },
    ));
    let connections =
        Connections::new(limits, certificates.clone(), Protocol::Http, &header_budget);
    let http = http::health_router(ready);
    let accept = duplicate(&ports.http, config.http_listen)?;
    spawn(connections.accept(accept, accepting.clone(), move |peer: Peer| {
        let http = http.clone();
        service_fn(move |request: ::http::Request<hyper::body::Incoming>| {
            let in_flight = peer.activity.begin_request();
            let answer = http.clone().oneshot(request);
            async move {
                let answer = answer.await;
                drop(in_flight);
                answer
            }
        })
    }));
    Ok(HealthServer { _accepting: accepting.drop_guard(), _ready: sender })
}

/// Duplicates a listener, so that the port stays bound when the server itself takes over.
fn duplicate(
    listener: &TcpListener,
    address: std::net::SocketAddr,
) -> Result<TcpListener, StartError> {
    use std::os::fd::AsFd as _;
    let made = listener.as_fd().try_clone_to_owned().map(std::net::TcpListener::from);
    made.and_then(TcpListener::from_std).map_err(|source| StartError::Listen { address, source })
}
