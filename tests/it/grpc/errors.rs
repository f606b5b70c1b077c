//! The caller is authorised before its request is decoded, and each refusal has details for programs.

use std::time::Duration;

use sophic_auth::grpc::pb::{CreateKeyRequest, IntrospectRequest, ListWorkspacesRequest};
use sophic_auth::model::Permission;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::refusal::{reason, refused};
use super::wire::{self, Frames};
use crate::harness::Harness;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    a_caller_without_the_permission_is_refused_before_its_request_is_decoded,
    a_call_without_a_caller_is_refused,
    an_unknown_caller_is_refused,
    too_many_requests_at_once_are_refused_with_a_retry_delay,
    a_call_past_its_deadline_is_deadline_exceeded,
    an_rpc_that_does_not_exist_is_unimplemented,
    a_large_introspection_is_refused_on_a_connection_in_use_too,
}

async fn a_caller_without_the_permission_is_refused_before_its_request_is_decoded(h: Harness) {
    let gateway = h.gateway().await;
    // Every field is invalid, but the missing permission is reported first.
    let status = gateway.auth().create_key(CreateKeyRequest::default()).await;
    let status = status.expect_err("it is refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("PERMISSION_MISSING", "auth.sophic.so")
    );
    assert_eq!(info.metadata["permission"], "credentials.write or credentials.admin");
    assert!(status.get_details_bad_request().is_none());
    assert!(status.get_details_retry_info().is_none());
}

async fn a_call_without_a_caller_is_refused(h: Harness) {
    let outcome = h.anonymous().auth().introspect(IntrospectRequest::default()).await;
    assert_eq!(refused(outcome), (Code::Unauthenticated, "CALLER_MISSING".to_owned()));
}

async fn an_unknown_caller_is_refused(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[sophic_auth::grpc::pb::Scope::Read]).await.token;
    let unknown = (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned());
    // Neither a key nor the service token of another deployment authenticates a caller.
    for token in [&key, "nonsense", "sophic_svc_00000000000000000000000000000000000000"] {
        let outcome = h.with_token(token).auth().introspect(IntrospectRequest::default()).await;
        assert_eq!(refused(outcome), unknown);
    }
}

async fn too_many_requests_at_once_are_refused_with_a_retry_delay(h: Harness) {
    let narrow = h.another(|config| config.limits.requests_max = 1).await;
    let root = narrow.root().await;
    let status = within("a request is refused for being one too many", async {
        loop {
            let all = (0..32).map(async |_| {
                root.directory().list_workspaces(ListWorkspacesRequest::default()).await
            });
            let refused = futures::future::join_all(all).await.into_iter().find_map(Result::err);
            if let Some(status) = refused {
                break status;
            }
        }
    })
    .await;
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "OVERLOADED"));
    let retry = status.get_details_retry_info().expect("when to try again");
    assert!(retry.retry_delay.is_some_and(|delay| delay > Duration::ZERO));
    narrow.running.stop().await;
}

async fn a_call_past_its_deadline_is_deadline_exceeded(h: Harness) {
    let root = h.root().await;
    let passed = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    // Written by hand, because a client enforces the deadline itself.
    let frames = Frames::of(&[b""]).with_authorization(root.authorization());
    let path = "/sophic.auth.v1.DirectoryService/ListWorkspaces";
    let status = wire::status(&h, path, frames.with("grpc-timeout", "0n")).await;
    assert_eq!(refused::<()>(Err(status)), passed);
    let hasty = h.another(|config| config.limits.request_timeout = Duration::from_nanos(1)).await;
    let mut directory = root.via(&hasty).directory();
    // A call may be answered before its deadline is checked.
    let outcome = within("a deadline has passed", async {
        loop {
            let outcome = directory.list_workspaces(ListWorkspacesRequest::default()).await;
            if outcome.is_err() {
                break outcome;
            }
        }
    })
    .await;
    assert_eq!(refused(outcome), passed);
    hasty.running.stop().await;
}

async fn an_rpc_that_does_not_exist_is_unimplemented(h: Harness) {
    let root = h.caller("someone", &[Permission::Introspect]).await;
    let mut client = tonic::client::Grpc::new(root.channel());
    for path in ["/sophic.auth.v1.AuthService/Nothing", "/no.such.Service/Introspect", "/"] {
        client.ready().await.expect("a channel");
        let path = path.parse().expect("a path");
        let codec = tonic_prost::ProstCodec::<IntrospectRequest, IntrospectRequest>::default();
        let outcome = client.unary(Request::new(IntrospectRequest::default()), path, codec).await;
        assert_eq!(refused(outcome), (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()));
    }
}

async fn a_large_introspection_is_refused_on_a_connection_in_use_too(h: Harness) {
    let caller = h.caller("someone", &[Permission::Introspect]).await;
    // The connection knows its caller from now on, and takes what has been received at once.
    caller.introspect("x", "", &[]).await;
    for _ in 0..20 {
        let large = IntrospectRequest { token: "x".repeat(60_000), ..Default::default() };
        let outcome = caller.auth().introspect(large).await;
        assert_eq!(refused(outcome), (Code::OutOfRange, "MESSAGE_TOO_LARGE".to_owned()));
    }
}
