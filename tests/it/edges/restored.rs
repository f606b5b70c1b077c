//! `restore`: nothing of the old store is mixed into the new one, and no process may have the database open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;
use sophic_auth::store;
use tempfile::TempDir;

use super::SERVE;
use crate::cli::program::{Program, Serving, split};
use crate::store::raw;
use crate::stores::Database;
use crate::waits::eventually;

struct Scene {
    p: Program,
    file: PathBuf,
    backups: TempDir,
}

impl Scene {
    fn new() -> Self {
        let database = Arc::new(Database::sqlite());
        let file = database.file().expect("a file");
        let backups = TempDir::new().expect("a folder");
        let p = Program { database };
        p.run("migrate").ok();
        Self { p, file, backups }
    }

    fn backup(&self) -> PathBuf {
        self.backups.path().join("backup.db")
    }

    fn restore(&self, from: &Path) -> String {
        format!("restore {}", from.display())
    }

    fn beside(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.file.parent().expect("a folder")).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Waits until the replica's row is in the store, and so in every copy of it.
async fn until_registered(p: &Program) {
    let store = store::open_existing(&p.database.location()).await.expect("it opens");
    eventually("a server is known", async || {
        !store.list_replicas().await.expect("the rows").replicas.is_empty()
    })
    .await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_brings_back_the_backup_and_nothing_else() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    let made = p.run("key create --workspace acme --name ci --scope read --output json").json();
    let (id, token) = (made["credential"]["id"].as_str().expect("an id"), &made["token"]);
    let token = token.as_str().expect("a token");
    // A server that is killed leaves a log behind, which belongs to the old file only.
    let mut server = p.start(SERVE);
    server.json();
    until_registered(p).await;
    p.run("workspace put beta").ok();
    p.run(&format!("backup {}", scene.backup().display())).ok();
    p.run("workspace put beta --disabled").ok();
    p.run(&format!("key revoke {id}")).ok();
    let later =
        p.run("key create --workspace acme --name later --scope read --output token").word();
    server.signal(Signal::KILL);
    server.end();
    assert!(scene.beside().contains(&"store.db-wal".to_owned()), "{:?}", scene.beside());

    let restored = p.run(&format!("{} --output json", scene.restore(&scene.backup())));
    assert_eq!(restored.code, Some(0), "{}", restored.err);
    assert!(
        restored.err.contains("accepted again") && restored.err.contains(id),
        "{}",
        restored.err
    );
    let answer: serde_json::Value = serde_json::from_str(&restored.out).expect("JSON");
    let ended = answer["ended_since"].as_array().expect("a list");
    let ended: Vec<_> = ended.iter().map(|event| event["action"].as_str()).collect();
    assert_eq!(ended, [Some("workspace.put"), Some("credential.revoke")], "{answer}");
    let kept = answer["kept"].as_str().expect("where the old one is");
    assert!(!scene.beside().contains(&"store.db-wal".to_owned()), "{:?}", scene.beside());
    assert!(p.pipe(token, "introspect --scope read").ok().starts_with("ALLOWED"));
    assert!(p.pipe(&later, "introspect").out.contains("TOKEN_UNKNOWN"));
    // The old store is complete, including what was only in its log.
    let mut old = p.command(&["introspect".to_owned()]);
    old.env("SOPHIC_AUTH_DATABASE_URL", format!("sqlite:{kept}"));
    let old = crate::cli::program::run(old, &later);
    assert_eq!(old.code, Some(0), "{old:?}");
    // The store has a new incarnation, and the audit log says so.
    assert!(p.run("audit list --output json").ok().contains("store.renew_epoch"));
    let mut server = p.start(SERVE);
    server.json();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redacted_event_is_the_same_event_and_its_text_is_back() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    let id = make_key(p);
    p.run("user put ada --name Lovelace").ok();
    p.run("user delete ada").ok();
    p.run(&format!("backup {}", scene.backup().display())).ok();
    p.run("audit redact-user ada").ok();
    assert!(!p.run("audit export").ok().contains("Lovelace"));
    p.run(&format!("key revoke {id}")).ok();
    let (ended, answer, said) = restored(&scene);
    assert_eq!(ended, [id], "{answer} {said}");
    assert_eq!(answer["redacted_since"], serde_json::json!(["ada"]));
    assert!(said.contains("audit redact-user"), "{said}");
    assert!(p.run("audit export").ok().contains("Lovelace"));
    p.run("audit redact-user ada").ok();
    assert!(!p.run("audit export").ok().contains("Lovelace"));
}

/// Runs `restore`, and returns the ids of what it lists as ended, its whole answer, and its remarks.
fn restored(scene: &Scene) -> (Vec<String>, serde_json::Value, String) {
    let run = scene.p.run(&format!("{} --output json", scene.restore(&scene.backup())));
    assert_eq!(run.code, Some(0), "{}", run.err);
    let answer: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
    let ended = answer["ended_since"].as_array().expect("a list").iter();
    let ended = ended.map(|event| event["target_id"].as_str().expect("an id").to_owned());
    (ended.collect(), answer, run.err)
}

fn make_key(p: &Program) -> String {
    let made = p.run("key create --workspace acme --name ci --scope read --output json").json();
    made["credential"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_after_the_backup_is_listed_whatever_the_clocks_said() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    let id = make_key(p);
    // The last events of the backup are from a machine whose clock was ahead. There are several pages of them.
    let ahead = "INSERT INTO audit_events (id, time, action, caller, target_kind, target_id) \
        WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 2500) \
        SELECT unhex(printf('ffff%028x', i)), 7258118400000000 + i, 'workspace.put', 'test', 'workspace', 'x' \
        FROM numbers";
    raw::run(&p.database, ahead).await;
    p.run(&format!("backup {}", scene.backup().display())).ok();
    // It warns of the clock.
    assert_eq!(p.run(&format!("key revoke {id}")).code, Some(0));
    let (ended, answer, said) = restored(&scene);
    assert_eq!(ended, [id], "{answer} {said}");
    assert_eq!(answer["log_purged_since"], false);
    assert!(!said.contains("Nothing in the old store"), "{said}");
    // Nothing has ended since.
    p.run(&format!("backup {}.2", scene.backup().display())).ok();
    std::fs::rename(scene.backup().with_extension("db.2"), scene.backup()).expect("a file");
    let (ended, _, said) = restored(&scene);
    assert_eq!(ended, [] as [String; 0]);
    assert!(said.contains("Nothing in the old store took access away"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_log_is_not_taken_for_a_log_without_endings() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    let id = make_key(p);
    p.run(&format!("backup {}", scene.backup().display())).ok();
    // This deletes nothing that the backup does not have.
    p.run("audit purge --older-than 400d").ok();
    let (ended, answer, said) = restored(&scene);
    assert_eq!((ended.len(), &answer["log_purged_since"]), (0, &false.into()), "{said}");
    p.run(&format!("key revoke {id}")).ok();
    p.run("audit purge --older-than 1ms").ok();
    // The second deletes the event of the first, and as many events as the backup has.
    p.run("audit purge --older-than 1ms").ok();
    let (ended, answer, said) = restored(&scene);
    assert_eq!((ended.len(), &answer["log_purged_since"]), (0, &true.into()), "{said}");
    assert!(said.contains("was purged since then"), "{said}");
    assert!(!said.contains("Nothing in the old store"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_refused_while_a_server_runs_and_changes_nothing() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    p.run(&format!("backup {}", scene.backup().display())).ok();
    p.run("workspace put later").ok();
    let mut server = p.start(SERVE);
    server.json();
    let before = scene.beside();
    let err = p.run(&scene.restore(&scene.backup())).failed(1);
    assert!(err.contains("another process has") && err.contains("stop it"), "{err}");
    assert_eq!(scene.beside(), before);
    assert!(p.run("workspace list").ok().contains("later"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_restore_keeps_the_old_database_even_within_one_second() {
    let scene = Scene::new();
    scene.p.run(&format!("backup {}", scene.backup().display())).ok();
    for _ in 0..4 {
        let restored = scene.p.run(&scene.restore(&scene.backup()));
        assert_eq!(restored.code, Some(0), "{}", restored.err);
    }
    let kept = scene.beside().iter().filter(|name| name.contains("before-restore")).count();
    assert_eq!(kept, 4, "{:?}", scene.beside());
}

/// Returns the entries of a directory.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_interrupted_leaves_nothing_behind() {
    let scene = Scene::new();
    // Enough data that the copy takes a while.
    let much = "INSERT INTO requests (requester, request_id, fingerprint, credential_id, create_time) \
        WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 20000) \
        SELECT i || hex(zeroblob(1800)), randomblob(16), zeroblob(32), zeroblob(16), 0 FROM numbers";
    raw::run(&scene.p.database, much).await;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let words = format!("backup {}", scene.backup().display());
        let log = tempfile::NamedTempFile::new().expect("a file");
        let backup = Serving::start_logging(
            scene.p.command(&split(&words)),
            log.reopen().expect("it opens").into(),
        );
        eventually("it has begun", async || {
            let begun = |path: &PathBuf| path.is_dir() && entries(path).len() > 1;
            entries(scene.backups.path()).iter().any(begun)
        })
        .await;
        backup.signal(signal);
        let code = backup.end().code();
        let said = std::fs::read_to_string(log.path()).expect("a log");
        assert_eq!(code, Some(128 + signal.as_raw()), "{said}");
        assert_eq!(entries(scene.backups.path()), [] as [PathBuf; 0], "{signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incomplete_or_foreign_backup_is_refused() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    let backup = scene.backup();
    p.run(&format!("backup {}", backup.display())).ok();
    let good = std::fs::read(&backup).expect("bytes");
    let refused = |what: &str, said: &str| {
        let code = if what == "gone" { 2 } else { 1 };
        let err = p.run(&scene.restore(&backup)).failed(code);
        assert!(err.contains(said), "{what}: {err}");
        assert_eq!(scene.beside(), ["store.db"], "{what}");
        assert!(p.run("workspace list").ok().contains("acme"), "{what}");
    };
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle..middle + 8192].fill(0xa5);
    std::fs::write(&backup, &bad).expect("a file");
    refused("damaged", "not a usable backup");
    std::fs::write(&backup, "somebody's notes, and no database. ".repeat(200)).expect("a file");
    refused("no database", "not a usable backup");
    std::fs::write(&backup, "").expect("a file");
    refused("empty", "not a store of sophic-auth");
    std::fs::write(&backup, &good).expect("a file");
    std::fs::write(backup.with_extension("db-wal"), "more").expect("a file");
    refused("unfinished", "not a finished backup");
    std::fs::remove_file(&backup).expect("a file");
    refused("gone", "there is no backup");
    let err = p.run(&scene.restore(&scene.file)).failed(2);
    assert!(err.contains("the database itself"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_store_can_be_restored() {
    let scene = Scene::new();
    let p = &scene.p;
    p.run("workspace put acme").ok();
    p.run(&format!("backup {}", scene.backup().display())).ok();
    std::fs::write(&scene.file, "no database any more".repeat(1_000)).expect("a file");
    let restored = p.run(&scene.restore(&scene.backup()));
    assert_eq!(restored.code, Some(0), "{}", restored.err);
    assert!(restored.err.contains("could not be read"), "{}", restored.err);
    assert!(p.run("workspace list").ok().contains("acme"));
    std::fs::remove_file(&scene.file).expect("a file");
    assert_eq!(p.run(&scene.restore(&scene.backup())).code, Some(0));
    assert!(p.run("workspace list").ok().contains("acme"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_names_a_log_left_beside_a_copied_file() {
    let scene = Scene::new();
    std::fs::write(&scene.file, "spoiled ".repeat(1_000)).expect("a file");
    let log = scene.file.with_extension("db-wal");
    for (text, said) in [("", false), ("of another file", true)] {
        std::fs::write(&log, text).expect("a file");
        let err = scene.p.run("workspace list").failed(1);
        assert!(err.contains("the store is lost"), "{err}");
        assert_eq!(err.contains("put the copy in place with `sophic-auth restore`"), said, "{err}");
    }
}
