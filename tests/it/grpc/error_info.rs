//! Every status other than OK that leaves the gRPC port carries `ErrorInfo`, also where a gRPC library refuses a
//! request on its own. Each case is a handwritten request. Errors of a stream that is under way are in `watch.rs` and
//! `reasons.rs`, those of a store that fails in `outage.rs`, and those of a server without a store in
//! `cli/store_wait.rs`.

use std::time::Duration;

use prost::Message as _;
use prost_types::FileDescriptorProto;
use protox::prost_reflect::{DescriptorPool, DynamicMessage};
use sophic_auth::grpc::pb::{CreateKeyRequest, GetUserRequest, IntrospectRequest};
use sophic_auth::service::Reason;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::refusal::reason;
use super::wire::{self, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    every_malformed_or_refused_call_gets_error_info,
    health_and_reflection_send_error_info_too,
    limits_on_time_and_requests_send_error_info,
    a_service_that_is_switched_off_is_an_unknown_method,
    reflection_describes_the_details_of_an_error,
    what_is_not_grpc_gets_no_grpc_status,
}

const INTROSPECT: &str = "/sophic.auth.v1.AuthService/Introspect";
const GET_USER: &str = "/sophic.auth.v1.DirectoryService/GetUser";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const REFLECTION_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

/// Checks the code and the reason of a status. The reason must be in the table of `docs/errors.md`.
fn check(what: &str, status: &Status, code: Code, expected: &str) {
    assert_eq!((status.code(), &*reason(status)), (code, expected), "{what}: {status:?}");
    assert!(Reason::ALL.iter().any(|reason| reason.code() == expected), "{what}: {expected}");
    let page = std::fs::read_to_string("docs/errors.md").expect("the page");
    assert!(page.contains(&format!("| `{expected}` |")), "docs/errors.md has no {expected}");
}

/// Requests, each with a description, its path, and the code and the reason that it is refused with.
type Cases<'a> = Vec<(&'a str, &'a str, Frames, Code, &'a str)>;

async fn check_all(h: &Harness, cases: Cases<'_>) {
    for (what, path, frames, code, reason) in cases {
        check(what, &wire::status(h, path, frames).await, code, reason);
    }
}

/// Ways to spoil the frames of one message, which every RPC refuses alike.
fn spoiled(path: &str, with: impl Fn(Frames) -> Frames) -> Cases<'_> {
    let malformed = (Code::InvalidArgument, "REQUEST_MALFORMED");
    let compressed = (Code::Unimplemented, "COMPRESSION_UNSUPPORTED");
    let too_large = (Code::OutOfRange, "MESSAGE_TOO_LARGE");
    let cases = [
        ("compressed by its header", Frames::of(&[b""]).with("grpc-encoding", "gzip"), compressed),
        ("compressed by its flag", Frames::raw(*b"\x01\x00\x00\x00\x00"), compressed),
        ("another flag", Frames::raw(*b"\x07\x00\x00\x00\x00"), malformed),
        ("four gigabytes announced", Frames::raw(*b"\x00\xff\xff\xff\xff"), too_large),
    ];
    let cases = cases.into_iter();
    cases.map(|(what, frames, (code, reason))| (what, path, with(frames), code, reason)).collect()
}

/// Further ways, for a message that is the only one of its call.
fn spoiled_unary(path: &str, with: impl Fn(Frames) -> Frames) -> Cases<'_> {
    let cases = [
        ("no message", Frames::raw(*b"")),
        ("a part of a frame's head", Frames::raw(*b"\x00\x00")),
        ("a part of a message", Frames::raw(*b"\x00\x00\x00\x00\x05abc")),
        ("two messages", Frames::of(&[b"", b""])),
        ("bytes after the message", Frames::raw(*b"\x00\x00\x00\x00\x00\x00")),
        ("not protobuf", Frames::of(&[b"\xff\xff\xff\xff"])),
        ("a text that is not UTF-8", Frames::of(&[b"\x0a\x02\xc3\x28"])),
    ];
    let malformed =
        |(what, frames)| (what, path, with(frames), Code::InvalidArgument, "REQUEST_MALFORMED");
    let mut all: Cases<'_> = cases.into_iter().map(malformed).collect();
    all.extend(spoiled(path, with));
    all
}

