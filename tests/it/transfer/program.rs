//! The program: files, standard input, exit codes, and a running server.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use sophic_auth::grpc::pb::{Denial, LeakedToken, RevokeLeakedRequest, Scope};

use super::{keys, legacy};
use crate::faces::wire::Call;
use crate::harness::Harness;
use crate::stores::{Database, on_every_store};
use crate::waits::{self, eventually_some};

on_every_store! {
    legacy_tokens_are_known_to_a_running_server_once_they_are_imported,
    a_server_looks_up_imported_tokens_only_if_configured,
    a_token_of_any_shape_is_revoked_by_its_text_whatever_introspection_accepts,
    exit_codes_and_reports_suit_scripts,
    an_exported_file_is_private_and_never_overwrites,
}

/// Runs the program on this database.
pub(super) fn run(database: &Database, args: &[&str], input: &str) -> Output {
    let mut child = command(database, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input");
    // The program does not read its input if it refuses the arguments.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    waits::output(child)
}

pub(super) fn command(database: &Database, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sophic-auth"));
    command.args(args).env("SOPHIC_AUTH_DATABASE_URL", database.url()).env("USER", "tester");
    command
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn served(harness: &Harness) -> Harness {
    harness.root().await.put_workspace("acme").await;
    harness.another(|config| config.options.accept_imported_tokens = true).await
}

async fn legacy_tokens_are_known_to_a_running_server_once_they_are_imported(harness: Harness) {
    let server = served(&harness).await;
    let gateway = server.caller("proxy", &[sophic_auth::model::Permission::Introspect]).await;
    let before = gateway.introspect(&legacy(1), "", &[Scope::Read]).await;
    assert!(!before.active, "it is unknown, and the cache remembers that");
    let done = run(&harness.database, &["import", "--format", "csv", "-"], &keys(0..5));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    // Widening changes do not wait for replicas. The server applies this one a moment later.
    let after = eventually_some("the imported token is known", async || {
        let after = gateway.introspect(&legacy(1), "", &[Scope::Read]).await;
        after.active.then_some(after)
    })
    .await;
    assert!(after.allowed);
    assert_eq!(after.workspace.map(|workspace| workspace.slug), Some("acme".to_owned()));
    let known = run(&harness.database, &["introspect", "--accept-imported-tokens"], &legacy(1));
    assert_eq!(known.status.code(), Some(0), "{}", text(&known.stdout));
    let revoke = ["key", "revoke", "-"];
    let revoked = run(&harness.database, &revoke, &legacy(1));
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    let dead = gateway.introspect(&legacy(1), "", &[Scope::Read]).await;
    assert_eq!(dead.denial(), Denial::TokenRevoked);
}

async fn a_server_looks_up_imported_tokens_only_if_configured(harness: Harness) {
    harness.root().await.put_workspace("acme").await;
    let done = run(&harness.database, &["import", "--format", "csv", "-"], &keys(0..5));
    assert_eq!(done.status.code(), Some(0));
    let answer = harness.gateway().await.introspect(&legacy(1), "", &[Scope::Read]).await;
    assert_eq!(answer.denial(), Denial::TokenUnknown);
    let refused = run(&harness.database, &["introspect"], &legacy(1));
    assert_eq!(refused.status.code(), Some(1));
}

async fn a_token_of_any_shape_is_revoked_by_its_text_whatever_introspection_accepts(
    harness: Harness,
) {
    let lenient = served(&harness).await;
    let root = harness.caller("security", &sophic_auth::model::Permission::ALL).await;
    let almost_ours = "sophic_legacy_5f2c9a71d03b4e86";
    let digest = sophic_auth::model::Digest::of(almost_ours).to_hex();
    let import = ["import", "--format", "csv", "-"];
    assert_eq!(run(&harness.database, &import, &keys(0..5)).status.code(), Some(0));
    let by_digest = format!("workspace,name,scopes,digest\nacme,almost,read,{digest}\n");
    assert_eq!(run(&harness.database, &import, &by_digest).status.code(), Some(0));
    // Each through a server or command that does not accept imported tokens.
    assert!(root.revoke_token(&legacy(0)).await.effective_time.is_some());
    assert!(root.revoke_token(almost_ours).await.effective_time.is_some());
    let tokens = vec![LeakedToken { token: legacy(1), ..Default::default() }];
    let leaked = root.auth().revoke_leaked(RevokeLeakedRequest { tokens }).await;
    assert!(leaked.expect("an answer").into_inner().results[0].revoked_now);
    let form = Call::form("/oauth2/revoke", &[("token", &legacy(2))]);
    let form = form.header("authorization", &root.authorization().expect("a token"));
    assert_eq!(form.send(harness.running.http).await.status, 200);
    let revoked = run(&harness.database, &["key", "revoke", "-"], &legacy(3));
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    let leaked = run(&harness.database, &["leaked"], &legacy(4));
    assert_eq!(leaked.status.code(), Some(0), "{}", text(&leaked.stderr));
    for n in 0..5 {
        let dead = root.via(&lenient).introspect(&legacy(n), "", &[]).await;
        assert_eq!(dead.denial(), Denial::TokenRevoked, "{n}");
    }
    lenient.running.stop().await;
}

async fn exit_codes_and_reports_suit_scripts(harness: Harness) {
    let database = &harness.database;
    harness.root().await.put_workspace("acme").await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("legacy.csv");
    std::fs::write(&path, format!("{}nowhere,n,read,{}\n", keys(0..3), legacy(9)))
        .expect("written");
    let path = path.to_str().expect("UTF-8");

    let dry = run(database, &["--output", "json", "import", "--dry-run", path], "");
    assert_eq!(dry.status.code(), Some(1));
    assert!(text(&dry.stdout).contains(r#""written":0"#), "{}", text(&dry.stdout));
    let nothing = run(database, &["--output", "json", "import", "--all-or-nothing", path], "");
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stdout).contains(r#""written":0"#), "{}", text(&nothing.stdout));
    let some = run(database, &["--output", "json", "import", path], "");
    assert_eq!(some.status.code(), Some(1));
    assert!(
        text(&some.stderr)
            .starts_with(r#"{"note":{"line":5,"message":"line 5: workspace: there is none"#),
        "{}",
        text(&some.stderr)
    );
    assert!(text(&some.stdout).contains(r#""lines":4,"written":3,"already_there":0,"bad":1"#));
    for output in [&dry, &nothing, &some] {
        assert!(!(text(&output.stdout) + &text(&output.stderr)).contains("5f2c9a71d03b4e86"));
    }
    let again = run(database, &["--output", "json", "import", "--format", "csv", "-"], &keys(0..3));
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stdout).contains(r#""already_there":3"#), "{}", text(&again.stdout));

    let import = ["import", "--format", "csv", "-"];
    let nothing = run(database, &import, "workspace,name,scopes,token\n");
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).contains("no records"), "{}", text(&nothing.stderr));
    let semicolons = run(database, &import, &keys(0..1).replace(',', ";"));
    assert_eq!(semicolons.status.code(), Some(1));
    assert!(text(&semicolons.stderr).contains("semicolons"), "{}", text(&semicolons.stderr));
    let marked = format!("\u{feff}{}", keys(0..1).replace('\n', "\r\n"));
    assert_eq!(run(database, &import, &marked).status.code(), Some(0), "of Windows");
    assert_eq!(run(database, &["import", "-"], "").status.code(), Some(2), "the format is unknown");
    let missing = run(database, &["import", "/nowhere/legacy.csv"], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("/nowhere/legacy.csv"));
    let help = run(database, &["import", "--help"], "");
    let help = text(&help.stdout);
    assert!(help.contains("predecessor_id"), "the format is in the help");
    assert!(help.contains("neither the server's policy nor a workspace's"), "{help}");
    let help = text(&run(database, &["export", "--help"], "").stdout);
    assert!(help.contains("deleted"), "what is left out is in the help: {help}");
}

async fn an_exported_file_is_private_and_never_overwrites(harness: Harness) {
    use std::os::unix::fs::PermissionsExt as _;
    let database = &harness.database;
    harness.root().await.put_workspace("acme").await;
    run(database, &["import", "--format", "csv", "-"], &keys(0..3));
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("all.csv");
    let path_text = path.to_str().expect("UTF-8");
    let done = run(database, &["export", "--workspace", "acme", path_text], "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let written = std::fs::read_to_string(&path).expect("text");
    assert_eq!(written.lines().count(), 4);
    assert_eq!(run(database, &["export", path_text], "").status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&path).expect("text"), written);
    let stdout = run(database, &["export", "--format", "csv"], "");
    assert_eq!(text(&stdout.stdout), written);
    assert_eq!(run(database, &["export", "--user", "nobody"], "").status.code(), Some(1));
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
}
