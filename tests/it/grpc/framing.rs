//! Frames and headers that no gRPC client sends. Each gets an answer, and none crashes the server.

use prost::Message as _;
use sophic_auth::grpc::pb::{Denial, IntrospectRequest, IntrospectResponse, PutUserRequest, User};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::refusal::reason;
use super::wire::{self, Answer, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    a_valid_handwritten_request_is_answered,
    bytes_that_are_not_a_message_are_malformed,
    truncated_and_compressed_frames_are_refused,
    unknown_fields_are_ignored,
    requests_that_are_not_grpc_get_an_http_error,
    an_invalid_grpc_timeout_is_malformed,
    authorization_must_be_one_well_formed_header,
    headers_of_other_systems_have_no_effect,
    headers_beyond_the_limit_are_refused,
    what_is_not_http_2_is_hung_up_on,
    an_unfinished_request_does_not_delay_others,
    a_request_may_end_with_trailers,
}

const INTROSPECT: &str = "/sophic.auth.v1.AuthService/Introspect";

fn message() -> Vec<u8> {
    IntrospectRequest { token: "nobody's".to_owned(), ..Default::default() }.encode_to_vec()
}

async fn authorization(h: &Harness) -> String {
    h.gateway().await.authorization().expect("it has a token")
}

fn answered(answer: &Answer) -> IntrospectResponse {
    assert_eq!(answer.status().code(), Code::Ok, "{answer:?}");
    IntrospectResponse::decode(&answer.body[5..]).expect("a message")
}

async fn still_answers(h: &Harness, authorization: &str) {
    let frames = Frames::of(&[&message()]).with("authorization", authorization);
    let answer = answered(&wire::send(h, INTROSPECT, frames).await);
    assert_eq!(answer.denial(), Denial::TokenUnknown);
}

async fn a_valid_handwritten_request_is_answered(h: Harness) {
    let token = authorization(&h).await;
    still_answers(&h, &token).await;
    for content_type in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        let frames = Frames::of(&[&message()])
            .with("authorization", &token)
            .without("content-type")
            .with("content-type", content_type);
        answered(&wire::send(&h, INTROSPECT, frames).await);
    }
}

async fn bytes_that_are_not_a_message_are_malformed(h: Harness) {
    let token = authorization(&h).await;
    let deep = {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            bytes = [vec![0x0b], bytes, vec![0x0c]].concat();
        }
        bytes
    };
    let bodies: [&[u8]; 5] = [
        b"\xff\xff\xff\xff",
        // The token as a number, with invalid UTF-8, and with a length beyond the end.
        b"\x08\x01",
        b"\x0a\x02\xc3\x28",
        b"\x0a\x7fabc",
        &deep,
    ];
    for body in bodies {
        let frames = Frames::of(&[body]).with("authorization", &token);
        let status = wire::status(&h, INTROSPECT, frames).await;
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::InvalidArgument, "REQUEST_MALFORMED"),
            "{body:.20?}"
        );
        assert!(!status.message().contains("token"), "{status:?}");
    }
    still_answers(&h, &token).await;
}

