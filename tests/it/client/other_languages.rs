//! Clients in other languages, generated from the proto with the usual tools of each, against a real server.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::stage::{STRANGER, Stage};
use crate::python::Python;
use crate::stores::{Database, on_every_store};
use crate::waits;

on_every_store! {
    the_python_client_asks,
    a_list_of_addresses_needs_an_authority,
    the_node_client_asks,
}

fn given(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("no {variable}: run scripts/test, which sets it")).into()
}

/// Builds the command for a workspace and scopes.
type Run = dyn Fn(&str, &[&str]) -> Command + Send + Sync;

/// The example program in one language.
pub(super) struct Language {
    pub(super) name: &'static str,
    command: Box<Run>,
}

impl Language {
    pub(super) fn python() -> Self {
        let python = Python::generate();
        let command = move |workspace: &str, scopes: &[&str]| {
            let mut command = python.command();
            command.args(["examples/python/ask.py", "--workspace", workspace]);
            for scope in scopes {
                command.args(["--scope", scope]);
            }
            command
        };
        Self { name: "Python", command: Box::new(command) }
    }

    pub(super) fn node() -> Self {
        // Node looks for modules in the directory of the importing file.
        let installed = given("SOPHIC_AUTH_TEST_NODE_EXAMPLE");
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(installed, folder.path().join("node_modules")).expect("a link");
        std::fs::copy("examples/node/ask.mjs", folder.path().join("ask.mjs")).expect("a copy");
        let protos = Path::new("proto").canonicalize().expect("it is there");
        let command = move |workspace: &str, scopes: &[&str]| {
            let mut command = Command::new("node");
            command.arg(folder.path().join("ask.mjs")).arg(workspace).args(scopes);
            command.env("SOPHIC_AUTH_PROTOS", &protos);
            command
        };
        Self { name: "Node", command: Box::new(command) }
    }

    /// The program that `scripts/check-go` has built.
    fn go() -> Self {
        let program = given("SOPHIC_AUTH_TEST_GO_CLIENT");
        let command = move |workspace: &str, scopes: &[&str]| {
            let mut command = Command::new(&program);
            command.arg(workspace).args(scopes);
            command
        };
        Self { name: "Go", command: Box::new(command) }
    }

    /// Runs it with a token on standard input.
    pub(super) fn ask(
        &self,
        (url, caller_token): (&str, &str),
        token: &str,
        workspace: &str,
        scopes: &[&str],
    ) -> Output {
        run((self.command)(workspace, scopes), url, caller_token, token)
    }
}

