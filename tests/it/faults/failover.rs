//! A failover: the standby is promoted, and the old primary comes back at its old address as a standby that lags. One
//! server knows that address alone, through a proxy; the other knows both.

use std::net::SocketAddr;
use std::time::Duration;

use sophic_auth::grpc::pb::{
    CreateKeyRequest, IntrospectRequest, RevokeRequest, Scope, revoke_request,
};
use tonic::transport::Channel;

use super::cluster::Cluster;
use super::site::{patient, program, timed};
use crate::cli::program::{Serving, run};
use crate::harness::Actor;
use crate::proxy::Proxy;
use crate::waits::{eventually, eventually_some, let_time_pass, within};

/// Far longer than anything here takes, even on a machine that is busy.
/// Asks of one server about one key, in a row.
const ASKS: usize = 10;

/// The server that knows the old primary's address alone, and the one that knows both.
const ONE: usize = 0;
const BOTH: usize = 1;

struct Failover {
    cluster: Cluster,
    /// Before the old primary's address.
    proxy: Proxy,
    old: SocketAddr,
    new: SocketAddr,
    token: String,
    servers: Vec<(Serving, Channel)>,
}

/// The cluster's URL, with these hosts in it.
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

/// Runs the program to its end. It may warn of a server that it gave up.
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

    /// What a server says of a key; nothing if it cannot tell.
    async fn ask(&self, key: &str, server: usize, fresh: bool) -> Option<bool> {
        let request = IntrospectRequest { token: key.to_owned(), fresh, ..Default::default() };
        let answer = patient(self.root(server).auth().introspect(timed(request))).await;
        answer.ok().map(|answer| answer.get_ref().active)
    }

    /// Asks until this is the answer, from memory or not.
    async fn until(&self, key: &str, server: usize, active: bool) {
        let what = format!("server {server} says {active}");
        eventually(&what, async || self.ask(key, server, true).await == Some(active)).await;
        assert_eq!(self.ask(key, server, false).await, Some(active));
    }

    /// Whoever is asked about keys whose Revoke has returned may be unable to tell; nobody says that one is active.
    async fn assert_dead(&self, keys: &[String]) {
        for turn in 0..ASKS {
            for key in keys {
                for server in [ONE, BOTH] {
                    let said = self.ask(key, server, turn % 2 == 0).await;
                    assert_ne!(said, Some(true), "server {server} allows what was revoked");
                }
            }
        }
    }

    /// Makes a key at a server, which takes as long as it takes.
    async fn create(&self, server: usize) -> String {
        eventually_some("a key is made", async || {
            let request = CreateKeyRequest {
                workspace: "acme".to_owned(),
                name: "ci".to_owned(),
                scopes: vec![Scope::Read.into()],
                ..Default::default()
            };
            let made = patient(self.root(server).auth().create_key(timed(request))).await;
            made.ok().map(|made| made.into_inner().token)
        })
        .await
    }

    /// Revokes at a server, and again until it returns.
    async fn revoke(&self, key: &str, server: usize) {
        eventually("it is revoked", async || {
            let credential = Some(revoke_request::Credential::Token(key.to_owned()));
            let request = RevokeRequest { credential, ..Default::default() };
            patient(self.root(server).auth().revoke(timed(request))).await.is_ok()
        })
        .await;
    }

    /// Revokes with the command line, at the new primary.
    async fn revoke_by_command(&self, keys: &[String]) {
        let commands = keys
            .iter()
            .map(|key| command(url(&self.new.to_string()), &["key", "revoke", "-"], key.clone()));
        within("every command ends", futures::future::join_all(commands)).await;
    }

    /// New connections of the one server lead to either primary in turn, and none lives long, until this is done.
    async fn lead_astray(&self, work: impl Future<Output = ()>) {
        let astray = async {
            for target in [self.old, self.new].into_iter().cycle() {
                self.proxy.redirect_to(target);
                self.proxy.cut();
                let_time_pass("they lead there for a while", Duration::from_millis(200)).await;
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
        f.until(key, ONE, true).await;
        f.until(key, BOTH, true).await;
    }
    let (live, keys) = keys.split_first().expect("eight keys");
    f.cluster.switch_over(f.new.port()).await;

    // The one server finds nobody but a standby that knows nothing of what is revoked now.
    f.revoke_by_command(&keys[..3]).await;
    f.assert_dead(&keys[..3]).await;
    assert_eq!(f.ask(live, ONE, false).await, None);
    f.until(live, BOTH, true).await;
    f.until(&keys[0], BOTH, false).await;

    // What was connected before stays where it is, and what is connected from now on is led to the new primary.
    f.proxy.redirect_to(f.new);
    f.until(live, ONE, true).await;
    f.until(&keys[0], ONE, false).await;
    let made = f.create(ONE).await;
    f.until(&made, BOTH, true).await;
    f.revoke(&made, ONE).await;
    f.revoke(&keys[3], BOTH).await;
    f.assert_dead(&[made, keys[3].clone()]).await;

    // Now here, now there.
    f.lead_astray(async {
        for key in &keys[4..] {
            f.revoke(key, BOTH).await;
            f.assert_dead(std::slice::from_ref(key)).await;
        }
    })
    .await;
    f.proxy.redirect_to(f.new);
    f.until(live, ONE, true).await;
    for key in keys {
        f.until(key, ONE, false).await;
        f.until(key, BOTH, false).await;
    }
    let made = f.create(ONE).await;
    f.revoke(&made, ONE).await;
    f.assert_dead(&[made]).await;
}