async fn truncated_and_compressed_frames_are_refused(h: Harness) {
    let token = authorization(&h).await;
    let send = async |frames: Frames| -> Status {
        wire::status(&h, INTROSPECT, frames.with("authorization", &token)).await
    };
    let whole = Frames::of(&[&message()]).body;
    let cut = send(Frames::raw(&whole[..whole.len() - 3])).await;
    assert_eq!((cut.code(), &*reason(&cut)), (Code::InvalidArgument, "REQUEST_MALFORMED"));
    for flag in [2, 255] {
        let mut body = whole.clone();
        body[0] = flag;
        let status = send(Frames::raw(body)).await;
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::InvalidArgument, "REQUEST_MALFORMED")
        );
    }
    let mut flagged = whole.clone();
    flagged[0] = 1;
    let gzip = Frames::of(&[&message()]).with("grpc-encoding", "gzip");
    for frames in [Frames::raw(flagged), gzip] {
        let status = send(frames).await;
        let found = (status.code(), &*reason(&status));
        assert_eq!(found, (Code::Unimplemented, "COMPRESSION_UNSUPPORTED"));
        assert_eq!(status.metadata().get("grpc-accept-encoding").expect("a value"), "identity");
    }
    // A length of four gigabytes, for which no memory is reserved.
    let huge = send(Frames::raw(b"\x00\xff\xff\xff\xff".to_vec())).await;
    assert_eq!((huge.code(), &*reason(&huge)), (Code::OutOfRange, "MESSAGE_TOO_LARGE"));
    let foreign = send(Frames::of(&[&message()]).with("grpc-encoding", "br")).await;
    assert_eq!(foreign.code(), Code::Unimplemented);
    let nothing = send(Frames::raw(Vec::new())).await;
    assert_eq!((nothing.code(), &*reason(&nothing)), (Code::InvalidArgument, "REQUEST_MALFORMED"));
    let two = send(Frames::of(&[&message(), &message()])).await;
    assert_eq!((two.code(), &*reason(&two)), (Code::InvalidArgument, "REQUEST_MALFORMED"));
    still_answers(&h, &token).await;
}

async fn unknown_fields_are_ignored(h: Harness) {
    let token = authorization(&h).await;
    // Field 1000, which does not exist yet.
    let body = [message(), b"\xc2\x3e\x03abc".to_vec()].concat();
    let frames = Frames::of(&[&body]).with("authorization", &token);
    answered(&wire::send(&h, INTROSPECT, frames).await);
}

async fn requests_that_are_not_grpc_get_an_http_error(h: Harness) {
    let token = authorization(&h).await;
    for method in [http::Method::GET, http::Method::PUT, http::Method::OPTIONS] {
        let mut frames = Frames::raw(Vec::new()).with("authorization", &token);
        frames.method = method;
        let answer = wire::send(&h, INTROSPECT, frames).await;
        assert_eq!(answer.http, 405);
        assert_eq!(answer.headers["allow"], "POST");
    }
    let types = ["application/json", "text/plain", "application/grpc-web", "application/grpcx", ""];
    for content_type in types {
        let frames = Frames::of(&[&message()])
            .with("authorization", &token)
            .without("content-type")
            .with("content-type", content_type);
        assert_eq!(wire::send(&h, INTROSPECT, frames).await.http, 415, "{content_type}");
    }
    let frames = Frames::of(&[&message()]).with("authorization", &token).without("content-type");
    assert_eq!(wire::send(&h, INTROSPECT, frames).await.http, 415);
}

async fn an_invalid_grpc_timeout_is_malformed(h: Harness) {
    let token = authorization(&h).await;
    for timeout in ["", "1", "S", "123456789S", "1s", "-1S", "1.5S", " 1S", "1 S", "+1S", "1SS"] {
        let frames =
            Frames::of(&[&message()]).with("authorization", &token).with("grpc-timeout", timeout);
        let status = wire::status(&h, INTROSPECT, frames).await;
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::InvalidArgument, "REQUEST_MALFORMED"),
            "{timeout:?}"
        );
    }
    for timeout in ["99999999H", "1M", "10S", "5000m", "99999999u"] {
        let frames =
            Frames::of(&[&message()]).with("authorization", &token).with("grpc-timeout", timeout);
        answered(&wire::send(&h, INTROSPECT, frames).await);
    }
}

