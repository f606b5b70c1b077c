//! Connections that stay open without a response: a firewall dropped their state, or their host was replaced.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sophic_auth::model::ReplicaId;
use sophic_auth::store::{self, PoolSizes, Published, Store, StoreError};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::raw;
use crate::proxy::Proxy;
use crate::stores::{Database, location};
use crate::waits::{stays_pending, within};

/// Runs this many concurrent tasks that each read and begin a transaction.
async fn run_concurrently(store: &Arc<dyn Store>, tasks: usize) -> Result<(), StoreError> {
    let mut all = JoinSet::new();
    for _ in 0..tasks {
        let store = Arc::clone(store);
        all.spawn(async move {
            store.revision().await?;
            store.find_workspace("acme").await?;
            store.begin("test").await.map(drop)
        });
    }
    let done = within("none hangs", all.join_all()).await;
    done.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_replaced_and_no_request_fails() {
    let database = Database::postgres().await;
    let url = database.url();
    let (head, rest) = url.split_once('@').expect("a user");
    let (address, name) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(address.parse::<SocketAddr>().expect("an address")).await;
    let through = format!("{head}@{}/{name}", proxy.address);
    for pooled in ["", "?pgbouncer=true"] {
        let store = store::open(&location(&format!("{through}{pooled}"))).await.expect("it opens");
        run_concurrently(&store, 64).await.expect("it works");
        proxy.freeze();
        run_concurrently(&store, 64).await.expect("it works again");
        // A transaction has to detect the silence by itself.
        proxy.freeze();
        store.begin("test").await.map(drop).expect("it begins");
        run_concurrently(&store, 64).await.expect("it works again");
        within("closing does not wait for silent connections", store.close()).await;
    }
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_statement_blocks_no_other() {
    let database = Database::postgres().await;
    let sizes = PoolSizes { read: 1, write: 1 };
    let store = store::open_with(&database.location(), sizes).await.expect("it opens");
    let mut other = PgConnection::connect(&database.url()).await.expect("it connects");
    let mut locking = other.begin().await.expect("it begins");
    locking.execute("LOCK TABLE workspaces").await.expect("it is locked");
    let waiting = store.find_workspace("acme");
    stays_pending(Duration::from_millis(100), "it has the lock", waiting).await;
    // The server continues to execute the statement for some seconds, and the pool has no other connection.
    store.revision().await.expect("the connection is free");
    drop(locking);
    store.close().await;
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_not_reconnected_to_in_a_loop() {
    let database = Database::postgres().await;
    let store = store::open(&database.location()).await.expect("it opens");
    let name = database.url().rsplit_once('/').expect("a name").1.to_owned();
    let id = ReplicaId(Uuid::from_u128(1));
    let mut feed = store.open_feed().await.expect("it is followed");
    let lease = Duration::from_secs(10);
    let (incarnation, applied) = feed.register(id, lease).await.expect("it is registered");
    drop(feed);
    let closed = format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on");
    raw::run(&database, &closed).await;
    let mut other = PgConnection::connect(&database.url()).await.expect("it connects");
    let mut sessions = async || -> i64 {
        let row = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
        other.fetch_one(row).await.expect("it is counted").get(0)
    };
    let before = sessions().await;
    stays_pending(Duration::from_secs(3), "it gives up", async {
        for seq in 1.. {
            let Ok(mut feed) = store.open_feed().await else { continue };
            let incarnation = Some(incarnation.clone());
            let mut published = Published { incarnation, applied, seq, durable: false };
            while feed.sync(id, &published, 1).await.is_ok() {
                published.seq += 1;
                feed.wait(Duration::from_millis(100)).await.expect("it waits");
            }
        }
    })
    .await;
    let made = sessions().await - before;
    assert!(made < 40, "{made}");
    store.close().await;
    database.drop_database().await;
}
