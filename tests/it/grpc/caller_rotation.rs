//! Rotation of callers: the old token stays valid for the overlap, and a lost answer does not lock the caller out.

use std::time::SystemTime;

use prost_types::Duration;
use sophic_auth::grpc::pb::{
    IntrospectRequest, RevokeCallerRequest, RotateCallerRequest, RotateCallerResponse,
    UpdateCallerRequest, WatchRequest,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};

use super::audit::of_action;
use super::refusal::{fields, refused};
use super::retried::{brief, freeze};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{eventually_some, within};

on_every_store! {
    a_caller_rotates_itself_and_its_old_token_works_for_ten_minutes,
    at_the_end_of_the_overlap_the_old_token_is_refused_on_the_open_connection_too,
    a_watch_by_the_old_token_ends_with_the_overlap,
    without_an_overlap_every_server_refuses_the_old_token,
    an_unconfirmed_rotation_shows_its_token_and_is_pending,
    a_retry_replaces_no_token_that_its_service_has_used_here,
    an_update_to_the_present_name_waits_for_a_rotation,
    a_retry_returns_a_new_token_and_keeps_the_overlap_of_the_old_one,
    a_late_or_different_retry_is_refused,
    a_caller_that_is_revoked_loses_both_tokens,
    an_overlap_is_not_negative_and_at_most_seven_days,
}

const REQUEST: &str = "6f6f1d52-6b6e-4f0c-9d5e-2f8f2c1a7b11";

fn of(caller: &str, seconds: i64) -> RotateCallerRequest {
    let overlap = Some(Duration { seconds, nanos: 0 });
    RotateCallerRequest { caller: caller.to_owned(), overlap, ..Default::default() }
}

async fn rotate(
    actor: &Actor,
    request: RotateCallerRequest,
) -> Result<RotateCallerResponse, Status> {
    actor.admin().rotate_caller(request).await.map(tonic::Response::into_inner)
}

async fn calls(actor: &Actor) -> Result<(), Status> {
    actor.auth().introspect(IntrospectRequest::default()).await.map(drop)
}

fn unknown() -> (Code, String) {
    (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned())
}

async fn service(h: &Harness) -> Actor {
    h.caller("gateway", &[Permission::Introspect, Permission::CallersAdmin]).await
}

async fn a_caller_rotates_itself_and_its_old_token_works_for_ten_minutes(h: Harness) {
    let gateway = service(&h).await;
    let request = RotateCallerRequest { caller: "gateway".to_owned(), ..Default::default() };
    let rotated = rotate(&gateway, request).await.expect("it may");
    assert!(!rotated.end_pending);
    let caller = rotated.caller.expect("a caller");
    let end = caller.previous_token_expire_time.expect("it lives on").seconds;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let left = end - i64::try_from(now.as_secs()).expect("small");
    assert!((500..=601).contains(&left), "{left}");
    let new = h.with_token(&rotated.token);
    for actor in [&gateway, &new, &h.reconnected(&gateway).await] {
        calls(actor).await.expect("both are good");
    }
    let root = h.root().await;
    assert_eq!(of_action(&root, "caller.rotate").await.len(), 1);
    // After another rotation the oldest token is refused.
    rotate(&new, of("gateway", 60)).await.expect("it may");
    calls(&new).await.expect("it is the one from before");
    assert_eq!(refused(calls(&gateway).await), unknown());
}

async fn at_the_end_of_the_overlap_the_old_token_is_refused_on_the_open_connection_too(h: Harness) {
    let other = h.another(|_| {}).await;
    let gateway = service(&h).await;
    let there = gateway.via(&other);
    let rotated = rotate(&gateway, of("gateway", 2)).await.expect("it may");
    let end = rotated.caller.expect("a caller").previous_token_expire_time.expect("it has an end");
    let end = SystemTime::try_from(end).expect("a time");
    for actor in [&gateway, &there] {
        let refusal = eventually_some("the old token is refused", async || {
            let asked = SystemTime::now();
            let outcome = calls(actor).await;
            assert!(outcome.is_err() || asked < end, "it is accepted after its end");
            outcome.err()
        })
        .await;
        assert!(SystemTime::now() >= end, "not before its time");
        assert_eq!(refused::<()>(Err(refusal)), unknown());
        calls(&actor.with_token(&rotated.token)).await.expect("the new one is good");
    }
}