async fn authorization_must_be_one_well_formed_header(h: Harness) {
    let good = authorization(&h).await;
    let token = good.strip_prefix("Bearer ").expect("the scheme");
    for spelling in [format!("bearer {token}"), format!("BEARER {token}")] {
        still_answers(&h, &spelling).await;
    }
    let bad = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer \t{token}"),
        format!("Bearer\t{token}"),
        format!("Bearer {token},Bearer {token}"),
        format!("Bearer {token}, {token}"),
        format!("Basic {token}"),
        token.to_owned(),
        format!("Bearer {}", &token[..40]),
        format!("Bearer {token}é"),
    ];
    for value in bad {
        let frames = Frames::of(&[&message()]).with("authorization", &value);
        let status = wire::status(&h, INTROSPECT, frames).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{value:.12}");
        assert!(!format!("{status:?}").contains(&token[11..]), "it is never repeated");
    }
    // Two headers, even if both are valid, because proxies differ on which of the two counts.
    let frames =
        Frames::of(&[&message()]).with("authorization", &good).with("authorization", &good);
    let status = wire::status(&h, INTROSPECT, frames).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "CALLER_MISSING"));
    let frames = Frames::of(&[&message()]).with("authorization-bin", "QmVhcmVy");
    let status = wire::status(&h, INTROSPECT, frames).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "CALLER_MISSING"));
}

async fn headers_of_other_systems_have_no_effect(h: Harness) {
    let token = authorization(&h).await;
    let frames = Frames::of(&[&message()])
        .with("authorization", &token)
        .with("x-user-id", "root")
        .with("x-forwarded-user", "root")
        .with("x-forwarded-for", "10.0.0.1")
        .with("traceparent", "nonsense")
        .with("x-sophic-workspace", "acme")
        .with("x-sophic-workspace", "other");
    let answer = answered(&wire::send(&h, INTROSPECT, frames).await);
    assert_eq!(answer.denial(), Denial::TokenUnknown);
    let frames = Frames::of(&[&message()]).with("x-user-id", "root");
    assert_eq!(wire::status(&h, INTROSPECT, frames).await.code(), Code::Unauthenticated);
}

async fn headers_beyond_the_limit_are_refused(h: Harness) {
    let token = authorization(&h).await;
    let long = |kib: usize| {
        let frames = Frames::of(&[&message()]).with("authorization", &token);
        frames.with("x-long", "x".repeat(kib * 1024))
    };
    answered(&wire::send(&h, INTROSPECT, long(64)).await);
    let frames = long(80);
    match wire::try_send(&h, INTROSPECT, frames).await {
        Ok(answer) => assert_eq!(answer.http, 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away() || error.is_io(), "{error}"),
    }
    still_answers(&h, &token).await;
}

async fn what_is_not_http_2_is_hung_up_on(h: Harness) {
    let token = authorization(&h).await;
    let hello: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        // The beginning of a TLS handshake, on a port without TLS.
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    for bytes in hello {
        let mut stream = TcpStream::connect(h.running.grpc).await.expect("the server accepts");
        stream.write_all(bytes).await.expect("it is sent");
        stream.shutdown().await.expect("no more is sent");
        let mut rest = Vec::new();
        // The connection was closed or reset.
        let _ = within("the server hangs up", stream.read_to_end(&mut rest)).await;
    }
    still_answers(&h, &token).await;
}

async fn an_unfinished_request_does_not_delay_others(h: Harness) {
    let token = authorization(&h).await;
    let mut open = Vec::new();
    for bytes in [&b"PRI * HTTP/2.0\r\n"[..], b"P", b""] {
        let mut stream = TcpStream::connect(h.running.grpc).await.expect("the server accepts");
        stream.write_all(bytes).await.expect("it is sent");
        open.push(stream);
    }
    still_answers(&h, &token).await;
    drop(open);
}

async fn a_request_may_end_with_trailers(h: Harness) {
    let token = authorization(&h).await;
    let frames = Frames::of(&[&message()]).with("authorization", &token).with_trailers();
    let answer = answered(&wire::send(&h, INTROSPECT, frames).await);
    assert_eq!(answer.denial(), Denial::TokenUnknown);

    let root = h.root().await.authorization().expect("it has a token");
    let user = User { id: "ada".to_owned(), display_name: "Ada".to_owned(), ..Default::default() };
    let put = PutUserRequest { user: Some(user) };
    let frames = Frames::of(&[&put.encode_to_vec()]).with("authorization", &root).with_trailers();
    let status = wire::status(&h, "/sophic.auth.v1.DirectoryService/PutUser", frames).await;
    assert_eq!(status.code(), Code::Ok, "{status:?}");
}