fn run(mut command: Command, url: &str, caller_token: &str, token: &str) -> Output {
    command
        .env("SOPHIC_AUTH_ENDPOINT", url)
        .env("SOPHIC_AUTH_CALLER_TOKEN", caller_token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(token.as_bytes()).expect("it reads");
    drop(stdin);
    waits::output(child)
}

/// As `docs/python.md` says: gRPC in Python derives an invalid authority from a list of addresses, which HTTP/2 refuses
/// before the request reaches our code.
async fn a_list_of_addresses_needs_an_authority(stage: Stage) {
    let program = r#"
import os, sys, grpc
from sophic.auth.v1.auth_service_pb2 import IntrospectRequest
from sophic.auth.v1.auth_service_pb2_grpc import AuthServiceStub
address = os.environ["SOPHIC_AUTH_ENDPOINT"].split("//")[1]
for options in [], [("grpc.default_authority", "sophic-auth")]:
    channel = grpc.insecure_channel(f"ipv4:{address},{address}", options)
    metadata = [("authorization", "Bearer " + os.environ["SOPHIC_AUTH_CALLER_TOKEN"])]
    request = IntrospectRequest(token=sys.argv[1])
    try:
        print(AuthServiceStub(channel).Introspect(request, metadata=metadata, timeout=20).allowed)
    except grpc.RpcError as error:
        print(error.code().name)
"#;
    let python = Python::generate();
    let mut command = python.command();
    command.args(["-c", program, &stage.key]);
    let output = run(command, &stage.h.running.grpc_url(), &stage.caller_token, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "INTERNAL\nTrue\n", "{errors}");
}

/// Checks the answers that the clients of all languages must get.
fn assert_asks(stage: &Stage, language: &Language) {
    let url = stage.h.running.grpc_url();
    let ask = |token: &str, workspace: &str, scopes: &[&str]| {
        let output = language.ask((&url, &stage.caller_token), token, workspace, scopes);
        let errors = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no answer but {errors}"));
        (output.status.code(), answer)
    };
    let (code, answer) = ask(&stage.key, "", &["read"]);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!((&answer["allowed"], &answer["workspace"]), (&json!(true), &json!("acme")));
    assert_eq!(answer["user"], Value::Null);
    let (code, answer) = ask(&stage.pat, "acme", &["read", "capture"]);
    assert_eq!((code, &answer["user"]), (Some(0), &json!("ada")), "{answer}");
    let (code, answer) = ask(&stage.pat, "globex", &["capture"]);
    assert_eq!((code, &answer["denial"]), (Some(1), &json!("INSUFFICIENT_SCOPE")), "{answer}");
    assert_eq!(answer["http_status"], 403);
    // Without a scope, the answer says whose token it is and permits nothing.
    let (code, answer) = ask(&stage.pat, "acme", &[]);
    assert_eq!((code, &answer["user"]), (Some(1), &json!("ada")), "{answer}");
    assert_eq!((&answer["permitted"], &answer["identity_only"]), (&json!(false), &json!(true)));
    let (code, answer) = ask("nonsense", "", &["read"]);
    assert_eq!((code, &answer["denial"]), (Some(1), &json!("TOKEN_UNKNOWN")), "{answer}");
    assert!(answer["www_authenticate"].as_str().is_some_and(|text| text.contains("invalid_token")));

    let output = language.ask((&url, STRANGER), &stage.key, "", &["read"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.to_uppercase().starts_with("UNAUTHENTICATED"), "{errors}");
    assert!(errors.contains(": CALLER_UNKNOWN: "), "{errors}");
    assert!(!errors.contains("sophic_key_") && !errors.contains(STRANGER), "{errors}");
}

async fn off_the_runtime(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("it does not panic");
}

async fn the_python_client_asks(stage: Stage) {
    off_the_runtime(move || assert_asks(&stage, &Language::python())).await;
}

async fn the_node_client_asks(stage: Stage) {
    off_the_runtime(move || assert_asks(&stage, &Language::node())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "scripts/check-go installs Go and runs it"]
async fn the_go_client_asks() {
    let asks = async |stage: Stage| {
        off_the_runtime(move || assert_asks(&stage, &Language::go())).await;
    };
    crate::stores::run(Database::sqlite(), asks).await;
}

/// `buf generate` as a stranger runs it, with what `pip install buf-bin grpcio-tools` gives.
#[test]
fn buf_generates_the_code_of_our_package_and_no_other() {
    let programs = given("SOPHIC_AUTH_TEST_VENV").join("bin");
    let mut path = programs.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let folder = tempfile::tempdir().expect("a folder");
    let mut buf = Command::new(programs.join("buf"));
    buf.args(["generate", "-o"]).arg(folder.path()).env("PATH", path);
    assert!(buf.status().expect("it runs").success(), "code is generated");
    let mut made = Vec::new();
    let mut open = vec![folder.path().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { open.push(path) } else { made.push(path) }
        }
    }
    let ours = folder.path().join("gen/python/sophic/auth/v1");
    assert!(made.iter().all(|path| path.starts_with(&ours)), "{made:?}");
    let protos = std::fs::read_dir("proto/sophic/auth/v1").expect("the proto").count();
    assert_eq!(made.len(), 2 * protos, "{made:?}");
    assert!(made.contains(&ours.join("auth_service_pb2_grpc.py")), "{made:?}");
}
