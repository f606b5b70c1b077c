//! The server as a process: startup lines, signals, ports and files.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use sophic_auth::grpc::pb::IntrospectRequest;
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tonic::{Request, Status};

use super::program::{Program, Serving, split};
use crate::stores::on_every_store;
use crate::waits::{eventually, eventually_some, let_time_pass};

on_every_store! {
    the_first_line_has_the_addresses,
    signals_shut_the_server_down_gracefully,
    a_duplicate_signal_is_ignored,
    the_command_line_and_a_running_server_see_the_same,
    a_taken_port_is_named,
    plaintext_beyond_loopback_is_refused,
    two_servers_run_on_one_store,
    zero_means_no_limit_or_is_refused,
    sighup_without_tls_is_logged_and_changes_nothing,
}

const SERVE: &str = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";

/// Whether the token has the scope `read`, by an introspection of this caller.
async fn allowed(grpc: &str, caller: &str, token: &str) -> Result<bool, Status> {
    let client = AuthServiceClient::connect(grpc.to_owned())
        .await
        .expect("the server accepts the connection");
    let request = IntrospectRequest {
        token: token.to_owned(),
        required_scopes: vec![1],
        ..Default::default()
    };
    let mut request = Request::new(request);
    let value = format!("Bearer {caller}").parse().expect("a header");
    request.metadata_mut().insert("authorization", value);
    let mut client = client;
    Ok(client.introspect(request).await?.into_inner().allowed)
}

async fn the_first_line_has_the_addresses(p: Program) {
    let mut serving = p.start(SERVE);
    let line = serving.json();
    let keys: Vec<_> = line.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["grpc", "http"]);
    for key in ["grpc", "http"] {
        let url = line[key].as_str().expect("a URL");
        let port = url.strip_prefix("http://127.0.0.1:").expect("a loopback address");
        assert_ne!(port.parse::<u16>().expect("a port"), 0);
    }
    let mut plain = p.start("serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0");
    assert!(plain.line().starts_with("gRPC  http://127.0.0.1:"));
    assert!(plain.line().starts_with("HTTP  http://127.0.0.1:"));
}

async fn signals_shut_the_server_down_gracefully(p: Program) {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut serving = p.start(SERVE);
        serving.json();
        // Signals at once: a supervisor that reads the line may stop the server.
        serving.signal(signal);
        assert_eq!(serving.end().code(), Some(0), "{signal:?}");
    }
    if let Some(file) = p.database.file() {
        // The write-ahead log was checkpointed into the file.
        assert!(!file.with_extension("db-wal").exists());
    }
}

async fn a_duplicate_signal_is_ignored(p: Program) {
    // `timeout` signals both the process and its group, and a shell passes the signal on.
    let mut serving = p.start(&format!("{SERVE} --drain-delay 300ms"));
    serving.json();
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        serving.signal(signal);
    }
    assert_eq!(serving.end().code(), Some(0));
    // A later second signal stops the server at once.
    let mut serving = p.start(&format!("{SERVE} --drain-delay 1h"));
    serving.json();
    let status = eventually_some("it ends", async || {
        serving.signal(Signal::TERM);
        let_time_pass("more than the same word said twice", Duration::from_millis(50)).await;
        serving.ended()
    });
    assert_eq!(status.await.code(), Some(1));
}

async fn the_command_line_and_a_running_server_see_the_same(p: Program) {
    let mut serving = p.start(SERVE);
    let line = serving.json();
    let grpc = line["grpc"].as_str().expect("a URL");
    p.run("workspace put acme").ok();
    let caller = p.run("caller create gateway --permission introspect --output token").word();
    let made = p.run("key create --workspace acme --name ci --scope read --output json").json();
    let token = made["token"].as_str().expect("a token");
    assert!(allowed(grpc, &caller, token).await.expect("an answer"));
    p.run(&format!("key revoke {}", made["credential"]["id"].as_str().expect("an id"))).ok();
    assert!(!allowed(grpc, &caller, token).await.expect("an answer"));
    p.run("caller revoke gateway").ok();
    allowed(grpc, &caller, token).await.expect_err("the caller is revoked");
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().code(), Some(0));
}

