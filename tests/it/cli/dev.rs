//! `dev`: a server with demo data, and printed commands that work.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;

use super::program::{Program, Serving, command, run, split};
use crate::store::raw;
use crate::stores::{Database, on_every_store};
use crate::waits;

on_every_store! {
    dev_prints_one_line_of_json,
    dev_can_be_restarted_on_the_same_store,
    dev_refuses_a_store_that_it_did_not_create,
    dev_does_not_migrate_an_older_store,
}

/// `dev` on the store of `p`, given by the flag.
const DEV: &str = "dev --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";

fn on(p: &Program) -> std::process::Command {
    let mut words = command();
    words.args(split(DEV)).args(["--database-url", &p.database.url()]);
    words
}

/// Everything that the command line lists of a store.
fn everything_listed(p: &Program) -> String {
    let lists = [
        "workspace list",
        "user list",
        "caller list",
        "credentials list",
        "audit list --limit 1000",
    ];
    lists.map(|list| p.run(&format!("{list} --output json")).out).concat()
}

async fn dev_refuses_a_store_that_it_did_not_create(p: Program) {
    // Each object alone makes dev refuse the store, even with the names that dev uses.
    let mine = [
        "caller create dev --permission introspect",
        "workspace put demo --name \"Ours\"",
        "user put ada --name \"Our Ada\" --disabled",
    ];
    for words in mine {
        p.run(words).ok();
        let before = everything_listed(&p);
        let error = run(on(&p), "").failed(2);
        assert!(error.contains("neither") && error.contains("--database-url"), "{error}");
        assert_eq!(everything_listed(&p), before, "nothing is changed");
    }
    // The variable usually names a production store, so dev ignores it.
    let before = everything_listed(&p);
    let mut words = p.command(&split(DEV));
    words.env("TMPDIR", std::env::temp_dir());
    let mut dev = Serving::start(words);
    let key = dev.json()["key"].as_str().expect("a key").to_owned();
    assert_eq!(p.pipe(&key, "introspect").code, Some(1));
    dev.signal(Signal::INT);
    assert_eq!(dev.end().code(), Some(0));
    assert_eq!(everything_listed(&p), before, "nothing is changed");
}

async fn dev_does_not_migrate_an_older_store(p: Program) {
    let mut dev = Serving::start(on(&p));
    dev.json();
    dev.signal(Signal::TERM);
    assert_eq!(dev.end().code(), Some(0));
    raw::run(&p.database, "DELETE FROM _sqlx_migrations WHERE version > 13").await;
    assert!(run(on(&p), "").failed(1).contains("run `sophic-auth migrate`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_refuses_a_database_with_tables_of_other_programs() {
    let p = Program { database: Arc::new(Database::empty_postgres().await) };
    raw::run(&p.database, "CREATE TABLE customers (id int); CREATE SCHEMA own").await;
    let error = run(on(&p), "").failed(2);
    assert!(error.contains("public.customers") && error.contains("--database-url"), "{error}");
    raw::try_run(&p.database, "SELECT 1 FROM credentials").await.expect_err("the command fails");
    let mut own = command();
    let url = format!("{}?options=-c%20search_path%3Down", p.database.url());
    own.args(split(DEV)).args(["--database-url", &url]);
    let mut dev = Serving::start(own);
    dev.json();
    dev.signal(Signal::TERM);
    assert_eq!(dev.end().code(), Some(0));
    // An empty store, and one that dev has created.
    raw::run(&p.database, "DROP TABLE customers; DROP SCHEMA own CASCADE").await;
    for _ in 0..2 {
        let mut dev = Serving::start(on(&p));
        dev.json();
        dev.signal(Signal::TERM);
        assert_eq!(dev.end().code(), Some(0));
    }
    p.database.drop_database().await;
}

const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];

async fn dev_prints_one_line_of_json(p: Program) {
    let mut dev = Serving::start(on(&p));
    let line = dev.json();
    let keys: Vec<_> = line.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["grpc", "http", "workspace", "user", "caller_token", "key", "pat"]);
    assert_eq!((&line["workspace"], &line["user"]), (&"demo".into(), &"ada".into()));
    let token = |name: &str| line[name].as_str().expect("a token").to_owned();
    let read = "introspect --workspace demo --scope read";
    p.pipe(&token("key"), read).ok();
    p.pipe(&token("pat"), "introspect --workspace demo --scope read --scope capture").ok();
    assert_eq!(p.pipe(&token("key"), "introspect --workspace demo --scope capture").code, Some(1));
    dev.signal(Signal::INT);
    assert_eq!(dev.end().code(), Some(0));
}

