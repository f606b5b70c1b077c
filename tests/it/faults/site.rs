//! Several server processes on one store, and clients that create, introspect and revoke at all of them during the
//! whole test.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustix::process::Signal;
use sophic_auth::grpc::pb::{
    CreateKeyRequest, IntrospectRequest, RevokeRequest, Scope, revoke_request,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::history::{Event, History, Span};
use crate::cli::program::{Serving, command, run};
use crate::harness::Actor;
use crate::waits::{drop_after, eventually, eventually_some, let_time_pass, within};

/// The shortest lease that is allowed.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// Deadline of clients: longer than a Revoke waits for a server that is gone.
const DEADLINE: Duration = Duration::from_secs(6);
/// Number of recent keys to introspect at random.
const RECENT: usize = 30;

/// Number and token of a key.
type Key = (usize, Arc<str>);

/// The servers and the state that the clients share.
pub(super) struct Site {
    pub(super) url: String,
    token: String,
    servers: Vec<Mutex<Option<Serving>>>,
    channels: RwLock<Vec<Channel>>,
    pub(super) history: History,
    keys: AtomicUsize,
    recent: Mutex<VecDeque<Key>>,
    all: Mutex<Vec<Key>>,
    /// Number of revocations that have returned.
    progress: watch::Sender<usize>,
    stopping: watch::Sender<bool>,
}

/// Returns the command for the program on this store.
pub(super) fn program(url: &str, words: &[&str]) -> Command {
    let mut command = command();
    command.env("SOPHIC_AUTH_DATABASE_URL", url).args(words);
    command
}

impl Site {
    /// Starts this many servers. Creates a caller with every permission, and a workspace `acme`.
    pub(super) async fn start(url: &str, servers: usize) -> Arc<Self> {
        run(program(url, &["migrate"]), "").ok();
        run(program(url, &["workspace", "put", "acme"]), "").ok();
        let all = ["introspect", "credentials.read", "credentials.admin"];
        let permissions = all.iter().flat_map(|permission| ["--permission", permission]);
        let words = ["caller", "create", "root", "--output", "token"];
        let words: Vec<_> = words.into_iter().chain(permissions).collect();
        let token = run(program(url, &words), "").word();
        let site = Self {
            url: url.to_owned(),
            token,
            servers: (0..servers).map(|_| Mutex::default()).collect(),
            channels: RwLock::default(),
            history: History::default(),
            keys: AtomicUsize::new(0),
            recent: Mutex::default(),
            all: Mutex::default(),
            progress: watch::channel(0).0,
            stopping: watch::channel(false).0,
        };
        for server in 0..servers {
            let channel = site.launch(server);
            site.channels.write().push(channel);
        }
        Arc::new(site)
    }

    fn launch(&self, server: usize) -> Channel {
        let lease = format!("{}s", LEASE.as_secs());
        let words = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--output",
            "json",
            "--lease",
            &lease,
        ];
        let mut serving = Serving::start(program(&self.url, &words));
        let url = serving.json()["grpc"].as_str().expect("its address").to_owned();
        *self.servers[server].lock() = Some(serving);
        Channel::from_shared(url).expect("a URL").connect_lazy()
    }

    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn signal(&self, server: usize, signal: Signal) {
        self.servers[server].lock().as_ref().expect("it runs").signal(signal);
    }

    /// Kills a server with SIGKILL, and starts another in its place.
    pub(super) fn replace(&self, server: usize) {
        drop(self.servers[server].lock().take());
        let channel = self.launch(server);
        self.channels.write()[server] = channel;
    }

    /// Returns a client with every permission at this server.
    pub(super) fn root(&self, server: usize) -> Actor {
        Actor::new(self.channels.read()[server].clone(), &self.token)
    }

    /// Waits until this many more revocations have returned.
    pub(super) async fn progress(&self, more: usize) {
        let mut progress = self.progress.subscribe();
        let goal = *progress.borrow() + more;
        within("revocations return", progress.wait_for(|returned| *returned >= goal))
            .await
            .expect("it continues");
    }

    fn stops(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Starts clients. Writers create, introspect and revoke one key after the other. Readers introspect without a
    /// pause.
    pub(super) fn load(self: &Arc<Self>, writers: usize, readers: usize) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for writer in 0..writers {
            let (site, mut turn) = (Arc::clone(self), writer);
            clients.spawn(async move {
                while !site.stops() {
                    site.write(&mut turn).await;
                }
            });
        }
        for reader in 0..readers {
            let (site, server, mut turn) = (Arc::clone(self), reader % self.servers(), reader);
            clients.spawn(async move {
                while !site.stops() {
                    site.read(server, &mut turn).await;
                }
            });
        }
        clients
    }

    /// Ends the load. Clients first finish the revocations that they have begun.
    pub(super) async fn finish(&self, clients: JoinSet<()>) {
        self.stopping.send_replace(true);
        within("every client has carried its revocation through", clients.join_all()).await;
    }

    async fn write(&self, turn: &mut usize) {
        *turn += 1;
        let Some(key) = self.create(*turn % self.servers()).await else { return };
        for server in 0..self.servers() {
            self.ask(&key, server).await;
        }
        {
            let mut recent = self.recent.lock();
            recent.push_back(key.clone());
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
        self.all.lock().push(key.clone());
        // Some keys stay active.
        if turn.is_multiple_of(5) {
            return;
        }
        within("it is revoked", async {
            while !self.revoke(&key, *turn % self.servers()).await {
                *turn += 1;
            }
        })
        .await;
        self.progress.send_modify(|returned| *returned += 1);
        // All servers are asked at once, right after the Revoke. None may say active.
        let asks = (0..self.servers()).map(|server| self.ask(&key, server));
        within("every server is asked", futures::future::join_all(asks)).await;
    }

    async fn read(&self, server: usize, turn: &mut usize) {
        *turn = turn.wrapping_mul(31).wrapping_add(7);
        let key = {
            let recent = self.recent.lock();
            (!recent.is_empty()).then(|| recent[*turn % recent.len()].clone())
        };
        if let Some(key) = key {
            self.ask(&key, server).await;
        }
        let_time_pass("this machine needs time for the servers too", Duration::from_millis(2))
            .await;
    }

    async fn create(&self, server: usize) -> Option<Key> {
        let request = CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: "ci".to_owned(),
            scopes: vec![Scope::Read.into()],
            ..Default::default()
        };
        let root = self.root(server);
        let started = Instant::now();
        let response =
            tolerating_faults(root.auth().create_key(with_deadline(request))).await.ok()?;
        let span = Span { started, ended: Instant::now() };
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.history.add(Event::Created { key, span });
        Some((key, response.into_inner().token.into()))
    }

    /// Introspects a key at a server. Returns `None` if the server cannot answer.
    pub(super) async fn ask(&self, key: &Key, server: usize) -> Option<bool> {
        let request = IntrospectRequest { token: key.1.to_string(), ..Default::default() };
        let root = self.root(server);
        let started = Instant::now();
        let response =
            tolerating_faults(root.auth().introspect(with_deadline(request))).await.ok()?;
        let span = Span { started, ended: Instant::now() };
        let active = response.get_ref().active;
        self.history.add(Event::Asked { key: key.0, server, span, active });
        Some(active)
    }

    /// Revokes a key. Returns whether the call succeeded.
    async fn revoke(&self, key: &Key, server: usize) -> bool {
        let credential = Some(revoke_request::Credential::Token(key.1.to_string()));
        let request = RevokeRequest { credential, ..Default::default() };
        let root = self.root(server);
        let started = Instant::now();
        let returned = tolerating_faults(root.auth().revoke(with_deadline(request))).await.is_ok();
        let span = Span { started, ended: Instant::now() };
        self.history.add(Event::Revoked { key: key.0, span, returned });
        returned
    }

    /// Revokes a key with the command line, in a separate process.
    pub(super) fn revoke_by_command(&self, key: &Key) {
        let started = Instant::now();
        let ended = run(program(&self.url, &["key", "revoke", "-"]), &key.1);
        let returned = ended.code == Some(0);
        let span = Span { started, ended: Instant::now() };
        self.history.add(Event::Revoked { key: key.0, span, returned });
        assert!(returned, "{ended:?}");
        self.progress.send_modify(|returned| *returned += 1);
    }

    /// Creates a key with the command line.
    pub(super) fn create_by_command(&self) -> Key {
        let words = ["key", "create", "--workspace", "acme", "--name", "ci", "--scope", "read"];
        let words: Vec<_> = words.into_iter().chain(["--output", "token"]).collect();
        let started = Instant::now();
        let token = run(program(&self.url, &words), "").word();
        let span = Span { started, ended: Instant::now() };
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.history.add(Event::Created { key, span });
        let key: Key = (key, token.into());
        self.all.lock().push(key.clone());
        key
    }

    /// After the faults: creates a key and revokes it.
    pub(super) async fn revoke_one_more(&self) {
        let key = eventually_some("a key is made", async || self.create(0).await).await;
        eventually("it is revoked", async || self.revoke(&key, 0).await).await;
    }

    /// After the faults, every server answers again, and all agree about every key ever made.
    pub(super) async fn assert_recovered(&self) {
        let all = self.all.lock().clone();
        for key in all {
            let mut said = Vec::new();
            for server in 0..self.servers() {
                said.push(
                    eventually_some("an answer", async || self.ask(&key, server).await).await,
                );
            }
            assert!(said.iter().all(|active| *active == said[0]), "{}: {said:?}", key.0);
        }
    }
}

pub(super) fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// Awaits a call. A stopped server does not keep deadlines, so this has a timeout. Only the errors below are allowed.
pub(super) async fn tolerating_faults<T>(
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded("nobody answered");
    let outcome = drop_after(DEADLINE + LEASE, call).await.ok_or_else(late)?;
    if let Err(status) = &outcome {
        let fault = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted];
        // tonic's codes for a connection that broke during the call, and for its own timeout.
        let broken = [Code::Unknown, Code::Cancelled].contains(&status.code());
        assert!(fault.contains(&status.code()) || broken, "{status:?}");
    }
    outcome
}
