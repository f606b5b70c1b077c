//! Requests whose message does not end are bounded in bytes, time and number, with or without a caller.

use std::time::Duration;

use tonic::Code;

use super::refusal::reason;
use super::wire::{self, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;

on_every_store! {
    an_unauthenticated_message_must_be_small_and_arrive_in_time,
    a_callers_message_is_limited_by_its_rpc,
    a_batch_may_be_large_and_must_arrive_in_time,
}

const HEALTH: &str = "/grpc.health.v1.Health";
const REFLECTIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// A prefix that announces this many bytes, and all of them but the last.
fn unfinished(announced: u32) -> Frames {
    let mut body = [&[0][..], &announced.to_be_bytes()].concat();
    body.resize(body.len() + announced as usize - 1, 0);
    Frames::raw(body).without_end()
}

/// A prefix without a message.
fn announcing(announced: u32) -> Frames {
    Frames::raw([&[0][..], &announced.to_be_bytes()].concat()).without_end()
}

async fn an_unauthenticated_message_must_be_small_and_arrive_in_time(h: Harness) {
    let short = Duration::from_millis(300);
    let server = h.another(|config| config.limits.request_timeout = short).await;
    let health = ["Check", "List", "Watch"].map(|rpc| format!("{HEALTH}/{rpc}"));
    let open = health.iter().map(|path| (path.as_str(), 1_024));
    let open = open.chain(REFLECTIONS.map(|path| (path, 16 * 1_024)));
    for (path, bytes_max) in open {
        // The stream ends. tonic's reflection reports no error for one that breaks off.
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

async fn a_callers_message_is_limited_by_its_rpc(h: Harness) {
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
        // Refused without waiting, because of the announced length.
        let frames = announcing(kib_max * 1_024 + 1).with_authorization(root.authorization());
        let status = wire::status(&h, path, frames).await;
        assert_eq!(
            (status.code(), &*reason(&status)),
            (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
            "{path}: {status:?}"
        );
        // `identity` is a name for no compression, and the limit is the same.
        let frames = announcing(kib_max * 1_024 + 1)
            .with("grpc-encoding", "identity")
            .with_authorization(root.authorization());
        assert_eq!(wire::status(&h, path, frames).await.code(), Code::OutOfRange, "{path}");
    }
}

async fn a_batch_may_be_large_and_must_arrive_in_time(h: Harness) {
    let short = Duration::from_millis(300);
    let server = h.another(|config| config.limits.request_timeout = short).await;
    let root = h.root().await;
    let batch = "/sophic.auth.v1.AuthService/BatchIntrospect";
    let frames = unfinished(64 * 1_024 - 64).with_authorization(root.authorization());
    let late = wire::status(&server, batch, frames).await;
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
}