async fn dev_can_be_restarted_on_the_same_store(p: Program) {
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut dev = Serving::start(on(&p));
        keys.push(dev.json()["key"].as_str().expect("a key").to_owned());
        // SIGHUP, as when its terminal is closed.
        dev.signal(Signal::HUP);
        assert_eq!(dev.end().code(), Some(0));
    }
    // In a given store, the demo data stays.
    for key in keys {
        p.pipe(&key, "introspect --workspace demo --scope read").ok();
    }
    // dev still accepts the store after other changes, and after the demo workspace was deleted.
    p.run("workspace put acme").ok();
    p.run("workspace delete demo").ok();
    let mut dev = Serving::start(on(&p));
    let key = dev.json()["key"].as_str().expect("a key").to_owned();
    p.pipe(&key, "introspect --workspace demo --scope read").ok();
    dev.signal(Signal::TERM);
    assert_eq!(dev.end().code(), Some(0));
}

/// `dev` without a given store. Its directory for temporary files is checked afterwards.
fn dev(folder: &std::path::Path) -> (Serving, Vec<String>) {
    let mut words = command();
    words.arg("dev").args(PORTS).env("TMPDIR", folder).current_dir(folder);
    let mut dev = Serving::start(words);
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.contains("key revoke")) {
        let line = dev.line();
        assert!(!line.is_empty(), "it ended: {lines:?}");
        lines.push(line.trim_end().to_owned());
    }
    (dev, lines)
}

/// Runs a printed line in a shell.
fn paste(line: &str) -> (Option<i32>, String) {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(venv) = std::env::var_os("SOPHIC_AUTH_TEST_VENV") {
        let mut first = std::path::PathBuf::from(venv).join("bin").into_os_string();
        first.push(":");
        first.push(path);
        path = first;
    }
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(line).env("PATH", path).stdin(Stdio::null());
    let bash = bash.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bash");
    let output = waits::output(bash);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text + &errors)
}

#[test]
fn the_printed_commands_work_when_pasted() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let (dev, lines) = dev(folder.path());
    let command = |start: &str| {
        let found = lines.iter().map(|line| line.trim()).find(|line| line.contains(start));
        found.unwrap_or_else(|| panic!("{start}: {lines:?}"))
    };
    // grpcurl may not be installed, so the test sends the same request itself.
    let grpcurl = command("grpcurl -plaintext");
    let shape = regex_like(grpcurl);
    assert_eq!(
        shape,
        "grpcurl -plaintext -H 'authorization: Bearer …' -d '{…}' ADDRESS sophic.auth.v1.AuthService/Introspect"
    );
    // The default port of the gateway may be taken.
    let gateway = command("--example gateway").rsplit(' ').next().expect("an address");
    let mut help = super::program::command();
    help.args(["serve", "--help"]);
    let help = run(help, "").ok();
    assert!(help.contains("127.0.0.1:8080") && !help.contains(gateway), "{gateway}: {help}");
    for curl in lines.iter().filter(|line| line.trim().starts_with("curl ")) {
        assert!(curl.contains(&format!("http://{gateway}/")), "{curl}");
    }
    let venv = std::env::var_os("SOPHIC_AUTH_TEST_VENV");
    assert!(venv.is_some(), "run scripts/test, which sets SOPHIC_AUTH_TEST_VENV");
    let (code, text) = paste(command("buf curl"));
    assert_eq!(code, Some(0), "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&answer["allowed"], &answer["user"]["id"]), (&true.into(), &"ada".into()));
    let (code, text) = paste(command("introspect --workspace"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("USER_CREDENTIAL_REQUIRED"), "{text}");
    let (code, text) = paste(command("key revoke -"));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = paste(command("introspect --workspace"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("TOKEN_REVOKED"), "{text}");
    dev.signal(Signal::INT);
    assert_eq!(dev.end().code(), Some(0));
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "the temporary store is deleted");
}

#[test]
fn the_help_of_dev_names_its_store_and_what_becomes_of_it() {
    let mut help = super::program::command();
    help.args(["dev", "--help"]);
    let help = run(help, "").ok();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "The store is temporary and deleted at the end, unless --database-url names one",
        "for dev a temporary store",
    ] {
        assert!(help.contains(said), "{said}: {help}");
    }
}

/// The line without the parts that change from run to run.
fn regex_like(line: &str) -> String {
    let mut parts: Vec<String> = line.split('\'').map(str::to_owned).collect();
    assert_eq!(parts.len(), 5, "{line}");
    let (head, token) = parts[1].split_at("authorization: Bearer ".len());
    assert!(sophic_auth::token::TokenKind::parse(token).is_some());
    parts[1] = format!("{head}…");
    let request: serde_json::Value = serde_json::from_str(&parts[3]).expect("JSON");
    assert_eq!(
        (&request["workspace"], &request["required_scopes"][0]),
        (&"demo".into(), &"SCOPE_READ".into())
    );
    "{…}".clone_into(&mut parts[3]);
    let address = parts[4].split_whitespace().next().expect("an address").to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    parts[4] = parts[4].replace(&address, "ADDRESS");
    parts.join("'")
}
