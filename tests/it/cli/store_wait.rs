//! A server process that starts while its Postgres is unreachable.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use sophic_auth::grpc::pb::IntrospectRequest;
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::program::{Serving, command, run};
use crate::grpc::refusal::reason;
use crate::proxy::{Mode, Proxy};
use crate::stores::Database;
use crate::waits::{self, eventually};

const SERVE: [&str; 7] =
    ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--output", "json"];

/// A database behind a proxy, and the URL through the proxy.
async fn behind_a_proxy() -> (Database, Proxy, String) {
    let database = Database::postgres().await;
    let url = database.url();
    let (user, rest) = url.split_once('@').expect("a user");
    let (address, name) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(address.parse::<SocketAddr>().expect("an address")).await;
    let url = format!("{user}@{}/{name}", proxy.address);
    (database, proxy, url)
}

fn serve(url: &str) -> Command {
    let mut command = command();
    command.env("SOPHIC_AUTH_DATABASE_URL", url).args(SERVE);
    command
}

async fn status(grpc: &str) -> ServingStatus {
    let channel = Channel::from_shared(grpc.to_owned()).expect("a URL").connect().await;
    let mut client = HealthClient::new(channel.expect("the server accepts the connection"));
    // The health server closes its connections when the real server starts.
    match client.check(HealthCheckRequest::default()).await {
        Ok(answer) => answer.into_inner().status(),
        Err(_) => ServingStatus::Unknown,
    }
}

/// Asks for the health of a service that does not exist.
async fn unknown_service(grpc: &str) -> Status {
    let channel = Channel::from_shared(grpc.to_owned()).expect("a URL").connect().await;
    let mut client = HealthClient::new(channel.expect("the server accepts the connection"));
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    client.check(request).await.expect_err("there is none")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_waits_for_a_store_that_is_down_and_starts_when_it_is_up() {
    for mode in [Mode::Refuse, Mode::Stall] {
        let (database, proxy, url) = behind_a_proxy().await;
        proxy.set(mode);
        let mut serving = Serving::start(serve(&url));
        let line = serving.json();
        let grpc = line["grpc"].as_str().expect("a URL");
        assert_eq!(status(grpc).await, ServingStatus::NotServing);
        let mut client = AuthServiceClient::connect(grpc.to_owned())
            .await
            .expect("the server accepts the connection");
        let refused = client.introspect(IntrospectRequest::default()).await;
        let refused = refused.expect_err("the request fails");
        assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "STORE_UNAVAILABLE"));
        let unknown = unknown_service(grpc).await;
        assert_eq!((unknown.code(), &*reason(&unknown)), (Code::NotFound, "NAME_NOT_FOUND"));
        proxy.set(Mode::Pass);
        let serves = async || status(grpc).await == ServingStatus::Serving;
        eventually("the server starts", serves).await;
        serving.signal(Signal::TERM);
        assert_eq!(serving.end().code(), Some(0));
        database.drop_database().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_server_logs_the_reason_and_stops_on_a_signal() {
    let (database, proxy, url) = behind_a_proxy().await;
    proxy.set(Mode::Refuse);
    let mut child = serve(&url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the process starts");
    let mut first = [0];
    let (pid, out) = (child.id(), child.stdout.as_mut().expect("its output"));
    waits::while_child_runs("it prints", pid, || out.read_exact(&mut first)).expect("a line");
    let pid = rustix::process::Pid::from_child(&child);
    // It logs this once, however often it tries.
    let tried = proxy.refused();
    eventually("the server has tried again", async || proxy.refused() > tried + 2).await;
    rustix::process::kill_process(pid, Signal::TERM).expect("the signal is sent");
    let ended = waits::output(child);
    assert_eq!(ended.status.code(), Some(0));
    let said = String::from_utf8(ended.stderr).expect("UTF-8");
    assert_eq!(said.matches("waiting for it").count(), 1, "{said}");
    database.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_waiting_cannot_fix_ends_the_server_at_once() {
    let database = Database::postgres().await;
    let url = database.url();
    let (head, _) = url.rsplit_once('/').expect("a database");
    let nobody = url.replace("//sophic@", "//nobody_of_that_name@");
    for (url, said, code) in [
        (format!("{head}/no_such_database"), "does not exist", 2),
        (nobody, "does not exist", 1),
        (format!("{url}?channel_binding=require"), "channel_binding", 2),
        ("mysql://u@h/d".to_owned(), "must begin with", 2),
    ] {
        let error = run(serve(&url), "").failed(code);
        assert!(error.contains(said), "{url}: {error}");
    }
    // Nothing listens there, and `dev` does not wait.
    let mut dev = command();
    dev.env("SOPHIC_AUTH_DATABASE_URL", "postgres://u@127.0.0.1:1/d");
    dev.args(["caller", "list"]);
    let error = run(dev, "").failed(1);
    assert!(error.contains("nothing listens at its address"), "{error}");
    database.drop_database().await;
}

#[test]
fn a_low_limit_of_open_files_is_reported_and_the_soft_limit_is_raised() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let said = |limits: &str, connections: &str| {
        let store = folder.path().join(format!("{}.db", connections.replace(' ', "")));
        let url = format!("sqlite:{}", store.display());
        let program = env!("CARGO_BIN_EXE_sophic-auth");
        let mut shell = Command::new("sh");
        let serve = format!(
            "ulimit {limits}; {program} --database-url {url} serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 \
             {connections} & PID=$!; \
             until grep -q 'Max open files' /proc/$PID/limits && [ -s {log} ]; do sleep 0.05; done; \
             grep 'Max open files' /proc/$PID/limits >&2; kill $PID; wait $PID",
            log = store.display(),
        );
        shell.args(["-c", &serve]);
        shell.env_remove("SOPHIC_AUTH_DATABASE_URL");
        run(shell, "").err
    };
    let few = said("-n 400", "--connections-max 1000");
    assert!(few.contains("--connections-max 1000") && few.contains("may open 400 files"), "{few}");
    let enough = said("-Sn 256; ulimit -Hn 600", "--connections-max 100");
    assert!(!enough.contains("may open"), "{enough}");
    let limits = enough.lines().find(|line| line.starts_with("Max open files")).expect("limits");
    assert_eq!(limits.split_whitespace().nth(3), Some("600"), "{limits}");
    // No number was requested, so there is no warning.
    let default = said("-n 400", "");
    assert!(default.contains("each of the two ports takes 136 connections"), "{default}");
    assert!(!default.contains("WARN"), "{default}");
}
