//! A database that grants fewer connections than the pools may have: a request beyond them waits for one of the pool's
//! connections.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::model::ReplicaId;
use sophic_auth::store::{self, Store};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::pooler::pgbouncer;
use super::raw;
use super::samples::workspace;
use crate::stores::{Database, location};
use crate::waits::{eventually_some, within};

/// Runs many reads and writes at once while the log is followed. None may fail.
async fn run_load(store: &Arc<dyn Store>, id: u128) {
    // With very few connections, the first attempt may only free one for the feed.
    let mut feed = eventually_some("it is followed", async || store.open_feed().await.ok()).await;
    let replica = ReplicaId(Uuid::from_u128(id));
    feed.register(replica, Duration::from_secs(10)).await.expect("it is registered");
    let mut tasks = JoinSet::new();
    for task in 0..60 {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for _ in 0..5 {
                store.revision().await?;
                store.find_workspace("acme").await?;
                let mut tx = store.begin("test").await?;
                tx.put_workspace(&workspace(&format!("w-{task}"))).await?;
                drop(tx);
            }
            Ok::<_, store::StoreError>(())
        });
    }
    within("every task ends", async {
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic").expect("none fails");
        }
    })
    .await;
    feed.deregister(replica).await.expect("it is still followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_few_connections_waits_for_one_of_its_pools() {
    let database = Database::postgres().await;
    let url = database.url();
    for limit in [4, 12] {
        let (_, name) = url.rsplit_once('/').expect("a name");
        let role = format!("few_{name}_{limit}");
        let made =
            format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT {limit}; GRANT sophic TO {role}");
        raw::run(&database, &made).await;
        let store =
            store::open_existing(&location(&url.replace("sophic@", &format!("{role}@")))).await;
        let store = store.expect("it opens");
        run_load(&store, limit).await;
        store.close().await;
        raw::run(&database, &format!("DROP ROLE {role}")).await;
    }
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_with_few_connections_fails_no_request() {
    let database = Database::postgres().await;
    let settings = "pool_mode = session\ndefault_pool_size = 6\n\
                    ignore_startup_parameters = extra_float_digits,options";
    let (pooler, url) = pgbouncer(&database.url(), settings).await;
    let store = store::open_existing(&location(&url)).await.expect("it opens");
    run_load(&store, 1).await;
    store.close().await;
    drop(pooler);
    database.drop_database().await;
}
