//! Postgres URLs with several hosts: which host the store connects to. `faults::failover` has the cases with a standby.

use std::net::SocketAddr;
use std::sync::Arc;

use sophic_auth::store::{self, Store, StoreError};

use super::samples::{workspace, write};
use crate::proxy::{Mode, Proxy};
use crate::stores::{Database, location};
use crate::waits::{eventually, within};

/// Returns the URL with these hosts instead of its host, and the address of that host.
fn url(database: &Database, hosts: &str) -> (String, SocketAddr) {
    let url = database.url();
    let (head, rest) = url.split_once('@').expect("a user");
    let (host, name) = rest.split_once('/').expect("a database");
    (format!("{head}@{hosts}/{name}"), host.parse().expect("an address"))
}

/// Waits until both a read and a write succeed.
async fn until_recovered(store: &Arc<dyn Store>) {
    let acme = workspace("acme");
    within("it goes on at the other host", async {
        while store.ping().await.is_err() || store.begin("test").await.map(drop).is_err() {}
        write(&**store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
        assert_eq!(store.find_workspace("acme").await, Ok(Some(acme.clone())));
    })
    .await;
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_skipped() {
    let database = Database::postgres().await;
    let (_, address) = url(&database, "");
    // Nothing listens on port 1.
    for hosts in [format!("127.0.0.1:1,{address}"), format!("{address},127.0.0.1:1")] {
        let store = store::open(&location(&url(&database, &hosts).0)).await.expect("it opens");
        until_recovered(&store).await;
        store.close().await;
    }
    let (nowhere, _) = url(&database, "127.0.0.1:1,[::1]:1");
    let nowhere = nowhere.replace("sophic@", "sophic:hunter2@");
    let error = store::open(&location(&nowhere)).await.map(drop).expect_err("no host answers");
    let StoreError::Unavailable(text) = error else { panic!("{error:?}") };
    assert!(text.contains("127.0.0.1:1: ") && text.contains("::1:1: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_fails_over_to_another_host_if_the_first_is_gone_or_silent() {
    let database = Database::postgres().await;
    let (_, address) = url(&database, "");
    for mode in [Mode::Refuse, Mode::Stall] {
        let proxies = [Proxy::start(address).await, Proxy::start(address).await];
        let hosts = proxies.each_ref().map(|proxy| proxy.address.to_string()).join(",");
        let store = store::open(&location(&url(&database, &hosts).0)).await.expect("it opens");
        // To the other host and back.
        for [gone, left] in [[0, 1], [1, 0]] {
            proxies[left].set(Mode::Pass);
            proxies[gone].set(mode);
            proxies[gone].cut();
            until_recovered(&store).await;
        }
        store.close().await;
    }
    database.drop_database().await;
}

#[tokio::test]
async fn a_connection_option_cannot_forge_the_system_identifier() {
    let database = Database::postgres().await;
    let options = "?options=-c%20sophic_auth.system%3D1";
    let store =
        store::open(&location(&format!("{}{options}", database.url()))).await.expect("it opens");
    until_recovered(&store).await;
    let brought = store.list_replicas().await.expect("a list").incarnation;
    let plain = store::open(&database.location()).await.expect("it opens");
    assert_eq!(plain.list_replicas().await.expect("a list").incarnation, brought);
    for store in [store, plain] {
        store.close().await;
    }
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_store_is_reported_at_once_while_the_feed_probes_it() {
    let database = Database::postgres().await;
    let (_, address) = url(&database, "");
    for mode in [Mode::Refuse, Mode::Stall] {
        let proxy = Proxy::start(address).await;
        let store = store::open(&location(&url(&database, &proxy.address.to_string()).0)).await;
        let store = store.expect("it opens");
        drop(store.open_feed().await.expect("it is followed"));
        proxy.set(mode);
        if mode == Mode::Refuse {
            proxy.cut();
        }
        eventually("the loss is noticed", async || store.open_feed().await.is_err()).await;
        let again = async {
            loop {
                drop(store.open_feed().await)
            }
        };
        let known = async {
            let gone = store.until_unreachable().await;
            assert!(matches!(gone, StoreError::Unreachable(_)), "{gone:?}");
            assert!(matches!(store.revision().await, Err(StoreError::Unreachable(_))));
            assert!(matches!(store.begin("test").await.map(drop), Err(StoreError::Unreachable(_))));
        };
        let known = async {
            tokio::select! { () = known => {}, () = again => {} }
        };
        within("it is known to be away", known).await;
        proxy.set(Mode::Pass);
        eventually("it is found", async || store.open_feed().await.is_ok()).await;
        until_recovered(&store).await;
        store.close().await;
    }
    database.drop_database().await;
}