async fn a_taken_port_is_named(p: Program) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    for flags in [
        format!("--listen {address} --http-listen 127.0.0.1:0"),
        format!("--listen 127.0.0.1:0 --http-listen {address}"),
    ] {
        for command in ["serve", "dev"] {
            let error = p.run(&format!("{command} {flags}")).failed(1);
            assert!(error.contains(&address.to_string()), "{error}");
        }
    }
}

async fn plaintext_beyond_loopback_is_refused(p: Program) {
    let error = p.run("serve --listen 0.0.0.0:0 --http-listen 127.0.0.1:0").failed(2);
    assert!(error.contains("--tls-cert") && error.contains("--insecure"), "{error}");
    let error = p.run("serve --listen 127.0.0.1:0 --http-listen [::]:0").failed(2);
    assert!(error.contains("--insecure"), "{error}");
    let mut serving =
        p.start("serve --listen 0.0.0.0:0 --http-listen 127.0.0.1:0 --insecure --output json");
    assert!(serving.json()["grpc"].as_str().expect("a URL").starts_with("http://0.0.0.0:"));
    let error = p.run("serve --tls-cert missing.pem --tls-key missing.key").failed(2);
    assert!(error.contains("missing."), "{error}");
}

async fn two_servers_run_on_one_store(p: Program) {
    p.run("workspace put acme").ok();
    let caller = p.run("caller create gateway --permission introspect --output token").word();
    let key = p.run("key create --workspace acme --name ci --scope read --output token").word();
    let mut servers = [p.start(SERVE), p.start(SERVE)];
    for serving in &mut servers {
        let line = serving.json();
        let grpc = line["grpc"].as_str().expect("a URL");
        assert!(allowed(grpc, &caller, &key).await.expect("an answer"));
    }
    for serving in servers {
        serving.signal(Signal::TERM);
        assert_eq!(serving.end().code(), Some(0));
    }
}

async fn zero_means_no_limit_or_is_refused(p: Program) {
    let caller = p.run("caller create gateway --permission introspect --output token").word();
    let mut serving = p.start(&format!(
        "{SERVE} --connections-max 0 --streams-max 0 --requests-max 0 --request-timeout 0s \
         --connection-age-max 0s --unknown-rate-max 0"
    ));
    let grpc = serving.json()["grpc"].as_str().expect("a URL").to_owned();
    assert!(!allowed(&grpc, &caller, "nobody's").await.expect("an answer"));
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().code(), Some(0));
    for flag in [
        "--cache-capacity 0",
        "--workspace-keys-max 0",
        "--user-pats-max 0",
        "--key-lifetime-max 0s",
        "--pat-lifetime-max 0s",
        "--overlap-max 0s",
        "--last-use-flush 0s",
        "--purge-every 0s",
        "--lease 0s",
    ] {
        let error = p.run(&format!("{SERVE} {flag}")).failed(2);
        let name = flag.split(' ').next().expect("a name");
        let allowed = ["at least 1", "longer than 0s", "from 1s to 60s"];
        assert!(error.contains(name) && allowed.iter().any(|text| error.contains(text)), "{error}");
    }
    p.run("credentials list --limit 0").failed(2);
}

async fn sighup_without_tls_is_logged_and_changes_nothing(p: Program) {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let said = || std::fs::read_to_string(log.path()).expect("the file is readable");
    let to = std::process::Stdio::from(log.reopen().expect("the store opens"));
    let mut serving = Serving::start_logging(p.command(&split(SERVE)), to);
    serving.json();
    serving.signal(Signal::HUP);
    eventually("the log has the line", async || said().contains("SIGHUP changes nothing")).await;
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().code(), Some(0));
    assert!(!said().contains("files were reloaded"), "{}", said());
}
