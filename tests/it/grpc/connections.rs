//! Connections that send nothing or too little are closed, and at the limit the connection that has been idle for
//! longest makes room.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sophic_auth::grpc::pb::WatchRequest;
use sophic_auth::model::Permission;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::{let_time_pass, within};

on_every_store! {
    a_connection_that_sends_too_little_is_closed,
    an_established_idle_channel_stays_open,
    silent_connections_do_not_block_new_ones,
    unauthenticated_watches_do_not_block_new_connections,
    unauthenticated_connections_are_closed_before_an_idle_callers,
    a_connection_with_a_callers_requests_in_flight_is_kept,
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

pub(super) async fn connected(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("the port accepts");
    stream.write_all(bytes).await.expect("it is sent");
    stream
}

/// Waits for the server to close the connection, while sending one of these bytes now and then.
pub(super) async fn ended(stream: TcpStream, dribble: &'static [u8]) {
    let (mut reader, mut writer) = stream.into_split();
    let dribbling = async {
        for byte in dribble {
            let_time_pass("a byte now and then", Duration::from_millis(20)).await;
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut rest = Vec::new();
    within("the server ends it", async {
        tokio::select! {
            // The connection was closed or reset.
            _ = reader.read_to_end(&mut rest) => {}
            () = dribbling => {}
        }
    })
    .await;
}

async fn a_connection_that_sends_too_little_is_closed(h: Harness) {
    let server = h.another(|config| config.handshake_timeout = Duration::from_millis(200)).await;
    let (grpc, http) = (server.running.grpc, server.running.http);
    let no_settings = [PREFACE, &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let half_settings = [PREFACE, &SETTINGS[..5]].concat();
    let long: &'static [u8] = &[b'a'; 2_000];
    let mut ends = Vec::new();
    for port in [grpc, http] {
        for bytes in [&b""[..], b"P", PREFACE, &half_settings, &no_settings] {
            ends.push(ended(connected(port, bytes).await, b""));
        }
        ends.push(ended(connected(port, b"").await, &PREFACE[..20]));
    }
    for bytes in [&b"G"[..], b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: "] {
        ends.push(ended(connected(http, bytes).await, b""));
        ends.push(ended(connected(http, bytes).await, long));
    }
    within("all of them are ended", futures::future::join_all(ends)).await;
    // The headers of a later request have the same deadline as those of the first.
    let mut stream = connected(http, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = [0; 15];
    within("an answer", stream.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nx-long: ").await.expect("it is sent");
    ended(stream, long).await;
}

async fn an_established_idle_channel_stays_open(h: Harness) {
    let server = h.another(|config| config.handshake_timeout = Duration::from_millis(100)).await;
    let (grpc, http) = (server.running.grpc, server.running.http);
    for port in [grpc, http] {
        let warmed = connected(port, b"").await;
        let (mut client, connection) = h2::client::handshake(warmed).await.expect("a handshake");
        let driver = tokio::task::spawn(connection);
        // These two connections come later, and their time is over.
        ended(connected(port, b"").await, b"").await;
        ended(connected(port, b"").await, b"").await;
        assert!(!driver.is_finished(), "the warmed-up one was ended");
        let request = http::Request::get(format!("http://{port}/healthz")).body(());
        let (response, _) =
            client.send_request(request.expect("a request"), true).expect("it is open");
        let expected = if port == http { 200 } else { 405 };
        assert_eq!(response.await.expect("an answer").status(), expected);
        driver.abort();
    }
}

async fn silent_connections_do_not_block_new_ones(h: Harness) {
    let server = h.another(|config| config.connections_max = 4).await;
    let gateway = h.gateway().await.via(&server);
    let mut silent = Vec::new();
    for _ in 0..10 {
        for port in [server.running.grpc, server.running.http] {
            silent.push(connected(port, b"").await);
            silent.push(connected(port, &[PREFACE, SETTINGS].concat()).await);
        }
        // The default deadline is far away: connections are closed because of the new one.
        let fresh = server.reconnected(&gateway).await;
        assert!(!fresh.introspect("nobody's", "", &[]).await.active);
        let mut stream =
            connected(server.running.http, b"GET /healthz HTTP/1.0\r\nhost: x\r\n\r\n").await;
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
    let first = silent.drain(..2).map(|stream| ended(stream, b""));
    within("the first are ended", futures::future::join_all(first)).await;
}

async fn unauthenticated_watches_do_not_block_new_connections(h: Harness) {
    let server = h.another(|config| config.connections_max = 4).await;
    let gateway = h.gateway().await.via(&server);
    let mut watches = Vec::new();
    for _ in 0..6 {
        let stranger = server.reconnected(&server.anonymous()).await;
        let request = HealthCheckRequest { service: String::new() };
        let watch = HealthClient::new(stranger.channel()).watch(request).await;
        watches.push((watch.expect("a stream").into_inner(), stranger));
    }
    let fresh = server.reconnected(&gateway).await;
    assert!(!fresh.introspect("nobody's", "", &[]).await.active);
    let (mut first, _) = watches.remove(0);
    within("it made room", async { while let Ok(Some(_)) = first.message().await {} }).await;
}

async fn unauthenticated_connections_are_closed_before_an_idle_callers(h: Harness) {
    let server = h.another(|config| config.connections_max = 4).await;
    let gateway = h.gateway().await;
    let (channel, connections) = server.counting_channel().await;
    let caller = gateway.clone().via_channel(channel);
    assert!(!caller.introspect("nobody's", "", &[]).await.active);
    let form = format!(
        "POST /oauth2/introspect HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ncontent-length: 7\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\ntoken=x",
        gateway.authorization().expect("a token")
    );
    let mut http = connected(server.running.http, form.as_bytes()).await;
    answered(&mut http).await;
    // All of them are more recent than the caller, and more than the limit have requests in flight.
    let mut strangers = Vec::new();
    for _ in 0..8 {
        let stranger = server.reconnected(&server.anonymous()).await;
        let request = HealthCheckRequest { service: String::new() };
        let watch = HealthClient::new(stranger.channel()).watch(request).await;
        let probe = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut probing = connected(server.running.http, probe).await;
        answered(&mut probing).await;
        strangers.push((watch.expect("a stream"), stranger, probing));
    }
    assert!(!caller.introspect("nobody's", "", &[]).await.active);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "it had to connect again");
    http.write_all(form.as_bytes()).await.expect("it is open");
    answered(&mut http).await;
}

/// Reads one small frame of a valid response, which arrives in one piece.
async fn answered(stream: &mut TcpStream) {
    let mut answer = [0; 4_096];
    let length = stream.read(&mut answer).await.expect("it is open");
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"), "{length} bytes");
}

async fn a_connection_with_a_callers_requests_in_flight_is_kept(h: Harness) {
    let server = h.another(|config| config.connections_max = 2).await;
    let follower = h.caller("follower", &[Permission::Introspect]).await.via(&server);
    let request = WatchRequest::default();
    let mut watch = follower.auth().watch(request).await.expect("a stream").into_inner();
    for _ in 0..8 {
        drop(connected(server.running.grpc, b"").await);
        let silent = connected(server.running.grpc, &[PREFACE, SETTINGS].concat()).await;
        let fresh = server.reconnected(&follower).await;
        assert!(!fresh.introspect("nobody's", "", &[]).await.active);
        ended(silent, b"").await;
    }
    // Each is a checkpoint, and only a few were sent before.
    for _ in 0..5 {
        within("a checkpoint", watch.message())
            .await
            .expect("it was not ended")
            .expect("it goes on");
    }
}
