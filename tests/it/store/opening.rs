//! Opening, pinging and closing a store, and URLs that lead nowhere.

use sophic_auth::store::{self, Location, StoreError};

use super::samples::{workspace, write};
use crate::stores::{Database, TestStore, cluster_url, location, on_every_store};

on_every_store! {
    a_new_store_starts_at_revision_zero,
    written_data_is_there_after_reopening,
    a_second_store_on_the_same_database_sees_the_same,
    a_closed_store_is_unavailable,
}

async fn a_new_store_starts_at_revision_zero(store: TestStore) {
    store.ping().await.expect("it answers");
    assert_eq!(store.revision().await.expect("a revision").0, 0);
}

async fn written_data_is_there_after_reopening(store: TestStore) {
    let acme = workspace("acme");
    let revision = write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put"));
    let revision = revision.await;
    store.close().await;
    let again = store::open(&store.database.location()).await.expect("it opens again");
    assert_eq!(again.find_workspace("acme").await.expect("a read"), Some(acme));
    assert_eq!(again.revision().await.expect("a revision"), revision);
    again.close().await;
}

async fn a_second_store_on_the_same_database_sees_the_same(store: TestStore) {
    let second = store::open_existing(&store.database.location()).await.expect("it opens");
    let acme = workspace("acme");
    write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
    assert_eq!(second.find_workspace("acme").await.expect("a read"), Some(acme.clone()));
    let renamed = sophic_auth::model::Workspace { slug: super::samples::slug("other"), ..acme };
    write(&*second, async |tx| tx.put_workspace(&renamed).await.expect("it is put")).await;
    assert_eq!(store.find_workspace("acme").await.expect("a read"), None);
    assert_eq!(store.find_workspace("other").await.expect("a read"), Some(renamed));
    second.close().await;
}

async fn a_closed_store_is_unavailable(store: TestStore) {
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.find_workspace("acme").await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.begin("test").await.map(drop), Err(StoreError::Unavailable(_))));
}

async fn refusal(url: &str) -> StoreError {
    let opened = match Location::parse(url) {
        Ok(location) => store::open(&location).await.map(drop),
        Err(error) => Err(error),
    };
    opened.expect_err("it cannot be opened")
}

#[tokio::test]
async fn a_bad_url_is_refused_without_repeating_it() {
    let unusable = [
        "",
        "acme.db",
        "mysql://user:hunter2@localhost/auth",
        "sqlite:",
        "sqlite::memory:",
        "sqlite:/tmp/a.db?mode=hunter2",
        "postgres://user:hunter2@localhost/auth?passwort=hunter2",
        "postgres://user:hunter2@localhost:notaport/auth",
    ];
    for url in unusable {
        let error = refusal(url).await;
        assert!(matches!(error, StoreError::InvalidLocation(_)), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable() {
    // Nothing listens on port 1.
    let error = refusal("postgres://user:hunter2@127.0.0.1:1/auth").await;
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_missing_database_or_role_is_named_in_the_error() {
    let url = cluster_url().replace("/postgres", "/nosuchdatabase");
    let error = refusal(&url).await;
    assert!(
        matches!(&error, StoreError::InvalidLocation(text) if text.contains("nosuchdatabase")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let database = Database::postgres_with("ENCODING 'SQL_ASCII' TEMPLATE template0").await;
    let error = refusal(&database.url()).await;
    assert!(matches!(&error, StoreError::Unusable(text) if text.contains("UTF8")), "{error:?}");
    database.drop_database().await;
}

#[tokio::test]
async fn a_database_that_may_lose_commits_is_refused() {
    let database = Database::empty_postgres().await;
    let url = format!("{}?options=-c%20synchronous_commit%3Doff", database.url());
    let error = refusal(&url).await;
    assert!(
        matches!(&error, StoreError::Unusable(text) if text.contains("synchronous_commit")),
        "{error:?}"
    );
    database.drop_database().await;
}

/// This test has no pooler. With such a URL the store only uses features that a transaction-mode pooler supports.
#[tokio::test]
async fn a_store_behind_a_pooler_reads_and_writes() {
    let database = Database::postgres().await;
    let store = store::open(&location(&format!("{}?pgbouncer=true", database.url())))
        .await
        .expect("it opens");
    let acme = workspace("acme");
    write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
    assert_eq!(store.find_workspace("acme").await.expect("a read"), Some(acme));
    store.ping().await.expect("it answers");
    store.close().await;
    database.drop_database().await;
}
