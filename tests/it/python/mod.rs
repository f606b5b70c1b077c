//! The life of a credential as a service in another language sees it. `walk/` is a Python program with code generated
//! from the proto. It goes through every stage against real servers, prints each step that passed, and stops at the
//! first that fails.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::cli::program::Program;
use crate::stores::on_every_store;
use crate::waits;

on_every_store! {
    a_python_client_walks_the_life_of_a_credential,
}

/// A Python interpreter with the code generated from the proto.
pub(crate) struct Python {
    interpreter: PathBuf,
    generated: TempDir,
}

impl Python {
    /// Generates the code again, as `docs/python.md` does, with the environment that `scripts/venv` creates.
    pub(crate) fn generate() -> Self {
        let venv = std::env::var_os("SOPHIC_AUTH_TEST_VENV");
        let venv = venv.expect("no SOPHIC_AUTH_TEST_VENV: run scripts/test, which makes it");
        let interpreter = PathBuf::from(venv).join("bin/python");
        let generated = TempDir::new().expect("a folder");
        let mut protoc = Command::new(&interpreter);
        protoc.args(["-m", "grpc_tools.protoc", "-I", "proto"]);
        for kind in ["--python_out", "--grpc_python_out"] {
            protoc.arg(format!("{kind}={}", generated.path().display()));
        }
        for entry in std::fs::read_dir("proto/sophic/auth/v1").expect("the proto is there") {
            protoc.arg(entry.expect("an entry").path());
        }
        assert!(protoc.status().expect("it runs").success(), "code is generated");
        Self { interpreter, generated }
    }

    /// Returns a command for this interpreter.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.env("PYTHONPATH", self.generated.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// The servers of the walk. All write last uses with a short delay (`walk/scene.py`). The last one has a policy
/// (`walk/policy.py`).
const SERVE: &str = "serve --output json --last-use-flush 50ms \
    --listen 127.0.0.1:0 --http-listen 127.0.0.1:0";
const SERVERS: [(&str, &str); 3] = [
    ("--here", ""),
    ("--there", "--accept-imported-tokens"),
    (
        "--strict",
        "--key-lifetime-max 90d --pat-lifetime-max 30d --workspace-keys-max 4 --user-pats-max 2 \
         --overlap-min 1m --overlap-max 7d",
    ),
];

async fn a_python_client_walks_the_life_of_a_credential(p: Program) {
    let python = Python::generate();
    let mut command = python.command();
    command.arg("tests/it/python/walk");
    let mut servers = Vec::new();
    for (name, flags) in SERVERS {
        let mut server = p.start(&format!("{SERVE} {flags}"));
        command.args([name, server.json()["grpc"].as_str().expect("a URL")]);
        servers.push(server);
    }
    command.args(["--program", env!("CARGO_BIN_EXE_sophic-auth")]);
    command.args(["--database-url", &p.database.url()]);
    let walk = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Each step has its own time limit.
    let output = waits::test_output(walk.spawn().expect("it runs"));
    let steps = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    eprint!("{steps}{errors}");
    assert!(output.status.success(), "{}: its last steps are above", output.status);
    assert!(
        steps.lines().filter(|line| line.starts_with("ok ")).count() >= 60,
        "steps are missing"
    );
}
