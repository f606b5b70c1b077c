//! Requests whose message does not come to its end: bounded in bytes, in time and in number, whoever sends them.

use std::time::Duration;

use tonic::Code;

use super::refusal::reason;
use super::wire::{self, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    what_anybody_may_ask_has_a_small_message_that_comes_in_time,
    a_message_of_a_caller_is_no_larger_than_its_call_takes,
    a_batch_may_be_large_and_must_end,
}

const HEALTH: &str = "/grpc.health.v1.Health";
const REFLECTIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// A prefix that announces so much, and all of it but the last byte.
fn unfinished(announced: u32) -> Frames {
    let mut body = [&[0][..], &announced.to_be_bytes()].concat();
    body.resize(body.len() + announced as usize - 1, 0);
    Frames::raw(body).without_end()
}

/// A prefix, and nothing behind it.
fn announcing(announced: u32) -> Frames {
    Frames::raw([&[0][..], &announced.to_be_bytes()].concat()).without_end()
}

async fn what_anybody_may_ask_has_a_small_message_that_comes_in_time(h: Harness) {
    let short = Duration::from_millis(300);
    let server = h.another(|config| config.limits.request_timeout = short).await;
    let health = ["Check", "List", "Watch"].map(|rpc| format!("{HEALTH}/{rpc}"));
    let open = health.iter().map(|path| (path.as_str(), 1_024));
    let open = open.chain(REFLECTIONS.map(|path| (path, 16 * 1_024)));
    for (path, bytes_max) in open {
        // It ends; tonic's reflection says of a stream that broke off no more than that.
        let late = wire::status(&server, path, unfinished(bytes_max)).await;
        let expected = if bytes_max == 1_024 { Code::DeadlineExceeded } else { Code::Ok };
        assert_eq!(late.code(), expected, "{path}: {late:?}");
        let large = wire::status(&server, path, announcing(bytes_max + 1)).await;
        assert_eq!(
            (large.code(), &*reason(&large)),
            (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
            "{path}: {large:?}"
        );
    }
}

async fn a_message_of_a_caller_is_no_larger_than_its_call_takes(h: Harness) {
    let root = h.root().await;
    let calls = [
        ("/sophic.auth.v1.AuthService/Introspect", 16),
        ("/sophic.auth.v1.AuthService/Watch", 64),
        ("/sophic.auth.v1.AuthService/CreateKey", 64),
        ("/sophic.auth.v1.AuthService/GetCredential", 64),
        ("/sophic.auth.v1.DirectoryService/PutUser", 64),
        ("/sophic.auth.v1.DirectoryService/ListUsers", 64),
        ("/sophic.auth.v1.AdminService/CreateCaller", 16),
        ("/envoy.service.auth.v3.Authorization/Check", 128),
        ("/sophic.auth.v1.AuthService/BatchIntrospect", 1_024),
        ("/sophic.auth.v1.AuthService/RevokeLeaked", 1_024),
    ];
    for (path, kib_max) in calls {
        // Not waited for: what is too large is refused by what it announces.
        let frames = announcing(kib_max * 1_024 + 1).with_authorization(root.authorization());
        let status = wire::status(&h, path, frames).await;
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
            "{path}: {status:?}"
        );
        // In the clear under another name it is no larger.
        let frames = announcing(kib_max * 1_024 + 1)
            .with("grpc-encoding", "identity")
            .with_authorization(root.authorization());
        assert_eq!(wire::status(&h, path, frames).await.code(), Code::OutOfRange, "{path}");
    }
}

async fn a_batch_may_be_large_and_must_end(h: Harness) {
    let short = Duration::from_millis(300);
    let server = h.another(|config| config.limits.request_timeout = short).await;
    let root = h.root().await;
    let batch = "/sophic.auth.v1.AuthService/BatchIntrospect";
    let frames = unfinished(64 * 1_024 - 64).with_authorization(root.authorization());
    let late = wire::status(&server, batch, frames).await;
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
}
