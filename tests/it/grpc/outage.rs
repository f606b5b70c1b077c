//! An outage of the store: answers come from memory while the lease holds, and then calls fail as unavailable. Postgres
//! only, since a file does not go away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sophic_auth::grpc::pb::{
    IntrospectRequest, IntrospectResponse, ListWorkspacesRequest, RevokeCallerRequest, Scope,
};
use sophic_auth::server::Config;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::health::{http, status, until};
use crate::harness::{Actor, Harness};
use crate::proxy::{Mode, Proxy};
use crate::stores::{Database, Fixture as _, location};
use crate::waits::{PATIENCE, drop_after, within};

const LEASE: Duration = Duration::from_secs(1);
/// Health service name for management.
const MANAGEMENT: &str = "sophic.auth.v1.DirectoryService";
struct Outage {
    server: Harness,
    gateway: Actor,
    key: String,
}

/// A server with a key in its cache, whose database is gone.
async fn outage(grace: Duration) -> Outage {
    let h = Harness::set_up(Database::postgres().await.into()).await;
    let server = h
        .another(|config| {
            config.cache.lease = LEASE;
            config.cache.outage_grace = grace;
        })
        .await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let gateway = h.gateway().await.via(&server);
    assert!(gateway.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    h.wait_until_read_by(&server).await;
    // Reading again after the last change puts the current state into memory.
    assert!(gateway.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    h.running.stop().await;
    h.database.refuse_connections().await;
    Outage { server, gateway, key }
}

impl Outage {
    async fn ask(&self, token: &str) -> Result<IntrospectResponse, tonic::Status> {
        let request = IntrospectRequest { token: token.to_owned(), ..Default::default() };
        self.gateway.auth().introspect(request).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_store_a_server_answers_for_a_lease_and_then_is_unavailable() {
    let outage = outage(Duration::ZERO).await;
    let refused = within("the lease ends, and nobody can tell", async {
        loop {
            match outage.ask(&outage.key).await {
                Ok(answer) => {
                    assert!(answer.allowed && !answer.stale, "never no because of a fault")
                }
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    outage.server.database.allow_connections().await;
    // It reconnects by itself.
    within("it finds back to its store", async {
        loop {
            match outage.ask(&outage.key).await {
                Ok(answer) => break assert!(answer.allowed && !answer.stale),
                Err(status) => assert_eq!(status.code(), Code::Unavailable),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_grace_a_server_goes_on_with_stale_answers() {
    let outage = outage(Duration::from_secs(3_600)).await;
    within("its answers are stale", async {
        loop {
            let answer = outage.ask(&outage.key).await.expect("an answer");
            assert!(answer.allowed);
            if answer.stale {
                break;
            }
        }
    })
    .await;
    // A token that is not in memory cannot be answered.
    let token = sophic_auth::token::Token::mint(
        sophic_auth::token::TokenKind::Key,
        &sophic_auth::token::OsRandom,
    );
    let unknown = outage.ask(token.expect("randomness").expose()).await.expect_err("no answer");
    assert_eq!(unknown.code(), Code::Unavailable);
    // And a request for a fresh answer fails.
    let token = outage.key.clone();
    let request = IntrospectRequest { token, fresh: true, ..Default::default() };
    let fresh = outage.gateway.auth().introspect(request).await.expect_err("no fresh answer");
    assert_eq!(fresh.code(), Code::Unavailable);
}

/// A server that reaches its database through a proxy, with a key in its cache.
struct Cut {
    outage: Outage,
    proxy: Proxy,
}

async fn behind_a_proxy(change: impl FnOnce(&mut Config)) -> Cut {
    let h = Harness::set_up(Database::postgres().await.into()).await;
    let url = h.database.url();
    let (user, rest) = url.split_once('@').expect("a user");
    let (address, name) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(address.parse::<SocketAddr>().expect("an address")).await;
    let server = h
        .another(|config| {
            config.location = location(&format!("{user}@{}/{name}", proxy.address));
            config.limits.request_timeout = PATIENCE;
            change(config);
        })
        .await;
    let root = h.root().await.via(&server);
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    until(&server, "", ServingStatus::Serving).await;
    until(&server, MANAGEMENT, ServingStatus::Serving).await;
    // Reading after the last change puts the current state into memory.
    h.wait_until_read_by(&server).await;
    assert!(root.introspect(&key, "acme", &[Scope::Read]).await.allowed);
    h.running.stop().await;
    Cut { outage: Outage { server, gateway: root, key }, proxy }
}

impl Cut {
    /// Cuts the store off: connections are refused, or get no answer.
    fn cut(&self, mode: Mode) {
        self.proxy.set(mode);
        if mode == Mode::Refuse {
            self.proxy.cut();
        }
    }

    async fn end(self) {
        self.proxy.set(Mode::Pass);
        let database = Arc::clone(&self.outage.server.database);
        self.outage.server.running.stop().await;
        database.drop_database().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_ready_for_introspection_but_not_for_management_while_memory_answers() {
    let cut = behind_a_proxy(|config| config.cache.lease = Duration::from_mins(1)).await;
    let server = &cut.outage.server;
    cut.cut(Mode::Refuse);
    until(server, MANAGEMENT, ServingStatus::NotServing).await;
    until(server, "sophic.auth.v1.AdminService", ServingStatus::NotServing).await;
    for service in ["", "sophic.auth.v1.AuthService"] {
        assert_eq!(status(server, service).await, ServingStatus::Serving);
    }
    let ready = http(server, "GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.ends_with("\r\n\r\nready\nmanagement: not ready\n"), "{ready}");
    assert!(cut.outage.ask(&cut.outage.key).await.expect("an answer").allowed);
    cut.proxy.set(Mode::Pass);
    until(server, MANAGEMENT, ServingStatus::Serving).await;
    cut.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_not_ready_after_its_grace() {
    let cut = behind_a_proxy(|config| {
        (config.cache.lease, config.cache.outage_grace) = (LEASE, Duration::from_secs(3));
    })
    .await;
    cut.cut(Mode::Refuse);
    until(&cut.outage.server, MANAGEMENT, ServingStatus::NotServing).await;
    within("its answers are stale", async {
        while !cut.outage.ask(&cut.outage.key).await.expect("an answer").stale {}
    })
    .await;
    assert_eq!(status(&cut.outage.server, "").await, ServingStatus::Serving);
    until(&cut.outage.server, "", ServingStatus::NotServing).await;
    assert!(http(&cut.outage.server, "GET /readyz").await.starts_with("HTTP/1.1 503"));
    let refused = cut.outage.ask(&cut.outage.key).await.expect_err("it may not answer");
    assert_eq!(refused.code(), Code::Unavailable);
    cut.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_known_outage_memory_answers_and_all_other_calls_fail_at_once() {
    for mode in [Mode::Refuse, Mode::Stall] {
        let cut = behind_a_proxy(|config| {
            (config.cache.lease, config.cache.outage_grace) = (LEASE, Duration::from_mins(10));
        })
        .await;
        cut.cut(mode);
        let unknown = || async {
            let fresh = IntrospectRequest {
                token: cut.outage.key.clone(),
                fresh: true,
                ..Default::default()
            };
            let refused = cut.outage.gateway.auth().introspect(fresh).await;
            assert_eq!(refused.expect_err("nobody can tell").code(), Code::Unavailable);
        };
        // The first calls are refused long before their deadlines, and meanwhile the server notices the outage.
        let list = async {
            let request = ListWorkspacesRequest::default();
            let refused = cut.outage.gateway.directory().list_workspaces(request).await;
            assert_eq!(refused.expect_err("nobody can tell").code(), Code::Unavailable);
        };
        let write = async {
            let request = RevokeCallerRequest { caller: "nobody".to_owned() };
            let refused = cut.outage.gateway.admin().revoke_caller(request).await;
            assert_eq!(refused.expect_err("nobody can tell").code(), Code::Unavailable);
        };
        let first = async { tokio::join!(unknown(), list, write) };
        drop_after(PATIENCE / 3, first).await.expect("they do not hang");
        until(&cut.outage.server, MANAGEMENT, ServingStatus::NotServing).await;
        within("its answers are stale", async {
            while !cut.outage.ask(&cut.outage.key).await.expect("what was known").stale {}
        })
        .await;
        // Many calls at once: if each waited a tenth of a second for the store, this would take minutes.
        let started = Instant::now();
        let mut askers = JoinSet::new();
        let outage = Arc::new(cut.outage);
        for _ in 0..32 {
            let outage = Arc::clone(&outage);
            askers.spawn(async move {
                for _ in 0..50 {
                    assert!(outage.ask(&outage.key).await.expect("what was known").stale);
                }
            });
        }
        within("memory answers at once", askers.join_all()).await;
        eprintln!("{mode:?}: 1,600 stale answers in {:?}", started.elapsed());
        let outage = Arc::into_inner(outage).expect("nobody asks any more");
        // The server reconnects by itself.
        cut.proxy.set(Mode::Pass);
        until(&outage.server, MANAGEMENT, ServingStatus::Serving).await;
        within("its answers are fresh again", async {
            while outage.ask(&outage.key).await.expect("an answer").stale {}
        })
        .await;
        Cut { outage, proxy: cut.proxy }.end().await;
    }
}
