//! Memory that unauthenticated peers can make the server hold, by incomplete messages and incomplete headers.

use bytes::Bytes;
use futures::future::join_all;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::program::Program;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    incomplete_messages_cost_little_memory,
    incomplete_headers_cost_little_memory,
}

const SERVE: &str = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const ANNOUNCED: u32 = 4_000_000;
/// Number of streams per connection.
const STREAMS: usize = 200;

/// Sends all but the last byte of an announced message, as far as flow control allows. Returns the gRPC status.
async fn unfinished(client: SendRequest<Bytes>, url: String, zeros: Bytes) -> Option<String> {
    let mut client = client.ready().await.ok()?;
    let request = http::Request::post(url).header("content-type", "application/grpc");
    let (response, mut sender) =
        client.send_request(request.body(()).expect("a request"), false).ok()?;
    let prefix = [&[0][..], &ANNOUNCED.to_be_bytes()].concat();
    // The server may have answered already.
    let _ = sender.send_data(prefix.into(), false).and_then(|()| sender.send_data(zeros, false));
    let (head, mut body) = response.await.ok()?.into_parts();
    let of_head = head.headers.get("grpc-status").cloned();
    let trailers = body.trailers().await.ok().flatten();
    let status = of_head.or_else(|| trailers?.get("grpc-status").cloned())?;
    Some(status.to_str().expect("text").to_owned())
}

async fn incomplete_messages_cost_little_memory(p: Program) {
    let mut serving = p.start(SERVE);
    let grpc = serving.json()["grpc"].as_str().expect("a URL").to_owned();
    let zeros = Bytes::from(vec![0; ANNOUNCED as usize - 1]);
    for path in [HEALTH, REFLECTION] {
        let before = serving.resident();
        let mut drivers = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..2 {
            let stream = connected(&grpc).await;
            let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
            drivers.push(tokio::task::spawn(connection));
            let url = format!("{grpc}{path}");
            streams.extend(
                (0..STREAMS).map(|_| unfinished(client.clone(), url.clone(), zeros.clone())),
            );
        }
        let answers = within("none is waited for", join_all(streams)).await;
        assert!(answers.iter().flatten().count() > STREAMS, "{answers:?}");
        for status in answers.into_iter().flatten() {
            // Refused as too large, or as too many requests.
            assert!(matches!(&*status, "8" | "11"), "{path}: {status}");
        }
        // Unbounded, this would be 1.6 GB.
        let grown = serving.resident().saturating_sub(before);
        assert!(grown < 100 << 20, "{path}: {grown} bytes more");
        for driver in drivers {
            driver.abort();
        }
    }
    serving.signal(rustix::process::Signal::KILL);
    serving.end();
}

/// Number of connections per port.
const CONNECTIONS: usize = 500;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let stream = u8::from(kind != 4);
    [&length[1..], &[kind, 0, 0, 0, 0, stream], payload].concat()
}

async fn health(url: &str) -> String {
    let mut stream = connected(url).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

async fn connected(url: &str) -> TcpStream {
    let address = url.strip_prefix("http://").expect("a plaintext URL");
    TcpStream::connect(address).await.expect("the server accepts the connection")
}

async fn incomplete_headers_cost_little_memory(p: Program) {
    let mut serving = p.start(SERVE);
    let ports = serving.json();
    let ports = ["grpc", "http"].map(|port| ports[port].as_str().expect("a URL").to_owned());
    let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, &[])].concat();
    // One header enters the HPACK table, and then one byte repeats it. A header list may have 2,000 of them, and each takes
    // 30 to 70 times its size when decoded.
    let again = [&[0x40, 1, b'a', 0][..], &[0xbe; 2_100]].concat();
    let literal = [&[0x00, 1, b'a', 0x7f, 0xff, 0xff, 0x7f][..], &[b'a'; 90_000]].concat();
    let literal: Vec<_> = literal.chunks(16_000).map(|part| frame(9, part)).collect();
    let floods = [
        [greeting.clone(), frame(1, &again)].concat(),
        [greeting, frame(1, &[0x83]), literal.concat()].concat(),
        [b"GET /auth HTTP/1.1\r\nx-long: ".to_vec(), vec![b'a'; 60_000]].concat(),
    ];
    let before = serving.resident();
    for (i, flood) in floods.iter().enumerate() {
        let mut open = Vec::new();
        for port in &ports {
            for _ in 0..CONNECTIONS {
                let mut stream = connected(port).await;
                // The server closes the connection when the budget is exhausted.
                let _ = stream.write_all(flood).await;
                open.push(stream);
            }
        }
        // An answer on a later connection shows that the server has processed all of these.
        let status = health(&ports[1]).await;
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        let grown = serving.resident().saturating_sub(before);
        assert!(grown < 120 << 20, "flood {i}: {grown} bytes more");
    }
    serving.signal(rustix::process::Signal::KILL);
    serving.end();
}
