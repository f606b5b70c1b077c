//! Unfinished headers have ten seconds, on every request of a connection, and share a memory limit.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use sophic_auth::grpc::pb::IntrospectRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Request;

use super::connections::{PREFACE, SETTINGS, connected, ended};
use super::resets::{Raw, frame};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{PATIENCE, eventually, let_time_pass, within};

on_every_store! {
    unfinished_headers_close_their_connection,
    the_headers_of_every_request_have_a_deadline,
    unfinished_headers_share_a_memory_limit,
    long_metadata_is_accepted,
}

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const END_HEADERS: u8 = 4;
/// `:method: POST`, the beginning of a header block.
const POST: &[u8] = &[0x83];

pub(super) fn greeting_and(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, SETTINGS, &frames.concat()].concat()
}

async fn unfinished_headers_close_their_connection(h: Harness) {
    let server = h.another(|config| config.handshake_timeout = Duration::from_millis(300)).await;
    let dribble: &'static [u8] = &[0; 2_000];
    let continuations: &'static [u8] = frame(9, 0, 1, &[]).repeat(300).leak();
    let cut = |kind, bytes: usize| frame(kind, END_HEADERS, 1, &[0; 4_000])[..bytes].to_vec();
    let block = frame(1, 0, 1, POST);
    for port in [server.running.grpc, server.running.http] {
        let mut ends = Vec::new();
        for (bytes, dribble) in [
            (block.clone(), &b""[..]),
            (block.clone(), continuations),
            ([block.clone(), frame(9, 0, 1, &[0x86])].concat(), b""),
            (cut(1, 3), b""),
            (cut(1, 9), dribble),
            (cut(1, 500), b""),
            // No other frame may take so long either.
            (cut(4, 9), dribble),
        ] {
            ends.push(ended(connected(port, &greeting_and(&[bytes])).await, dribble));
        }
        let mut alive = Raw::connect(port, HEALTH).await;
        // A peer that sends whole frames has no deadline.
        let alive = async {
            loop {
                assert!(alive.lives().await);
                let_time_pass("a ping now and then", Duration::from_millis(20)).await;
            }
        };
        within("all of them are ended", async {
            tokio::select! {
                _ = futures::future::join_all(ends) => {}
                () = alive => {}
            }
        })
        .await;
    }
}

async fn the_headers_of_every_request_have_a_deadline(h: Harness) {
    let server = h.another(|config| config.handshake_timeout = Duration::from_millis(300)).await;
    for port in [server.running.grpc, server.running.http] {
        for dribble in [&b""[..], frame(9, 0, 3, &[]).repeat(300).leak()] {
            let mut raw = Raw::connect(port, HEALTH).await;
            let first = frame(1, END_HEADERS | 1, 1, &raw.headers);
            raw.stream.write_all(&first).await.expect("it is sent");
            assert!(raw.lives().await);
            raw.stream.write_all(&frame(1, 0, 3, &raw.headers)).await.expect("it is sent");
            ended(raw.stream, dribble).await;
        }
    }
}

/// Unfinished headers of this many bytes.
fn unfinished(bytes: usize) -> Vec<u8> {
    let mut frames = vec![frame(1, 0, 1, POST)];
    // A literal without indexing, longer than the whole block.
    let literal = [&[0x00, 0x01, b'a', 0x7f, 0xff, 0xff, 0x7f][..], &vec![b'a'; bytes]].concat();
    frames.extend(literal.chunks(16_000).map(|part| frame(9, 0, 1, part)));
    greeting_and(&frames)
}

fn unfinished_http1(bytes: usize) -> Vec<u8> {
    [b"GET /auth HTTP/1.1\r\nhost: x\r\nx-long: ", &vec![b'a'; bytes][..]].concat()
}

/// Sends as much as the server accepts.
async fn sent(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("the port accepts");
    let _ = stream.write_all(bytes).await;
    stream
}

async fn with_metadata(actor: &Actor, bytes: usize) -> Result<(), tonic::Status> {
    let message = IntrospectRequest { token: "nobody's".to_owned(), ..Default::default() };
    let mut request = Request::new(message);
    for i in 0..bytes.div_ceil(4_000) {
        let name: tonic::metadata::AsciiMetadataKey = format!("x-{i}").parse().expect("a name");
        request.metadata_mut().insert(name, "a".repeat(4_000).parse().expect("a value"));
    }
    actor.auth().introspect(request).await.map(drop)
}

/// Maximum number of bytes of headers of all unauthenticated peers, and of one that are not counted.
const ROOM: usize = 32 << 20;
const FREE: usize = 8 << 10;

async fn unfinished_headers_share_a_memory_limit(h: Harness) {
    let server = h.another(|config| config.handshake_timeout = 4 * PATIENCE).await;
    let (grpc, http) = (server.running.grpc, server.running.http);
    let gateway = h.gateway().await.via(&server);
    let caller = server.reconnected(&gateway).await;
    with_metadata(&caller, 0).await.expect("it is known");
    let kinds = [(grpc, unfinished(60_000)), (http, unfinished(60_000))];
    let kinds = [kinds.as_slice(), &[(http, unfinished_http1(60_000))]].concat();
    let mut open = FuturesUnordered::new();
    for _ in 0..ROOM / (60_000 - FREE) / 3 + 20 {
        for (port, bytes) in &kinds {
            open.push(ended(sent(*port, bytes).await, b""));
        }
    }
    // Connections beyond the limit are closed.
    for _ in 0..40 {
        within("there is a bound", open.next()).await;
    }
    // A caller's headers, and short ones, still fit.
    with_metadata(&caller, 60_000).await.expect("callers have a room of their own");
    let stranger = server.reconnected(&gateway).await;
    with_metadata(&stranger, 4_000).await.expect("what is short is not counted");
    for (port, bytes) in &kinds {
        // There is not room for all of these, in whichever order they ask.
        let more = (0..20).map(|_| async { ended(sent(*port, bytes).await, b"").await });
        let mut more: FuturesUnordered<_> = more.collect();
        within("one of them is ended", more.next()).await.expect("one of them");
        drop(more);
    }
    drop(open);
    // The memory is freed with the connections.
    eventually("there is room again", async || {
        let fresh = server.reconnected(&gateway).await;
        with_metadata(&fresh, 60_000).await.is_ok()
    })
    .await;
}

async fn long_metadata_is_accepted(h: Harness) {
    let gateway = h.gateway().await;
    for bytes in [8_000, 16_000, 40_000, 60_000, 8_000] {
        with_metadata(&gateway, bytes).await.unwrap_or_else(|status| panic!("{bytes}: {status}"));
    }
    // Over HTTP/1, in pieces, on a connection that stays open.
    let mut stream = connected(h.running.http, b"").await;
    for _ in 0..3 {
        let mut request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n".to_vec();
        for i in 0..10 {
            request.extend(format!("x-{i}: {}\r\n", "a".repeat(6_000)).into_bytes());
        }
        request.extend(b"\r\n");
        stream.write_all(&request).await.expect("it is sent");
        let mut answer = [0; 15];
        within("an answer", stream.read_exact(&mut answer)).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        within("the rest of the answer", async {
            while !rest.ends_with(b"\r\n\r\nok\n") {
                rest.push(stream.read_u8().await.expect("the rest of it"));
            }
        })
        .await;
    }
}
