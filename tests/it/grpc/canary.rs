//! A raw token is sent once, in the response that creates it, and is found nowhere else: not in logs at `trace`, not in
//! errors, not in the files or the write-ahead log of the database.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sophic_auth::grpc::pb::{
    ExplainRequest, GetCredentialRequest, IntrospectRequest, RevokeRequest, Role, Scope,
    explain_request, revoke_request,
};
use sophic_auth::server::{self, Config};
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::faces::wire::Call;
use crate::harness::Harness;
use crate::stores::{Database, location, on_every_store};
use crate::waits;

on_every_store! {
    no_token_is_found_in_logs_errors_or_database_files,
}

/// Text that is logged on purpose, to prove that the search works.
const PLAIN: &str = "canary-that-is-no-secret";

async fn no_token_is_found_in_logs_errors_or_database_files(h: Harness) {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let log = folder.path().join("log");
    let (first, mut serving) = serve(&h, &log);
    let grpc = first["grpc"].as_str().expect("an address").to_owned();
    let channel = tonic::transport::Channel::from_shared(grpc).expect("a URL");
    let channel = channel.connect().await.expect("it accepts");
    let root = h.root().await.via_channel(channel);
    let mut secrets = vec![root.authorization().expect("a token").replace("Bearer ", "")];
    root.put_workspace("acme").await;
    root.put_user(PLAIN).await;
    root.put_membership("acme", PLAIN, Role::Owner).await;
    let mut errors = Vec::new();
    for _ in 0..5 {
        secrets.push(root.create_key("acme", &[Scope::Read]).await.token);
        secrets.push(root.create_pat(PLAIN, &[Scope::Read], Role::Owner).await.token);
    }
    // First, because unreadable addresses are logged once a minute.
    let http = first["http"].as_str().and_then(|url| url.strip_prefix("http://"));
    let http = http.and_then(|address| address.parse().ok()).expect("an address");
    let call = Call::get(&format!("/auth?scope=read&client_ip_header={}", secrets[1]))
        .header("x-sophic-auth-caller", &format!("Bearer {}", secrets[0]))
        .header("authorization", &format!("Bearer {}", secrets[1]))
        .header(&secrets[1], "no address");
    errors.push(format!("{:?}", call.send(http).await));
    assert!(found("the header that client_ip_header names", &[&log]), "it is logged");
    for token in secrets.clone() {
        root.introspect(&token, "acme", &[Scope::Capture]).await;
        // Tokens in the wrong fields are not repeated by answers either.
        let request = IntrospectRequest {
            token: format!("Bearer {token}"),
            workspace: token.clone(),
            client_ip: token.clone(),
            ..Default::default()
        };
        errors.push(format!("{:?}", root.auth().introspect(request).await));
        let by_token = GetCredentialRequest { token: token.clone(), ..Default::default() };
        errors.push(format!("{:?}", root.auth().get_credential(by_token.clone()).await));
        for wrong in [
            GetCredentialRequest { acting_user: PLAIN.to_owned(), ..by_token.clone() },
            GetCredentialRequest { acting_user: token.clone(), ..by_token.clone() },
            GetCredentialRequest { credential_id: token.clone(), ..by_token.clone() },
            GetCredentialRequest { credential_id: token.clone(), ..Default::default() },
        ] {
            errors.push(format!("{:?}", root.auth().get_credential(wrong).await));
        }
        for acting_user in ["", PLAIN, &token] {
            let request = ExplainRequest {
                credential: Some(explain_request::Credential::Token(token.clone())),
                workspace: token.clone(),
                client_ip: token.clone(),
                acting_user: acting_user.to_owned(),
                ..Default::default()
            };
            errors.push(format!("{:?}", root.auth().explain(request).await));
        }
        let wrong = h.with_token(&token).via_channel(root.channel());
        let outcome = wrong.auth().introspect(IntrospectRequest::default()).await;
        errors.push(format!("{outcome:?}"));
    }
    let half = secrets.len() / 2;
    for token in &secrets[1..half] {
        let on_behalf = RevokeRequest {
            credential: Some(revoke_request::Credential::Token(token.clone())),
            acting_user: PLAIN.to_owned(),
            ..Default::default()
        };
        errors.push(format!("{:?}", root.auth().revoke(on_behalf).await));
        root.revoke_token(token).await;
    }
    let places = database_files(&h.database).await;
    let errors_file = folder.path().join("errors");
    std::fs::write(&errors_file, errors.join("\n")).expect("a file");
    let mut places: Vec<&Path> = places.iter().map(PathBuf::as_path).collect();
    assert!(found(PLAIN, &places), "the search finds what is in the database");
    places.push(&log);
    places.push(&errors_file);
    assert!(found("/sophic.auth.v1.AuthService/CreateKey", &[&log]), "the log is one of `trace`");
    for token in &secrets {
        // Search for the random part, so that a changed prefix or check does not hide it.
        assert!(!found(&token[11..43], &places), "a token of kind {} is there", &token[..10]);
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&serving),
        rustix::process::Signal::TERM,
    )
    .expect("it is stopped");
    assert!(waits::wait_for_exit(&mut serving).success());
    // No token is found after the write-ahead log was checkpointed into the file either.
    for token in &secrets {
        assert!(!found(&token[11..43], &places));
    }
}

/// Starts the program with all logs enabled.
fn serve(h: &Harness, log: &Path) -> (serde_json::Value, std::process::Child) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sophic-auth"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--output", "json", "--log", "trace", "--database-url", &h.database.url()])
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(log).expect("a file"))
        .spawn()
        .expect("it starts");
    let stdout = child.stdout.take().expect("its output");
    let line = waits::read_line(child.id(), &mut std::io::BufReader::new(stdout));
    (serde_json::from_str(&line).expect("JSON"), child)
}

/// The files of the store. For Postgres those of the whole cluster, with its log and its write-ahead log.
async fn database_files(database: &Database) -> Vec<PathBuf> {
    if let Some(file) = database.file() {
        let folder = file.parent().expect("a folder").to_owned();
        assert!(
            folder.join("store.db-wal").exists(),
            "the write-ahead log is there to be searched"
        );
        return vec![folder];
    }
    let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
    // Write out data that is only in memory.
    sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await.expect("a checkpoint");
    let row = sqlx::query(
        "SELECT current_setting('data_directory'), \
             pg_relation_filepath('users'), (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .fetch_one(&mut connection)
    .await
    .expect("a row");
    let data: String = row.get(0);
    let oid: sqlx::postgres::types::Oid = row.get(2);
    let data = PathBuf::from(data);
    vec![data.join(format!("base/{}", oid.0)), data.join("pg_wal"), data.join("server.log")]
}

/// Whether the text occurs anywhere in these files and directories.
fn found(text: &str, places: &[&Path]) -> bool {
    let status = Command::new("grep")
        .args(["--recursive", "--quiet", "--text", "--fixed-strings", "--no-messages", "--", text])
        .args(places.iter().filter(|place| place.exists()))
        .status()
        .expect("grep");
    status.success()
}

/// A server that cannot start does not print the password of its database.
#[tokio::test]
async fn a_password_in_the_url_is_never_repeated() {
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let url = "postgres://sophic:hunter2@127.0.0.1:1/auth";
    let error = server::start(Config::new(location(url), loopback, loopback)).await.map(drop);
    let error = error.expect_err("nobody is there");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    let command = Command::new(env!("CARGO_BIN_EXE_sophic-auth"))
        .args(["user", "list", "--log", "trace", "--database-url", url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = waits::output(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !text.contains("hunter2"), "{text}");
}
