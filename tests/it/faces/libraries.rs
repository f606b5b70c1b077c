//! Third-party OAuth client libraries, with the programs of `docs/oauth.md`.

use tempfile::TempDir;
use tokio::process::Command;

use super::page::block;
use super::process::{node_modules, program, venv};
use super::scene::Scene;
use crate::stores::on_every_store;
use crate::waits::within;
use sophic_auth::grpc::pb::Scope;

on_every_store! {
    a_python_library_introspects_and_revokes,
    a_node_library_introspects_and_revokes,
}

async fn run(mut command: Command, scene: &Scene, token: &str) -> String {
    command
        .env("SOPHIC_AUTH_HTTP", scene.h.running.http_url())
        .env("CLIENT_ID", "proxy")
        .env("CLIENT_SECRET", &scene.caller_token)
        .env("TOKEN", token);
    let output = within("it ends", command.output()).await.expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn a_python_library_introspects_and_revokes(scene: Scene) {
    let key = scene.key(&[Scope::Read]).await;
    let folder = TempDir::new().expect("a folder for temporary files");
    let file = folder.path().join("oauth.py");
    std::fs::write(&file, block("oauth.md", "python")).expect("the program is written");
    let mut command = Command::new(venv().join("bin/python"));
    command.arg(&file);
    let printed = run(command, &scene, &key).await;
    assert_eq!(printed, "True read workspace:id-of-acme\n{'active': False}\n");
}

async fn a_node_library_introspects_and_revokes(scene: Scene) {
    let pat = scene.pat(&[Scope::Read, Scope::Capture]).await;
    let folder = TempDir::new().expect("a folder for temporary files");
    std::os::unix::fs::symlink(node_modules(), folder.path().join("node_modules"))
        .expect("the modules are linked");
    let file = folder.path().join("oauth.mjs");
    std::fs::write(&file, block("oauth.md", "js")).expect("the program is written");
    let mut command = Command::new(program("node", &["/usr/bin", "/usr/local/bin"]));
    command.arg(&file).current_dir(folder.path());
    let printed = run(command, &scene, &pat).await;
    assert_eq!(printed, "true true read capture user:ada\n{\"active\":false}\n");
}
