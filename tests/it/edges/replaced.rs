//! The database file disappears or is found damaged under a running server. The server stops answering and writing, and
//! reports why.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;

use super::{Remote, SERVE, page, reason};
use crate::cli::program::{Program, Serving, split};
use crate::stores::Database;
use crate::waits::eventually;

/// A store with a key, and a caller that may introspect and manage it.
struct Sample {
    p: Program,
    file: PathBuf,
    token: String,
    key: String,
}

fn sample() -> Sample {
    let p = Program { database: Arc::new(Database::sqlite()) };
    let file = p.database.file().expect("a file");
    p.run("migrate").ok();
    p.run("workspace put acme").ok();
    let words = "caller create root --permission credentials.admin --permission introspect";
    let token = p.run(&format!("{words} --output token")).word();
    let key = p.run("key create --workspace acme --name ci --scope read --output token").word();
    Sample { p, file, token, key }
}

/// Runs a server whose file is damaged until it is repaired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_repaired_is_used_again() {
    let Sample { p, file, token, key } = sample();
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut server =
        Serving::start_logging(p.command(&split(SERVE)), log.reopen().expect("it opens").into());
    let urls = server.json();
    let http = urls["http"].as_str().expect("a URL");
    let remote = Remote::connect(urls["grpc"].as_str().expect("a URL"), &token).await;
    eventually("it is ready", async || page(http, "/readyz").await == 200).await;

    let whole = std::fs::read(&file).expect("the file");
    let write = |bytes: &[u8]| {
        // Everything except the first page, written in place.
        let file = std::fs::File::options().write(true).open(&file).expect("a file");
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 4096).expect("it is written");
    };
    write(&vec![0xa5; whole.len() - 4096]);
    eventually("it is not ready", async || page(http, "/readyz").await == 503).await;
    let refused = remote.is_active(&key).await.expect_err("a damaged file is not read");
    assert_eq!((refused.code(), &*reason(&refused)), (tonic::Code::Unavailable, "STORE_LOST"));
    let said = |what: &str| std::fs::read_to_string(log.path()).expect("a log").contains(what);
    eventually("the file was checked again", async || said("is not intact yet")).await;
    assert_eq!(page(http, "/readyz").await, 503, "it stays unready while the file is damaged");

    write(&whole[4096..]);
    eventually("it is ready", async || page(http, "/readyz").await == 200).await;
    assert!(remote.is_active(&key).await.expect("an answer"));
    eventually("it is written", async || remote.make_key("later").await.is_ok()).await;
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    p.run("key list").ok();
}

/// Runs a server, does `harm` to its file, and checks that the server trusts nothing any more.
async fn check_lost(harm: impl FnOnce(&Path)) {
    let Sample { p, file, token, key } = sample();
    let copy = file.with_extension("copy");
    p.run(&format!("backup {}", copy.display())).ok();
    // Even a server that is configured to bridge outages.
    let mut server = p.start(&format!("{SERVE} --outage-grace 1h"));
    let urls = server.json();
    let http = urls["http"].as_str().expect("a URL");
    let remote = Remote::connect(urls["grpc"].as_str().expect("a URL"), &token).await;
    assert!(remote.is_active(&key).await.expect("an answer"));
    eventually("it is ready", async || page(http, "/readyz").await == 200).await;

    harm(&file);
    let refused = remote.make_key("lost").await.expect_err("the commit would be lost");
    assert_eq!((refused.code(), &*reason(&refused)), (tonic::Code::Unavailable, "STORE_LOST"));
    eventually("it stops answering", async || remote.is_active(&key).await.is_err()).await;
    eventually("it is not ready", async || page(http, "/readyz").await == 503).await;
    let refused = remote.is_active(&key).await.expect_err("it stays unavailable");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "no token is reported inactive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_file_gets_no_more_writes() {
    check_lost(|file| std::fs::remove_file(file).expect("a file")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_file_is_not_used() {
    check_lost(|file| std::fs::rename(file.with_extension("copy"), file).expect("a file")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_the_log_loses_no_acknowledged_commit() {
    check_lost(|file| std::fs::remove_file(file.with_extension("db-wal")).expect("a file")).await;
}
