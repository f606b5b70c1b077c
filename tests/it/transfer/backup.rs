//! Backups of SQLite, and the new epoch after a restore.

use std::sync::Arc;

use sophic_auth::service::TransferFormat;
use sophic_auth::store::{self, AuditFilter};

use super::program::{run, text};
use super::{Over, keys, legacy};
use crate::stores::{Database, Fixture as _, on_every_store};

on_every_store! {
    a_new_epoch_is_set_and_recorded,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_during_writes_is_consistent() {
    use std::os::unix::fs::PermissionsExt as _;
    let over = Over::set_up(Arc::new(Database::sqlite())).await;
    over.import_csv(&keys(0..1_200)).await;
    let exported = over.export(TransferFormat::Csv).await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("copy.db");
    let path_text = path.to_str().expect("UTF-8");
    // The store is open here, and its write-ahead log holds the last commits.
    let done = run(&over.database, &["--output", "json", "backup", path_text], "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(std::fs::metadata(&path).expect("it").permissions().mode() & 0o777, 0o600);
    over.import_csv(&keys(5_000..5_001)).await;

    let copy = std::fs::read(&path).expect("bytes");
    let refused = run(&over.database, &["backup", path_text], "");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("already exists and is not overwritten"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(std::fs::read(&path).expect("bytes"), copy);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);

    let copied = store::Location::Sqlite(path.clone());
    let restored = store::open(&copied).await.expect("the copy opens");
    let filter = store::ExportFilter::default();
    let found = restored.export_credentials(&filter, None, 10_000).await.expect("an export");
    restored.close().await;
    assert_eq!(found.len(), 1_200);
    assert_eq!(exported.lines().count(), 1_201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_raw_token_is_on_the_disk_after_an_import() {
    let over = Over::set_up(Arc::new(Database::sqlite())).await;
    over.import_csv(&keys(0..50)).await;
    let file = over.database.file().expect("a file");
    for name in ["", "-wal", "-shm"] {
        let bytes = std::fs::read(format!("{}{name}", file.display())).expect("bytes");
        let secret = &legacy(7).into_bytes()[7..];
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "in store.db{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_postgres_is_refused() {
    let over = Over::set_up(Arc::new(Database::postgres().await)).await;
    let done = run(&over.database, &["backup", "/tmp/never-written.db"], "");
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("pg_dump"));
    store::backup(&over.database.location(), "/tmp/never-written.db".as_ref())
        .await
        .expect_err("the store refuses it too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_missing_store_creates_nothing() {
    let database = Database::sqlite();
    let folder = tempfile::TempDir::new().expect("a folder");
    let to = folder.path().join("copy.db");
    let done = run(&database, &["backup", to.to_str().expect("UTF-8")], "");
    assert_eq!(done.status.code(), Some(2));
    assert!(!to.exists() && !database.file().expect("a file").exists());
}

async fn a_new_epoch_is_set_and_recorded(over: Over) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let done = run(&over.database, &["--output", "json", "new-epoch"], "");
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        assert!(seen.insert(text(&done.stdout)), "each differs");
    }
    let events = over
        .database
        .open()
        .await
        .list_audit_events(&AuditFilter::default(), None, 100)
        .await
        .expect("events");
    assert_eq!(events.iter().filter(|event| event.action == "store.renew_epoch").count(), 2);
}
