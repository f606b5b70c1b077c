//! Hundreds of cancelled calls: the clients of a gateway may cancel theirs on the shared connection, however busy the
//! server is.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sophic_auth::grpc::pb::IntrospectRequest;
use sophic_auth::token::{OsRandom, Token, TokenKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::{let_time_pass, within};

on_every_store! {
    a_connection_survives_clients_that_cancel_all_its_calls_every_50_ms,
    a_flood_of_cancelled_requests_neither_closes_connections_nor_delays_others,
}

/// Default number of streams on one connection.
const STREAMS: u32 = 256;
/// Far more than h2 lets a connection begin and cancel before the server reads any: 520 with a short message.
const FLOOD: u32 = 20_000;

async fn a_connection_survives_clients_that_cancel_all_its_calls_every_50_ms(h: Harness) {
    // Without a limit every token is looked up, which takes time.
    let server = h.another(|config| config.cache.unknown_rate_max = 0).await;
    let (channel, connections) = server.counting_channel().await;
    let gateway = h.gateway().await.via_channel(channel);
    let call = || {
        let auth = gateway.auth();
        async move {
            let token = Token::mint(TokenKind::Key, &OsRandom).expect("randomness");
            let token = token.expose().to_owned();
            let mut auth = auth;
            let _ = auth.introspect(IntrospectRequest { token, ..Default::default() }).await;
        }
    };
    for _ in 0..20 {
        let calls: Vec<_> = (0..STREAMS).map(|_| tokio::task::spawn(call())).collect();
        let_time_pass("they have no more patience", Duration::from_millis(50)).await;
        for call in calls {
            call.abort();
        }
    }
    assert!(!gateway.introspect("nobody's", "", &[]).await.active);
    assert_eq!(connections.load(Ordering::Relaxed), 1, "it had to connect again");
}

/// A handwritten HTTP/2 connection.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    next: u32,
    pub(super) headers: Vec<u8>,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl Raw {
    pub(super) async fn connect(to: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(to).await.expect("the port accepts");
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
        stream.write_all(&hello).await.expect("it is sent");
        let literal = |bytes: &str| {
            let length = u8::try_from(bytes.len()).expect("short");
            [&[length], bytes.as_bytes()].concat()
        };
        // POST, http, and three literals without indexing (RFC 7541 §6.2.2).
        let headers = [
            vec![0x83, 0x86, 0x04],
            literal(path),
            vec![0x01],
            literal("localhost"),
            vec![0x00],
            literal("content-type"),
            literal("application/grpc"),
        ];
        Self { stream, next: 1, headers: headers.concat() }
    }

    /// This many requests in one write, each with an unfinished message and cancelled before the next.
    async fn cancelled(&mut self, requests: u32) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..requests {
            bytes.extend(frame(1, 4, self.next, &self.headers));
            bytes.extend(frame(0, 0, self.next, &[0; 5]));
            bytes.extend(frame(3, 0, self.next, &8_u32.to_be_bytes()));
            self.next += 2;
        }
        self.stream.write_all(&bytes).await
    }

    /// Whether a ping is answered. If not, the server has closed the connection or sent GOAWAY.
    pub(super) async fn lives(&mut self) -> bool {
        if self.stream.write_all(&frame(6, 0, 0, b"12345678")).await.is_err() {
            return false;
        }
        within("a ping is answered", async {
            loop {
                let mut head = [0; 9];
                if self.stream.read_exact(&mut head).await.is_err() {
                    return false;
                }
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; length];
                if self.stream.read_exact(&mut payload).await.is_err() {
                    return false;
                }
                match (head[3], head[4]) {
                    (6, 1) if payload == b"12345678" => return true,
                    (7, _) => return false,
                    _ => {}
                }
            }
        })
        .await
    }
}

async fn a_flood_of_cancelled_requests_neither_closes_connections_nor_delays_others(h: Harness) {
    let ports = [
        (h.running.grpc, "/sophic.auth.v1.AuthService/Introspect"),
        (h.running.grpc, "/grpc.health.v1.Health/Check"),
        (h.running.http, "/auth"),
    ];
    for (port, path) in ports {
        let mut raw = Raw::connect(port, path).await;
        let mut other = Raw::connect(port, path).await;
        let flood = async {
            raw.cancelled(FLOOD).await.expect("it is sent");
            assert!(raw.lives().await, "{path}");
        };
        let others = async {
            for _ in 0..10 {
                assert!(other.lives().await, "{path}");
            }
        };
        tokio::join!(flood, others);
    }
}