async fn a_watch_by_the_old_token_ends_with_the_overlap(h: Harness) {
    let gateway = service(&h).await;
    let rotated = rotate(&gateway, of("gateway", 2)).await.expect("it may");
    let end = rotated.caller.expect("a caller").previous_token_expire_time.expect("it has an end");
    let late = SystemTime::try_from(end).expect("a time") + std::time::Duration::from_secs(30);
    let stream = gateway.auth().watch(WatchRequest::default()).await.expect("it may listen");
    let mut stream = stream.into_inner();
    let ended = within("the watch ends with the overlap", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => assert!(SystemTime::now() < late, "it goes on after the end"),
                Ok(None) => panic!("it ends with a reason"),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert_eq!(refused::<()>(Err(ended)), unknown());
}

async fn without_an_overlap_every_server_refuses_the_old_token(h: Harness) {
    let other = h.another(|_| {}).await;
    let gateway = service(&h).await;
    let there = gateway.via(&other);
    calls(&there).await.expect("it may");
    let rotated = rotate(&gateway, of("gateway", 0)).await.expect("it may");
    let caller = rotated.caller.expect("a caller");
    assert_eq!((rotated.end_pending, caller.previous_token_expire_time), (false, None));
    for actor in [&gateway, &there] {
        assert_eq!(refused(calls(actor).await), unknown());
        calls(&actor.with_token(&rotated.token)).await.expect("the new one is good");
    }
    let root = h.root().await;
    for action in ["caller.rotate", "caller.end_previous_token"] {
        assert_eq!(of_action(&root, action).await.len(), 1, "{action}");
    }
}

async fn an_unconfirmed_rotation_shows_its_token_and_is_pending(h: Harness) {
    let gateway = service(&h).await;
    let (mut feed, id) = freeze(&h).await;
    let here = brief(&h).await;
    for overlap in [3_600, 0] {
        let request = RotateCallerRequest {
            request_id: uuid::Uuid::from_u128(u128::from(overlap == 0) + 1).to_string(),
            ..of("gateway", overlap)
        };
        // With its first token, as long as that is valid.
        let by = if overlap == 0 { h.root().await } else { gateway.clone() };
        let first = rotate(&by.via(&here), request.clone()).await.expect("it is done");
        assert!(first.end_pending);
        let again = rotate(&by.via(&here), request).await.expect("it is done");
        assert!(again.end_pending, "asking again waits on");
        assert_eq!(refused(calls(&h.with_token(&first.token)).await), unknown());
        calls(&h.with_token(&again.token)).await.expect("the newest is good");
    }
    feed.deregister(id).await.expect("it takes leave");
    assert_eq!(refused(calls(&gateway).await), unknown());
}

async fn a_retry_replaces_no_token_that_its_service_has_used_here(h: Harness) {
    let root = h.root().await;
    service(&h).await;
    for (n, overlap) in [(1, 60), (2, 0)] {
        let request_id = uuid::Uuid::from_u128(n).to_string();
        let request = RotateCallerRequest { request_id, ..of("gateway", overlap) };
        let lost = rotate(&root, request.clone()).await.expect("it may");
        let shown = rotate(&root, request.clone()).await.expect("no service uses the lost one");
        assert_eq!(refused(calls(&h.with_token(&lost.token)).await), unknown());
        let new = h.with_token(&shown.token);
        calls(&new).await.expect("it is deployed");
        let replayed = (Code::AlreadyExists, "REQUEST_REPLAYED".to_owned());
        assert_eq!(refused(rotate(&root, request).await), replayed);
        calls(&new).await.expect("it stays as it is");
    }
}

async fn an_update_to_the_present_name_waits_for_a_rotation(h: Harness) {
    let root = h.root().await;
    service(&h).await;
    let (mut feed, id) = freeze(&h).await;
    let here = brief(&h).await;
    let there = root.via(&here);
    assert!(rotate(&there, of("gateway", 0)).await.expect("it is done").end_pending);
    let name = "gateway".to_owned();
    let same = UpdateCallerRequest {
        caller: name.clone(),
        name,
        permissions: Vec::new(),
        ..Default::default()
    };
    let pending = (Code::DeadlineExceeded, "BARRIER_PENDING".to_owned());
    assert_eq!(refused(there.admin().update_caller(same.clone()).await), pending);
    feed.deregister(id).await.expect("it takes leave");
    there.admin().update_caller(same).await.expect("every server has confirmed");
}

async fn a_retry_returns_a_new_token_and_keeps_the_overlap_of_the_old_one(h: Harness) {
    let gateway = service(&h).await;
    let request = RotateCallerRequest { request_id: REQUEST.to_owned(), ..of("gateway", 60) };
    let lost = rotate(&gateway, request.clone()).await.expect("it may");
    // A caller that lost the answer has only the old token.
    let shown = rotate(&gateway, request).await.expect("it may");
    let end = |rotated: &RotateCallerResponse| {
        rotated.caller.as_ref().expect("a caller").previous_token_expire_time
    };
    assert_eq!(end(&lost), end(&shown));
    assert_eq!(refused(calls(&h.with_token(&lost.token)).await), unknown());
    for actor in [&gateway, &h.with_token(&shown.token)] {
        calls(actor).await.expect("both are good");
    }
    let root = h.root().await;
    for action in ["caller.rotate", "caller.replay"] {
        assert_eq!(of_action(&root, action).await.len(), 1, "{action}");
    }
}

async fn a_late_or_different_retry_is_refused(h: Harness) {
    let root = h.root().await;
    service(&h).await;
    let request = RotateCallerRequest { request_id: REQUEST.to_owned(), ..of("gateway", 60) };
    rotate(&root, request.clone()).await.expect("it may");
    let other = RotateCallerRequest { request_id: REQUEST.to_owned(), ..of("gateway", 61) };
    assert_eq!(fields(rotate(&root, other).await), ["request_id"]);
    let newest = rotate(&root, of("gateway", 60)).await.expect("it may");
    let replayed = (Code::AlreadyExists, "REQUEST_REPLAYED".to_owned());
    assert_eq!(refused(rotate(&root, request).await), replayed);
    calls(&h.with_token(&newest.token)).await.expect("it is as good as before");
}

async fn a_caller_that_is_revoked_loses_both_tokens(h: Harness) {
    let root = h.root().await;
    let gateway = service(&h).await;
    let rotated = rotate(&gateway, of("gateway", 3_600)).await.expect("it may");
    let new = h.with_token(&rotated.token);
    calls(&new).await.expect("it is good");
    calls(&gateway).await.expect("it is good");
    let request = RevokeCallerRequest { caller: "gateway".to_owned() };
    root.admin().revoke_caller(request).await.expect("it is revoked");
    for actor in [&new, &gateway] {
        assert_eq!(refused(calls(actor).await), unknown());
    }
}

async fn an_overlap_is_not_negative_and_at_most_seven_days(h: Harness) {
    let root = h.root().await;
    let gateway = service(&h).await;
    for seconds in [-1, 7 * 86_400 + 1] {
        assert_eq!(fields(rotate(&root, of("gateway", seconds)).await), ["overlap"]);
    }
    calls(&gateway).await.expect("nothing was changed");
    rotate(&root, of("gateway", 7 * 86_400)).await.expect("it may");
}
