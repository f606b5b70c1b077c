//! A failover: the standby is promoted, and the old primary comes back at its old address as a lagging standby. One
//! server knows only that address, through a proxy; the other knows both.

use std::net::SocketAddr;
use std::time::Duration;

use sophic_auth::grpc::pb::{
    CreateKeyRequest, IntrospectRequest, RevokeRequest, Scope, revoke_request,
};
use tonic::transport::Channel;

use super::cluster::Cluster;
use super::site::{program, tolerating_faults, with_deadline};
use crate::cli::program::{Serving, run};
use crate::harness::Actor;
use crate::proxy::Proxy;
use crate::waits::{eventually, eventually_some, let_time_pass, within};

/// Number of introspections in a row, for one key at one server.
const ASKS: usize = 10;

/// Indexes of the server that knows only the old address, and of the one that knows both.
const OLD_ONLY: usize = 0;
const BOTH: usize = 1;

struct Failover {
    cluster: Cluster,
    /// In front of the old primary.
    proxy: Proxy,
    old: SocketAddr,
    new: SocketAddr,
    token: String,
    servers: Vec<(Serving, Channel)>,
}

/// Returns the URL of the cluster with these hosts.
fn url(hosts: &str) -> String {
    format!("postgres://sophic@{hosts}/postgres")
}

fn serve(url: &str) -> (Serving, Channel) {
    let words = ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let words: Vec<_> = words.into_iter().chain(["--output", "json", "--lease", "3s"]).collect();
    let mut serving = Serving::start(program(url, &words));
    let address = serving.json()["grpc"].as_str().expect("its address").to_owned();
    (serving, Channel::from_shared(address).expect("a URL").connect_lazy())
}

/// Runs the program and returns its output. It may warn about a server that it gave up waiting for.
async fn command(url: String, words: &'static [&'static str], input: String) -> String {
    let ended = tokio::task::spawn_blocking(move || run(program(&url, words), &input));
    let ended = ended.await.expect("it ends");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out
}

impl Failover {
    async fn prepare() -> Self {
        let cluster = Cluster::start().await;
        command(cluster.url.clone(), &["migrate"], String::new()).await;
        command(cluster.url.clone(), &["workspace", "put", "acme"], String::new()).await;
        let words: &[&str] = &[
            "caller",
            "create",
            "root",
            "--output",
            "token",
            "--permission",
            "introspect",
            "--permission",
            "credentials.admin",
        ];
        let token = command(cluster.url.clone(), words, String::new()).await;
        let (_, rest) = cluster.url.split_once('@').expect("a user");
        let (old, _) = rest.split_once('/').expect("a database");
        let old = old.parse().expect("an address");
        let new = SocketAddr::from(([127, 0, 0, 1], cluster.standby().await));
        let proxy = Proxy::start(old).await;
        let urls = [url(&proxy.address.to_string()), url(&format!("{old},{new}"))];
        let servers = urls.iter().map(|url| serve(url)).collect();
        Self { cluster, proxy, old, new, token: token.trim().to_owned(), servers }
    }

    fn root(&self, server: usize) -> Actor {
        Actor::new(self.servers[server].1.clone(), &self.token)
    }

    /// Introspects a key at a server. Returns `None` if the server cannot answer.
    async fn ask(&self, key: &str, server: usize, fresh: bool) -> Option<bool> {
        let request = IntrospectRequest { token: key.to_owned(), fresh, ..Default::default() };
        let answer =
            tolerating_faults(self.root(server).auth().introspect(with_deadline(request))).await;
        answer.ok().map(|answer| answer.get_ref().active)
    }

    /// Introspects until the answer is `active`, from memory or not.
    async fn until(&self, key: &str, server: usize, active: bool) {
        let what = format!("server {server} says {active}");
        eventually(&what, async || self.ask(key, server, true).await == Some(active)).await;
        assert_eq!(self.ask(key, server, false).await, Some(active));
    }

