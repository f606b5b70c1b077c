//! Servers, each a process of its own on one store, and clients that create, introspect and revoke at all of them for as
//! long as the test goes on.

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

/// As short as it may be.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// How long clients wait: for a Revoke, longer than for a server that is gone.
const DEADLINE: Duration = Duration::from_secs(6);
/// Keys that are asked about at random.
const RECENT: usize = 30;

/// A key: its number and its text.
type Key = (usize, Arc<str>);

/// What all share.
pub(super) struct Site {
    pub(super) url: String,
    token: String,
    servers: Vec<Mutex<Option<Serving>>>,
    channels: RwLock<Vec<Channel>>,
    pub(super) history: History,
    keys: AtomicUsize,
    recent: Mutex<VecDeque<Key>>,
    all: Mutex<Vec<Key>>,
    /// Counts revocations that returned.
    progress: watch::Sender<usize>,
    stopping: watch::Sender<bool>,
}

/// The program, on this store.
pub(super) fn program(url: &str, words: &[&str]) -> Command {
    let mut command = command();
    command.env("SOPHIC_AUTH_DATABASE_URL", url).args(words);
    command
}

impl Site {
    /// This many servers, a caller who may do everything, and a workspace `acme`.
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

    /// kill -9, and another in its place.
    pub(super) fn replace(&self, server: usize) {
        drop(self.servers[server].lock().take());
        let channel = self.launch(server);
        self.channels.write()[server] = channel;
    }

    /// Whoever may do everything, at this server.
    pub(super) fn root(&self, server: usize) -> Actor {
        Actor::new(self.channels.read()[server].clone(), &self.token)
    }

    /// Waits until this many more revocations have returned.
    pub(super) async fn progress(&self, more: usize) {
        let mut progress = self.progress.subscribe();
        let goal = *progress.borrow() + more;
        within("revocations return", progress.wait_for(|returned| *returned >= goal))
            .await
            .expect("it goes on");
    }

    fn stops(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Starts clients: these make, ask about and end one key after the other; those ask without pause.
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

    /// Ends the load; every revocation that was begun is carried through first.
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
        // Some live on.
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
        // At all of them at once, and at once: who would still say yes?
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
        let begun = Instant::now();
        let response = patient(root.auth().create_key(timed(request))).await.ok()?;
        let span = Span { begun, ended: Instant::now() };
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.history.add(Event::Created { key, span });
        Some((key, response.into_inner().token.into()))
    }

    /// What a server says of a key; nothing if it cannot tell.
    pub(super) async fn ask(&self, key: &Key, server: usize) -> Option<bool> {
        let request = IntrospectRequest { token: key.1.to_string(), ..Default::default() };
        let root = self.root(server);
        let begun = Instant::now();
        let response = patient(root.auth().introspect(timed(request))).await.ok()?;
        let span = Span { begun, ended: Instant::now() };
        let active = response.get_ref().active;
        self.history.add(Event::Asked { key: key.0, server, span, active });
        Some(active)
    }

    /// Whether it returned.
    async fn revoke(&self, key: &Key, server: usize) -> bool {
        let credential = Some(revoke_request::Credential::Token(key.1.to_string()));
        let request = RevokeRequest { credential, ..Default::default() };
        let root = self.root(server);
        let begun = Instant::now();
        let returned = patient(root.auth().revoke(timed(request))).await.is_ok();
        let span = Span { begun, ended: Instant::now() };
        self.history.add(Event::Revoked { key: key.0, span, returned });
        returned
    }

    /// Revokes with the command line, in a process of its own.
    pub(super) fn revoke_by_command(&self, key: &Key) {
        let begun = Instant::now();
        let ended = run(program(&self.url, &["key", "revoke", "-"]), &key.1);
        let returned = ended.code == Some(0);
        let span = Span { begun, ended: Instant::now() };
        self.history.add(Event::Revoked { key: key.0, span, returned });
        assert!(returned, "{ended:?}");
        self.progress.send_modify(|returned| *returned += 1);
    }

    /// Creates with the command line.
    pub(super) fn create_by_command(&self) -> Key {
        let words = ["key", "create", "--workspace", "acme", "--name", "ci", "--scope", "read"];
        let words: Vec<_> = words.into_iter().chain(["--output", "token"]).collect();
        let begun = Instant::now();
        let token = run(program(&self.url, &words), "").word();
        let span = Span { begun, ended: Instant::now() };
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.history.add(Event::Created { key, span });
        let key: Key = (key, token.into());
        self.all.lock().push(key.clone());
        key
    }

    /// With the faults over: makes a key, and revokes it.
    pub(super) async fn revoke_one_more(&self) {
        let key = eventually_some("a key is made", async || self.create(0).await).await;
        eventually("it is revoked", async || self.revoke(&key, 0).await).await;
    }

    /// With the faults over, every server answers again, and all say the same of every key there ever was.
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

pub(super) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// A server that is stopped does not keep deadlines. No error but these is allowed.
pub(super) async fn patient<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::deadline_exceeded("nobody answered");
    let outcome = drop_after(DEADLINE + LEASE, call).await.ok_or_else(late)?;
    if let Err(status) = &outcome {
        let fault = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted];
        // tonic's own words for a connection that broke under way, and for its own time limit.
        let broken = [Code::Unknown, Code::Cancelled].contains(&status.code());
        assert!(fault.contains(&status.code()) || broken, "{status:?}");
    }
    outcome
}
