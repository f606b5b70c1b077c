//! What the command line reports of an ended credential, and while it waits for a server.

use std::io::BufReader;
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::program::{Program, command, run, split};
use crate::stores::on_every_store;
use crate::waits::{self, eventually, eventually_some};

on_every_store! {
    introspect_reports_when_and_by_whom_a_credential_was_ended,
    a_key_ended_with_its_workspace_names_who_deleted_it,
    errors_are_json_with_output_json,
    a_wait_names_the_server_and_ctrl_c_reports_the_commit,
}

async fn introspect_reports_when_and_by_whom_a_credential_was_ended(p: Program) {
    p.run("workspace put acme --id w1").ok();
    let make = "key create --workspace acme --name ci --scope read --output json";
    let made = p.run(make).json();
    let (token, id) = (text(&made["token"]), text(&made["credential"]["id"]));
    p.run(&format!("key disable {id}")).ok();
    let shown = p.pipe(&token, "introspect --workspace acme").out;
    assert!(
        shown.contains("\ndisabled    since ") && shown.contains("credential.disable"),
        "{shown}"
    );
    p.run(&format!("key enable {id}")).ok();
    assert!(!p.pipe(&token, "introspect").ok().contains("since"));
    let revoked =
        p.run(&format!("key revoke {id} --reason \"left in a log\" --output json")).json();
    // A later refused call does not change who ended it.
    p.run(&format!("key enable {id}")).failed(1);
    let shown = p.pipe(&token, "introspect --workspace acme");
    let hint = text(&made["credential"]["hint"]);
    let lines = [
        format!("credential  key \"ci\" {hint}, of workspace w1"),
        format!("            {id}"),
        format!("revoked     since {}", text(&revoked["revoke_time"])),
        "because     left in a log".to_owned(),
    ];
    for line in &lines {
        assert!(shown.out.lines().any(|one| one == line), "{line}: {}", shown.out);
    }
    assert!(shown.out.contains("\nby          operator:"), "{}", shown.out);
    assert!(!shown.out.contains(&token), "{}", shown.out);
    let shown = p.pipe(&token, "introspect --output json");
    assert_eq!(shown.code, Some(1));
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    let ended = &shown["ended"];
    let shown = (&ended["credential_id"], &ended["state"], &ended["time"], &ended["reason"]);
    let expected = (
        &Value::from(id),
        &Value::from("revoked"),
        &revoked["revoke_time"],
        &Value::from("left in a log"),
    );
    assert_eq!(shown, expected);
    // The expiry is set by the creator, then by the operator who brought it forward.
    let made = p.run(&format!("{make} --expire-time 2099-01-01T00:00:00Z")).json();
    let id = text(&made["credential"]["id"]);
    p.run(&format!("key update {id} --ttl 3s")).ok();
    let shown = eventually_some("it has expired", async || {
        let shown = p.pipe(&text(&made["token"]), "introspect").out;
        shown.contains("\nexpired     since ").then_some(shown)
    })
    .await;
    assert!(shown.contains("credential.update"), "{shown}");
}

async fn a_key_ended_with_its_workspace_names_who_deleted_it(p: Program) {
    p.run("workspace put acme").ok();
    let key = p.run("key create --workspace acme --name ci --scope read --output token").word();
    p.run("workspace delete acme").ok();
    let shown = p.pipe(&key, "introspect").out;
    assert!(
        shown.contains("\nrevoked     since ") && shown.contains("\nby          operator:"),
        "{shown}"
    );
}

