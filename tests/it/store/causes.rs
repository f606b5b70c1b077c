//! Error texts of a store that cannot be reached: they name the cause and nothing else.

use std::net::SocketAddr;

use sophic_auth::store::{self, StoreError};
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use super::samples::workspace;
use crate::proxy::{Mode, Proxy};
use crate::stores::{Database, location};
use crate::waits::within;

fn cause(error: &StoreError) -> String {
    let passing = error.is_outage() || matches!(error, StoreError::Busy(_));
    assert!(passing, "{error:?}");
    error.cause()
}

async fn opening(url: &str) -> String {
    cause(&store::open_existing(&location(url)).await.map(drop).expect_err("it cannot be opened"))
}

#[tokio::test]
async fn a_refused_connection_an_unknown_host_and_a_silent_one_have_different_errors() {
    let refused = opening("postgres://sophic@127.0.0.1:1/auth").await;
    assert!(refused.contains("nothing listens at its address"), "{refused}");
    let nobody = opening("postgres://sophic@no-such-host.invalid/auth").await;
    assert!(nobody.contains("the name of its host cannot be resolved"), "{nobody}");
    let silent = Proxy::start("127.0.0.1:1".parse::<SocketAddr>().expect("an address")).await;
    silent.set(Mode::Stall);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    silent.redirect_to(listener.local_addr().expect("an address"));
    let silence = opening(&format!("postgres://sophic@{}/auth", silent.address)).await;
    assert!(silence.contains("in time"), "{silence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_named_in_the_error() {
    let database = Database::postgres().await;
    let store = store::open(&database.location()).await.expect("it opens");
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(store.begin("test").await.expect("there is one"));
    }
    let full = cause(&store.begin("test").await.map(drop).expect_err("there is none"));
    assert!(full.contains("all 5 connections of its pool are in use"), "{full}");
    drop(held);
    store.close().await;
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_timeout_is_named_in_the_error() {
    let database = Database::postgres().await;
    let store = store::open(&database.location()).await.expect("it opens");
    let mut other = PgConnection::connect(&database.url()).await.expect("it connects");
    let mut locking = other.begin().await.expect("it begins");
    locking.execute("LOCK TABLE workspaces").await.expect("it is locked");
    let mut tx = store.begin("test").await.expect("it begins");
    let locked = tx.put_workspace(&workspace("acme")).await.expect_err("it times out");
    let locked = cause(&locked);
    assert!(locked.contains("a lock did not become free in time"), "{locked}");
    assert!(locked.contains("55P03"), "{locked}");
    drop((tx, locking));
    store.close().await;
    database.drop_database().await;

    let database = Database::sqlite();
    let store = store::open(&database.location()).await.expect("it opens");
    let mut other = SqliteConnection::connect(&database.url()).await.expect("it opens");
    let locking = other.begin_with("BEGIN IMMEDIATE").await.expect("it begins");
    let busy = cause(&store.begin("test").await.map(drop).expect_err("it times out"));
    assert!(busy.contains("holds the file's lock"), "{busy}");
    drop(locking);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_timeout_is_named_in_the_error() {
    let database = Database::postgres().await;
    let store = store::open(&database.location()).await.expect("it opens");
    let mut other = PgConnection::connect(&database.url()).await.expect("it connects");
    let mut locking = other.begin().await.expect("it begins");
    locking.execute("LOCK TABLE workspaces").await.expect("it is locked");
    // The statement timeout applies to reads too, which wait here for a lock.
    let late = store.list_workspaces(None, 1).await.expect_err("it times out");
    let late = cause(&late);
    assert!(late.contains("a statement took too long"), "{late}");
    drop(locking);
    within("it closes", store.close()).await;
    database.drop_database().await;
}
