//! The example gateway: its program, and the commands of the documentation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::stage::{Answer, Stage, bearer, send};
use crate::stores::on_every_store;
use crate::waits;

on_every_store! {
    the_documented_commands_work_against_the_gateway,
    a_document_captured_with_a_pat_belongs_to_its_user_and_is_listed,
    search_and_grep_stay_in_their_workspace,
    tricks_with_paths_get_nobody_past_the_gateway,
}

/// Returns the path of the example's program, which is built if needed.
fn program() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--example", "gateway"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the example builds");
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().and_then(std::path::Path::parent).expect("target/…/deps");
    folder.join("examples/gateway")
}

/// A running gateway. It ends on drop.
pub(super) struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        waits::wait_for_exit(&mut self.child);
    }
}

impl Gateway {
    pub(super) async fn start(url: &str, caller_token: &str) -> Self {
        let mut command = Command::new(program());
        command
            .args(["--listen", "127.0.0.1:0", "--output", "json"])
            .env("SOPHIC_AUTH_ENDPOINT", url)
            .env("SOPHIC_AUTH_CALLER_TOKEN", caller_token)
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let line = waits::read_line(child.id(), &mut std::io::BufReader::new(stdout));
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let url = line["gateway"].as_str().and_then(|url| url.strip_prefix("http://"));
        let address = url.and_then(|address| address.parse().ok()).expect("a URL");
        Self { child, address }
    }

    pub(super) async fn get(&self, path: &str, token: &str, workspace: &str) -> Answer {
        self.ask("GET", path, token, workspace, "").await
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: &str,
        workspace: &str,
        body: &str,
    ) -> Answer {
        let authorization = bearer(token);
        let mut headers: Vec<(&str, &[u8])> = vec![("Content-Type", b"application/json")];
        if !token.is_empty() {
            headers.push(("Authorization", &authorization));
        }
        if !workspace.is_empty() {
            headers.push(("x-sophic-workspace", workspace.as_bytes()));
        }
        send(self.address, &format!("{method} {path}"), &headers, body).await
    }
}

pub(super) const CAPTURE: &str =
    r#"{"title": "Standup", "text": "We ship the gateway on Friday."}"#;

async fn the_documented_commands_work_against_the_gateway(stage: Stage) {
    let gateway = Gateway::start(&stage.h.running.grpc_url(), &stage.caller_token).await;
    let Stage { key, pat, .. } = &stage;
    // curl -H "Authorization: Bearer $KEY" http://127.0.0.1:…/api/v1/documents
    let answer = gateway.get("/api/v1/documents", key, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["workspace"], "acme");
    assert_eq!(answer.json()["documents"].as_array().map(Vec::len), Some(3));
    assert_eq!(gateway.get("/api/v1/search?q=token", key, "").await.status, 200);
    assert_eq!(gateway.get("/api/v1/grep?pattern=%5EA%20key", key, "").await.status, 200);
    // A key does not belong to a user, so it cannot capture.
    let answer = gateway.ask("POST", "/api/ingest/cli", key, "", CAPTURE).await;
    assert_eq!(
        (answer.status, &answer.json()["denial"]),
        (403, &json!("USER_CREDENTIAL_REQUIRED"))
    );
    // A PAT works in the workspaces of its user only.
    for (workspace, status) in [("acme", 200), ("globex", 200), ("initech", 403), ("", 400)] {
        let answer = gateway.get("/api/v1/documents", pat, workspace).await;
        assert_eq!(answer.status, status, "{workspace}: {answer:?}");
    }
    assert_eq!(gateway.get("/api/v1/documents", "", "").await.status, 401);
    let bad = gateway.get("/api/v1/grep?pattern=(", key, "").await;
    assert_eq!((bad.status, bad.header("content-type")), (400, "application/problem+json"));
    assert_eq!(gateway.get("/nowhere", key, "").await.status, 404);
}

async fn a_document_captured_with_a_pat_belongs_to_its_user_and_is_listed(stage: Stage) {
    let gateway = Gateway::start(&stage.h.running.grpc_url(), &stage.caller_token).await;
    let answer = gateway.ask("POST", "/api/ingest/cli", &stage.pat, "acme", CAPTURE).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let ada = json!({"user_id": "ada", "display_name": "User ada"});
    assert_eq!(answer.json()["document"]["captured_by"], ada);
    let listed = gateway.get("/api/v1/documents", &stage.key, "").await.json();
    assert_eq!(listed["documents"][3]["title"], "Standup");
    assert_eq!(listed["documents"][3]["captured_by"], ada);
    // A viewer may not capture.
    let answer = gateway.ask("POST", "/api/ingest/cli", &stage.pat, "globex", CAPTURE).await;
    assert_eq!((answer.status, &answer.json()["denial"]), (403, &json!("INSUFFICIENT_SCOPE")));
}

async fn search_and_grep_stay_in_their_workspace(stage: Stage) {
    let gateway = Gateway::start(&stage.h.running.grpc_url(), &stage.caller_token).await;
    let answer = gateway.ask("POST", "/api/ingest/cli", &stage.pat, "acme", CAPTURE).await;
    assert_eq!(answer.status, 201);
    for (workspace, found) in [("acme", 1), ("globex", 0)] {
        let answer = gateway.get("/api/v1/search?q=FRIDAY", &stage.pat, workspace).await.json();
        assert_eq!(answer["documents"].as_array().map(Vec::len), Some(found), "{answer}");
        let answer =
            gateway.get("/api/v1/grep?pattern=on+F.*y", &stage.pat, workspace).await.json();
        assert_eq!(answer["lines"].as_array().map(Vec::len), Some(found), "{answer}");
    }
}

async fn tricks_with_paths_get_nobody_past_the_gateway(stage: Stage) {
    let gateway = Gateway::start(&stage.h.running.grpc_url(), &stage.caller_token).await;
    let paths = [
        "//api/ingest/cli",
        "/api//ingest/cli",
        "/api/v1/../ingest/cli",
        "/api/v1/%2e%2e/ingest/cli",
        "/api/v1/documents/../../ingest/cli",
        "/api/v1/documents/..%2f..%2fingest/cli",
        "/api/ingest/%63li",
        "/api/ingest/cli/",
        "/api/ingest/cli;/api/v1/documents",
        "/API/INGEST/CLI",
        "/./api/ingest/cli",
    ];
    for path in paths {
        for token in ["", stage.key.as_str(), stage.pat.as_str()] {
            let answer = gateway.ask("POST", path, token, "acme", CAPTURE).await;
            assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
        }
        let answer = gateway.get(&path.replace("ingest/cli", "v1/documents"), "", "").await;
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
    let listed = gateway.get("/api/v1/documents", &stage.key, "").await.json();
    assert_eq!(listed["documents"].as_array().map(Vec::len), Some(3), "nothing was captured");
}