async fn every_malformed_or_refused_call_gets_error_info(h: Harness) {
    let root = h.root().await.authorization().expect("it has a token");
    let gateway = h.gateway().await.authorization().expect("it has a token");
    for path in [INTROSPECT, GET_USER] {
        check_all(&h, spoiled_unary(path, |frames| frames.with("authorization", &root))).await;
    }
    let large = IntrospectRequest { token: "x".repeat(60_000), ..Default::default() };
    let large = Frames::of(&[&large.encode_to_vec()]).with("authorization", &root);
    let too_large = wire::status(&h, INTROSPECT, large).await;
    check("60 kB", &too_large, Code::OutOfRange, "MESSAGE_TOO_LARGE");

    let empty = || Frames::of(&[b""]);
    let by = |caller: &str| empty().with("authorization", caller);
    let nul = GetUserRequest { user: "a\0b".to_owned() }.encode_to_vec();
    let nul = Frames::of(&[&nul]).with("authorization", &root);
    let missing = GetUserRequest { user: "nobody".to_owned() }.encode_to_vec();
    let missing = Frames::of(&[&missing]).with("authorization", &root);
    let invalid = CreateKeyRequest::default().encode_to_vec();
    let invalid = Frames::of(&[&invalid]).with("authorization", &root);
    let create_key = "/sophic.auth.v1.AuthService/CreateKey";
    let watch = "/sophic.auth.v1.AuthService/Watch";
    let bad_cursor = Frames::of(&[b"\x0a\x01x"]).with("authorization", &root);
    let unauthenticated = (Code::Unauthenticated, "CALLER_MISSING");
    let unimplemented = (Code::Unimplemented, "METHOD_UNKNOWN");
    let malformed = (Code::InvalidArgument, "REQUEST_MALFORMED");
    let argument = (Code::InvalidArgument, "ARGUMENT_INVALID");
    let cases = [
        ("no caller", INTROSPECT, empty(), unauthenticated),
        ("another scheme", INTROSPECT, by("Basic eDp5"), unauthenticated),
        ("unknown", INTROSPECT, by("Bearer x"), (Code::Unauthenticated, "CALLER_UNKNOWN")),
        ("no permission", create_key, by(&gateway), (Code::PermissionDenied, "PERMISSION_MISSING")),
        ("an unknown method", "/sophic.auth.v1.AuthService/No", by(&root), unimplemented),
        ("an unknown method", "/sophic.auth.v1.AuthService/No", empty(), unimplemented),
        ("an unknown service", "/no.Service/Introspect", by(&root), unimplemented),
        ("no path", "/", by(&root), unimplemented),
        ("a timeout that is none", INTROSPECT, by(&root).with("grpc-timeout", "1y"), malformed),
        ("a NUL", GET_USER, nul, argument),
        ("invalid fields", create_key, invalid, argument),
        ("a cursor that is none", watch, bad_cursor, argument),
        ("nobody", GET_USER, missing, (Code::NotFound, "USER_NOT_FOUND")),
    ];
    let cases = cases.into_iter();
    let cases = cases.map(|(what, path, frames, (code, why))| (what, path, frames, code, why));
    check_all(&h, cases.collect()).await;
}

async fn health_and_reflection_send_error_info_too(h: Harness) {
    for path in [HEALTH, HEALTH_WATCH] {
        check_all(&h, spoiled_unary(path, |frames| frames)).await;
        let unknown = HealthCheckRequest { service: "no.such.Service".to_owned() };
        let unknown = wire::status(&h, path, Frames::of(&[&unknown.encode_to_vec()])).await;
        check("no such service", &unknown, Code::NotFound, "NAME_NOT_FOUND");
        assert!(!unknown.message().contains("such.Service"), "{unknown:?}");
    }
    let method = wire::status(&h, "/grpc.health.v1.Health/No", Frames::of(&[b""])).await;
    check("an unknown method of health", &method, Code::Unimplemented, "METHOD_UNKNOWN");
    for path in [REFLECTION, REFLECTION_ALPHA] {
        check_all(&h, spoiled(path, |frames| frames)).await;
        // The messages of both versions are the same on the wire.
        let ask = async |request: Option<MessageRequest>| -> Status {
            let request =
                ServerReflectionRequest { message_request: request, ..Default::default() };
            // Answers are a stream, whose trailers have the status.
            wire::status(&h, path, Frames::of(&[&request.encode_to_vec()])).await
        };
        let symbol = ask(Some(MessageRequest::FileContainingSymbol("no.Symbol".to_owned()))).await;
        check("no such symbol", &symbol, Code::NotFound, "NAME_NOT_FOUND");
        let file = ask(Some(MessageRequest::FileByFilename("no.proto".to_owned()))).await;
        check("no such file", &file, Code::NotFound, "NAME_NOT_FOUND");
        check("no question", &ask(None).await, Code::InvalidArgument, "REQUEST_MALFORMED");
    }
}