    /// Checks keys whose Revoke has returned: a server may fail to answer, but none may say that the key is active.
    async fn assert_never_active(&self, keys: &[String]) {
        for turn in 0..ASKS {
            for key in keys {
                for server in [OLD_ONLY, BOTH] {
                    let said = self.ask(key, server, turn % 2 == 0).await;
                    assert_ne!(said, Some(true), "server {server} allows what was revoked");
                }
            }
        }
    }

    /// Creates a key at a server, retrying as long as it takes.
    async fn create(&self, server: usize) -> String {
        eventually_some("a key is made", async || {
            let request = CreateKeyRequest {
                workspace: "acme".to_owned(),
                name: "ci".to_owned(),
                scopes: vec![Scope::Read.into()],
                ..Default::default()
            };
            let made =
                tolerating_faults(self.root(server).auth().create_key(with_deadline(request)))
                    .await;
            made.ok().map(|made| made.into_inner().token)
        })
        .await
    }

    /// Revokes a key at a server, retrying until a call returns.
    async fn revoke(&self, key: &str, server: usize) {
        eventually("it is revoked", async || {
            let credential = Some(revoke_request::Credential::Token(key.to_owned()));
            let request = RevokeRequest { credential, ..Default::default() };
            tolerating_faults(self.root(server).auth().revoke(with_deadline(request))).await.is_ok()
        })
        .await;
    }

    /// Revokes keys with the command line at the new primary.
    async fn revoke_by_command(&self, keys: &[String]) {
        let commands = keys
            .iter()
            .map(|key| command(url(&self.new.to_string()), &["key", "revoke", "-"], key.clone()));
        within("every command ends", futures::future::join_all(commands)).await;
    }

    /// Until `work` is done, the proxy leads new connections to the two primaries in turn and cuts all of them again
    /// and again.
    async fn alternate_primaries(&self, work: impl Future<Output = ()>) {
        let astray = async {
            for target in [self.old, self.new].into_iter().cycle() {
                self.proxy.redirect_to(target);
                self.proxy.cut();
                let_time_pass("connections are made there for a while", Duration::from_millis(200))
                    .await;
            }
        };
        tokio::select! {
            () = work => {}
            () = astray => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_brings_no_revoked_token_back() {
    let f = Failover::prepare().await;
    let mut keys = Vec::new();
    for _ in 0..8 {
        keys.push(f.create(BOTH).await);
    }
    for key in &keys {
        f.until(key, OLD_ONLY, true).await;
        f.until(key, BOTH, true).await;
    }
    let (live, keys) = keys.split_first().expect("eight keys");
    f.cluster.switch_over(f.new.port()).await;

    // The server with one address reaches only a standby that does not know these revocations.
    f.revoke_by_command(&keys[..3]).await;
    f.assert_never_active(&keys[..3]).await;
    assert_eq!(f.ask(live, OLD_ONLY, false).await, None);
    f.until(live, BOTH, true).await;
    f.until(&keys[0], BOTH, false).await;

    // Existing connections stay where they are. New ones lead to the new primary.
    f.proxy.redirect_to(f.new);
    f.until(live, OLD_ONLY, true).await;
    f.until(&keys[0], OLD_ONLY, false).await;
    let made = f.create(OLD_ONLY).await;
    f.until(&made, BOTH, true).await;
    f.revoke(&made, OLD_ONLY).await;
    f.revoke(&keys[3], BOTH).await;
    f.assert_never_active(&[made, keys[3].clone()]).await;

    // To the two primaries in turn.
    f.alternate_primaries(async {
        for key in &keys[4..] {
            f.revoke(key, BOTH).await;
            f.assert_never_active(std::slice::from_ref(key)).await;
        }
    })
    .await;
    f.proxy.redirect_to(f.new);
    f.until(live, OLD_ONLY, true).await;
    for key in keys {
        f.until(key, OLD_ONLY, false).await;
        f.until(key, BOTH, false).await;
    }
    let made = f.create(OLD_ONLY).await;
    f.revoke(&made, OLD_ONLY).await;
    f.assert_never_active(&[made]).await;
}
