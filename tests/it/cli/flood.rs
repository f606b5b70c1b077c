//! What strangers can make the server hold: messages that announce much and do not end.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use h2::client::SendRequest;
use tokio::net::TcpStream;

use super::program::Program;
use crate::stores::on_every_store;

on_every_store! {
    messages_that_do_not_end_cost_little_memory,
}

const SERVE: &str = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const ANNOUNCED: u32 = 4_000_000;
/// Streams on each connection.
const STREAMS: usize = 200;

/// Sends all but the last byte of what it announces, as far as the server lets it, and gives the gRPC status.
async fn unfinished(client: SendRequest<Bytes>, url: String, zeros: Bytes) -> Option<String> {
    let mut client = client.ready().await.ok()?;
    let request = http::Request::post(url).header("content-type", "application/grpc");
    let (response, mut sender) =
        client.send_request(request.body(()).expect("a request"), false).ok()?;
    let prefix = [&[0][..], &ANNOUNCED.to_be_bytes()].concat();
    // It may have been answered already.
    let _ = sender.send_data(prefix.into(), false).and_then(|()| sender.send_data(zeros, false));
    let (head, mut body) = response.await.ok()?.into_parts();
    let of_head = head.headers.get("grpc-status").cloned();
    let trailers = body.trailers().await.ok().flatten();
    let status = of_head.or_else(|| trailers?.get("grpc-status").cloned())?;
    Some(status.to_str().expect("text").to_owned())
}

async fn messages_that_do_not_end_cost_little_memory(p: Program) {
    let mut serving = p.start(SERVE);
    let grpc = serving.json()["grpc"].as_str().expect("a URL").to_owned();
    let zeros = Bytes::from(vec![0; ANNOUNCED as usize - 1]);
    for path in [HEALTH, REFLECTION] {
        let before = serving.resident();
        let mut drivers = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..2 {
            let address = grpc.strip_prefix("http://").expect("in the clear");
            let stream = TcpStream::connect(address).await.expect("it accepts");
            let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
            drivers.push(tokio::task::spawn(connection));
            let url = format!("{grpc}{path}");
            streams.extend(
                (0..STREAMS).map(|_| unfinished(client.clone(), url.clone(), zeros.clone())),
            );
        }
        let answered = tokio::time::timeout(Duration::from_secs(60), join_all(streams));
        let answers = answered.await.expect("none is waited for");
        assert!(answers.iter().flatten().count() > STREAMS, "{answers:?}");
        for status in answers.into_iter().flatten() {
            // Too large, or too many at once.
            assert!(matches!(&*status, "8" | "11"), "{path}: {status}");
        }
        // All of it would be 1.6 GB.
        let grown = serving.resident().saturating_sub(before);
        assert!(grown < 100 << 20, "{path}: {grown} bytes more");
        for driver in drivers {
            driver.abort();
        }
    }
    serving.signal(rustix::process::Signal::KILL);
    serving.end();
}
