//! `dev`: everything at once, and commands that work when they are pasted.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;

use super::program::{Program, Serving, command, run, split};
use crate::store::raw;
use crate::stores::{Database, on_every_store};
use crate::waits;

on_every_store! {
    one_line_of_json_says_all_there_is,
    it_can_be_started_again_on_the_same_store,
    it_writes_to_no_store_that_is_anothers,
    an_older_store_is_not_migrated_by_it,
}

/// On the store that it is told of, by the flag.
const DEV: &str = "dev --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";

fn on(p: &Program) -> std::process::Command {
    let mut words = command();
    words.args(split(DEV)).args(["--database-url", &p.database.url()]);
    words
}

/// All that the command line can tell of a store.
fn told(p: &Program) -> String {
    let lists = [
        "workspace list",
        "user list",
        "caller list",
        "credentials list",
        "audit list --limit 1000",
    ];
    lists.map(|list| p.run(&format!("{list} --output json")).out).concat()
}

async fn it_writes_to_no_store_that_is_anothers(p: Program) {
    // Each alone makes it somebody's; the names are those that dev would take.
    let mine = [
        "caller create dev --permission introspect",
        "workspace put demo --name \"Ours\"",
        "user put ada --name \"Our Ada\" --disabled",
    ];
    for words in mine {
        p.run(words).ok();
        let before = told(&p);
        let error = run(on(&p), "").failed(2);
        assert!(error.contains("neither") && error.contains("--database-url"), "{error}");
        assert_eq!(told(&p), before, "nothing is changed");
    }
    // The variable names the operators' store, and is no word for dev.
    let before = told(&p);
    let mut words = p.command(&split(DEV));
    words.env("TMPDIR", std::env::temp_dir());
    let mut dev = Serving::start(words);
    let key = dev.json()["key"].as_str().expect("a key").to_owned();
    assert_eq!(p.pipe(&key, "introspect").code, Some(1));
    dev.signal(Signal::INT);
    assert_eq!(dev.end().code(), Some(0));
    assert_eq!(told(&p), before, "nothing is changed");
}

async fn an_older_store_is_not_migrated_by_it(p: Program) {
    let mut dev = Serving::start(on(&p));
    dev.json();
    dev.signal(Signal::TERM);
    assert_eq!(dev.end().code(), Some(0));
    raw::run(&p.database, "DELETE FROM _sqlx_migrations WHERE version > 13").await;
    assert!(run(on(&p), "").failed(1).contains("run `sophic-auth migrate`"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_writes_to_no_database_that_has_other_programs_tables() {
    let p = Program { database: Arc::new(Database::empty_postgres().await) };
    raw::run(&p.database, "CREATE TABLE customers (id int); CREATE SCHEMA own").await;
    let error = run(on(&p), "").failed(2);
    assert!(error.contains("public.customers") && error.contains("--database-url"), "{error}");
    raw::try_run(&p.database, "SELECT 1 FROM credentials").await.expect_err("nothing is made");
    let mut own = command();
    let url = format!("{}?options=-c%20search_path%3Down", p.database.url());
    own.args(split(DEV)).args(["--database-url", &url]);
    let mut dev = Serving::start(own);
    dev.json();
    dev.signal(Signal::TERM);
    assert_eq!(dev.end().code(), Some(0));
    // One that is empty, and that dev has made.
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

async fn one_line_of_json_says_all_there_is(p: Program) {
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

async fn it_can_be_started_again_on_the_same_store(p: Program) {
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut dev = Serving::start(on(&p));
        keys.push(dev.json()["key"].as_str().expect("a key").to_owned());
        // Its terminal is closed.
        dev.signal(Signal::HUP);
        assert_eq!(dev.end().code(), Some(0));
    }
    // On a store that was named, what was made stays.
    for key in keys {
        p.pipe(&key, "introspect --workspace demo --scope read").ok();
    }
    // So it does where somebody goes on with it, and where the demo workspace is deleted.
    p.run("workspace put acme").ok();
    p.run("workspace delete demo").ok();
    let mut dev = Serving::start(on(&p));
    let key = dev.json()["key"].as_str().expect("a key").to_owned();
    p.pipe(&key, "introspect --workspace demo --scope read").ok();
    dev.signal(Signal::TERM);
    assert_eq!(dev.end().code(), Some(0));
}

/// `dev` without a store of its own, in a folder for temporary files that is looked at afterwards.
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

/// Runs a line as a person pastes it into another terminal.
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
    // grpcurl may not be here; its line is the same request in its own words.
    let grpcurl = command("grpcurl -plaintext");
    let shape = regex_like(grpcurl);
    assert_eq!(
        shape,
        "grpcurl -plaintext -H 'authorization: Bearer …' -d '{…}' ADDRESS sophic.auth.v1.AuthService/Introspect"
    );
    // The service's own ports are taken, whoever pastes this.
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
    assert_eq!(left, 0, "the store was thrown away");
}

/// The line with what changes from run to run left out.
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