async fn errors_are_json_with_output_json(p: Program) {
    let error = |words: &str, code: i32| -> Value {
        let text = p.run(words).failed(code);
        assert_eq!(text.lines().count(), 1, "{text}");
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(error["error"]["exit_code"], code, "{error}");
        error["error"].clone()
    };
    p.run("workspace put acme").ok();
    let gone = error("key revoke 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --output json", 1);
    assert_eq!(gone["reason"], "CREDENTIAL_NOT_FOUND");
    let wrong =
        error("--output json key create --workspace acme --name ci --scope read --allow-ip x", 2);
    assert_eq!(wrong["reason"], "ARGUMENT_INVALID");
    assert!(text(&wrong["field_violations"][0]["field"]).contains("ip_allowlist"), "{wrong}");
    for words in ["--output=json nonsense", "--output json key revoke"] {
        assert!(error(words, 2)["message"].is_string());
    }
    let mut words = p.command(&split("key revoke"));
    words.env("SOPHIC_AUTH_OUTPUT", "json");
    assert!(run(words, "").failed(2).starts_with('{'));
}

async fn a_wait_names_the_server_and_ctrl_c_reports_the_commit(p: Program) {
    p.run("workspace put acme").ok();
    let make = "key create --workspace acme --name ci --scope read --output json";
    let id = text(&p.run(make).json()["credential"]["id"]);
    let lease = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json --lease 3s";
    let mut server = p.start(lease);
    server.json();
    // The server listens before it is registered in the store.
    let store =
        sophic_auth::store::open_existing(&p.database.location()).await.expect("the store opens");
    eventually("the server is registered in the store", async || {
        !store.list_replicas().await.expect("rows").replicas.is_empty()
    })
    .await;
    store.close().await;
    // After SIGKILL its row stays, so a revocation waits until its lease has expired.
    drop(server);
    let (revoke, line) = waits(&p, &format!("{id} --output json"));
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let said = text(&said["note"]["message"]);
    assert!(
        said.starts_with("committed; waiting until replica ") && said.contains(" pid "),
        "{line}"
    );
    kill_process(Pid::from_child(&revoke), Signal::INT).expect("the signal is sent");
    let output = waits::output(revoke);
    assert_eq!(output.status.code(), Some(3));
    let last = String::from_utf8_lossy(&output.stderr).lines().last().map(str::to_owned);
    let last: Value = serde_json::from_str(&last.expect("a line")).expect("JSON");
    let error = (&last["error"]["reason"], &last["error"]["exit_code"]);
    assert_eq!(error, (&"BARRIER_PENDING".into(), &3.into()));
    // The same command continues the wait.
    let (revoke, line) = waits(&p, &id);
    assert!(line.starts_with("nothing left to change; waiting until replica "), "{line}");
    let output = waits::output(revoke);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("revoked"));
}

/// A `key revoke` that has reported its wait, and the report.
fn waits(p: &Program, id: &str) -> (Child, String) {
    let mut words = p.command(&split(&format!("key revoke {id}")));
    let words = words.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut revoke = words.spawn().expect("the process starts");
    let mut errors: BufReader<ChildStderr> =
        BufReader::new(revoke.stderr.take().expect("its errors"));
    let line = waits::read_line(revoke.id(), &mut errors);
    revoke.stderr = Some(errors.into_inner());
    (revoke, line)
}

#[test]
fn every_flag_of_serve_has_a_fitting_heading() {
    let mut words = command();
    words.args(["serve", "--help"]);
    let help = run(words, "").ok();
    let (mut heading, mut policy) = (String::new(), Vec::new());
    for line in help.lines() {
        if !line.starts_with(' ') && line.ends_with(':') {
            line.clone_into(&mut heading);
        }
        let flag = line.trim_start().split([' ', ',']).find(|word| word.starts_with("--"));
        if let Some(flag) = flag.filter(|_| line.trim_start().starts_with('-')) {
            if heading.starts_with("Policy") {
                policy.push(flag.to_owned());
            }
            let global = ["--database-url", "--output", "--log", "--log-format", "--help"];
            let general = heading == "Options:";
            assert!(
                !general || global.contains(&flag) || flag == "--operator",
                "{flag}: {heading}"
            );
        }
    }
    let fits = |flag: &String| {
        ["-lifetime-", "-expiry-", "-keys-", "-pats-", "-overlap-"]
            .iter()
            .any(|part| flag.contains(part))
    };
    assert!(policy.len() == 8 && policy.iter().all(fits), "{policy:?}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
