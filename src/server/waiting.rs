//! A start without a store: the server listens, says that it is not serving, and goes on when the store comes.

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
use super::{Config, Ports, StartError, spawn};
use crate::grpc;
use crate::http;
use crate::service::{Peer, Readiness};
use crate::store::{self, Store, StoreError};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is said that the store is still waited for.
const SAY_INTERVAL: Duration = Duration::from_mins(1);

/// What whoever asks meanwhile speaks to. Dropping it ends it.
struct Doors {
    _accepting: DropGuard,
    _ready: watch::Sender<Readiness>,
}

/// Opens the store, as soon as it is there. Only a store that is away is waited for: what waiting does not mend is told.
pub(super) async fn open(
    config: &Config,
    ports: &Ports,
    listening: &mut Option<impl FnOnce() + Send>,
) -> Result<Arc<dyn Store>, StartError> {
    let mut waiting: Option<(Doors, Instant)> = None;
    loop {
        let error = match super::open(config).await {
            Ok(store) => {
                if waiting.is_some() {
                    tracing::info!("the store answers: starting");
                }
                return Ok(store);
            }
            Err(error) if error.is_outage() && store::may_be_away(&config.database_url) => error,
            Err(error) => return Err(error.into()),
        };
        if let Some(listening) = listening.take() {
            listening();
        }
        let said = waiting.as_ref().is_some_and(|(_, said)| said.elapsed() < SAY_INTERVAL);
        if !said {
            say(&error);
            let doors = match waiting.take() {
                Some((doors, _)) => doors,
                None => doors(config, ports).await?,
            };
            waiting = Some((doors, Instant::now()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn say(error: &StoreError) {
    let error = error.cause();
    tracing::warn!(error, "the store is out of reach: not serving, and waiting for it");
}

/// Accepts on both ports, and answers that there is no store yet.
async fn doors(config: &Config, ports: &Ports) -> Result<Doors, StartError> {
    let limits = ConnectionLimits::of(config);
    let (accepting, room) = (CancellationToken::new(), Arc::default());
    let (sender, ready) = watch::channel(Readiness::NONE);

    let certificates = &ports.certificates;
    let connections = Connections::new(limits, certificates.clone(), Protocol::Grpc, &room);
    let (health, report) = grpc::health::face(ready.clone()).await;
    spawn(report);
    let routes = grpc::health::alone(health);
    spawn(connections.accept(another(&ports.grpc, config.listen)?, accepting.clone(), move |_: Peer| {
        let routes = routes.clone();
        service_fn(move |request| {
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(grpc::health::answer_alone(routes, request).await) }
        })
    }));
    let connections = Connections::new(limits, certificates.clone(), Protocol::Http, &room);
    let http = http::health_alone(ready);
    let accept = another(&ports.http, config.http_listen)?;
    spawn(connections.accept(accept, accepting.clone(), move |peer: Peer| {
        let http = http.clone();
        service_fn(move |request: ::http::Request<hyper::body::Incoming>| {
            let under_way = peer.activity.begin();
            let answer = http.clone().oneshot(request);
            async move {
                let answer = answer.await;
                drop(under_way);
                answer
            }
        })
    }));
    Ok(Doors { _accepting: accepting.drop_guard(), _ready: sender })
}

/// The same port once more, for the time until the server itself accepts there.
fn another(
    listener: &TcpListener,
    address: std::net::SocketAddr,
) -> Result<TcpListener, StartError> {
    use std::os::fd::AsFd as _;
    let made = listener.as_fd().try_clone_to_owned().map(std::net::TcpListener::from);
    made.and_then(TcpListener::from_std).map_err(|source| StartError::Listen { address, source })
}