async fn limits_on_time_and_requests_send_error_info(h: Harness) {
    let root = h.root().await.authorization().expect("it has a token");
    let passed = Frames::of(&[b""]).with("authorization", &root).with("grpc-timeout", "0n");
    let passed = wire::status(&h, GET_USER, passed).await;
    check("a deadline that has passed", &passed, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let never_whole = || Frames::raw(*b"\x00\x00").with("authorization", &root).without_end();
    for path in [INTROSPECT, GET_USER] {
        let slow = never_whole().with("grpc-timeout", "20m");
        let slow = wire::status(&h, path, slow).await;
        check("a message that never ends", &slow, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }

    let narrow = h.another(|config| config.limits.requests_max = 1).await;
    // One of them stays open, and the others are refused.
    let open = (0..8).map(|_| Box::pin(wire::send(&narrow, GET_USER, never_whole())));
    let (refused, _, _) = within("a request is refused", futures::future::select_all(open)).await;
    check("one too many", &refused.status(), Code::ResourceExhausted, "OVERLOADED");
    narrow.running.stop().await;
    let brief = h.another(|config| config.limits.request_timeout = Duration::from_millis(20)).await;
    let health = wire::status(&brief, HEALTH, Frames::raw(*b"\x00").without_end()).await;
    check("a slow health check", &health, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let reflection = wire::status(&brief, REFLECTION, Frames::raw(*b"\x00").without_end()).await;
    check("slow reflection", &reflection, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    brief.running.stop().await;
}

async fn a_service_that_is_switched_off_is_an_unknown_method(h: Harness) {
    let silent = h.another(|config| config.reflection = false).await;
    for path in [REFLECTION, REFLECTION_ALPHA] {
        let status = wire::status(&silent, path, Frames::of(&[b""])).await;
        check("no reflection", &status, Code::Unimplemented, "METHOD_UNKNOWN");
    }
    silent.running.stop().await;
}

/// Decodes the details of an error as grpcurl does, from what reflection says about their types.
async fn reflection_describes_the_details_of_an_error(h: Harness) {
    let root = h.root().await.authorization().expect("it has a token");
    let invalid = IntrospectRequest { required_scopes: vec![99], ..Default::default() };
    let invalid = Frames::of(&[&invalid.encode_to_vec()]).with("authorization", &root);
    let status = wire::status(&h, INTROSPECT, invalid).await;
    let mut described = Described { h: &h, pool: DescriptorPool::new() };
    described.add(MessageRequest::FileContainingSymbol("google.rpc.Status".to_owned())).await;
    let status = described.decode("google.rpc.Status", status.details());
    let details = status.get_field_by_name("details").expect("a field").into_owned();
    let mut decoded = Vec::new();
    for any in details.as_list().expect("a list") {
        let any = any.as_message().expect("an Any");
        let text = any.get_field_by_name("type_url").expect("a type").as_str().map(str::to_owned);
        let name = text.expect("a text").rsplit('/').next().expect("a name").to_owned();
        let value = any.get_field_by_name("value").expect("a value").as_bytes().cloned();
        described.add(MessageRequest::FileContainingSymbol(name.clone())).await;
        decoded.push(described.decode(&name, &value.expect("bytes")));
    }
    let shown = format!("{decoded:?}");
    for part in ["ARGUMENT_INVALID", "auth.sophic.so", "required_scopes"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

/// What reflection has said so far.
struct Described<'a> {
    h: &'a Harness,
    pool: DescriptorPool,
}

impl Described<'_> {
    /// Asks for a file, and for those that it imports.
    async fn add(&mut self, question: MessageRequest) {
        let files = within("the files are described", async {
            let (mut open, mut files) = (vec![question], Vec::new());
            while let Some(question) = open.pop() {
                let file = self.ask(question).await;
                let imported = file.dependency.iter().cloned();
                open.extend(imported.map(MessageRequest::FileByFilename));
                files.push(file);
            }
            files
        })
        .await;
        self.pool.add_file_descriptor_protos(files).expect("well-formed files");
    }

    async fn ask(&self, question: MessageRequest) -> FileDescriptorProto {
        let request = Some(question);
        let request = ServerReflectionRequest { message_request: request, ..Default::default() };
        let frames = Frames::of(&[&request.encode_to_vec()]);
        let answer = wire::send(self.h, REFLECTION, frames).await;
        let answer = ServerReflectionResponse::decode(&answer.body[5..]).expect("a message");
        let Some(MessageResponse::FileDescriptorResponse(found)) = answer.message_response else {
            panic!("no file: {answer:?}")
        };
        FileDescriptorProto::decode(&*found.file_descriptor_proto[0]).expect("a file")
    }

    fn decode(&self, name: &str, bytes: &[u8]) -> DynamicMessage {
        let message = self.pool.get_message_by_name(name).unwrap_or_else(|| panic!("no {name}"));
        DynamicMessage::decode(message, bytes).expect("a message of this type")
    }
}

async fn what_is_not_grpc_gets_no_grpc_status(h: Harness) {
    for content_type in ["application/json", "application/grpc+json", "application/grpc-web"] {
        let frames = Frames::of(&[b""]).without("content-type").with("content-type", content_type);
        let answer = wire::send(&h, INTROSPECT, frames).await;
        assert_eq!(answer.http, 415, "{content_type}");
        assert!(answer.headers.get("grpc-status").is_none(), "{content_type}: {answer:?}");
    }
}
