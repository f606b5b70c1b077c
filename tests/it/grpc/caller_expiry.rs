//! Callers that expire: refused from then on everywhere, and giving nobody more time than they have.

use std::time::SystemTime;

use sophic_auth::grpc::pb::{
    self, Caller, CreateCallerRequest, IntrospectRequest, RotateCallerRequest, UpdateCallerRequest,
    WatchRequest, create_caller_request, update_caller_request,
};
use tonic::{Code, Status};

use super::audit::of_action;
use super::refusal::{fields, refused};
use super::retried::{brief, freeze};
use crate::faces::wire::Call;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::store::rules::{end_all, registration_of_0_1};
use crate::stores::on_every_store;
use crate::waits::{eventually_some, within};

on_every_store! {
    an_expired_caller_is_refused_at_every_server_and_face_until_it_gets_more_time,
    an_expiry_is_brought_forward_moved_back_and_removed,
    a_watch_ends_when_its_caller_expires,
    a_caller_that_expires_gives_nobody_more_time_than_it_has,
    more_time_for_a_caller_needs_its_permissions,
    a_retry_that_would_now_give_more_time_is_refused_only_after_the_wait,
    an_expiry_is_in_the_future_and_at_most_one_is_given,
    no_caller_expires_while_a_server_of_an_earlier_release_runs,
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// Creates a caller that expires after this many seconds, and returns it with its token.
async fn create(
    by: &Actor,
    name: &str,
    permissions: &[&str],
    ttl: Option<i64>,
) -> Result<(Caller, String), Status> {
    let request = CreateCallerRequest {
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        expiration: ttl.map(|ttl| create_caller_request::Expiration::Ttl(seconds(ttl))),
        ..Default::default()
    };
    let made = by.admin().create_caller(request).await?.into_inner();
    Ok((made.caller.expect("it is given"), made.token))
}

async fn update(
    by: &Actor,
    caller: &str,
    expiration: update_caller_request::Expiration,
) -> Result<Caller, Status> {
    let request = UpdateCallerRequest {
        caller: caller.to_owned(),
        expiration: Some(expiration),
        ..Default::default()
    };
    let updated = by.admin().update_caller(request).await?.into_inner();
    Ok(updated.caller.expect("it is given"))
}

fn at(time: prost_types::Timestamp) -> update_caller_request::Expiration {
    update_caller_request::Expiration::ExpireTime(time)
}

fn after(ttl: i64) -> update_caller_request::Expiration {
    update_caller_request::Expiration::Ttl(seconds(ttl))
}

const NEVER: update_caller_request::Expiration =
    update_caller_request::Expiration::RemoveExpiry(true);

async fn calls(actor: &Actor) -> Result<(), Status> {
    actor.auth().introspect(IntrospectRequest::default()).await.map(drop)
}

fn expired() -> (Code, String) {
    (Code::Unauthenticated, "CALLER_EXPIRED".to_owned())
}

fn not_held() -> (Code, String) {
    (Code::PermissionDenied, "LIFETIME_NOT_HELD".to_owned())
}

/// Waits until a call is refused, and checks that none is accepted after `end`, and none refused before it.
async fn refused_at(actor: &Actor, end: prost_types::Timestamp) {
    let end = SystemTime::try_from(end).expect("a time");
    let refusal = eventually_some("the caller is refused", async || {
        let asked = SystemTime::now();
        let outcome = calls(actor).await;
        assert!(outcome.is_err() || asked < end, "it is accepted after its end");
        outcome.err()
    })
    .await;
    assert!(SystemTime::now() >= end, "not before its time");
    assert_eq!(refused::<()>(Err(refusal)), expired());
}

async fn an_expired_caller_is_refused_at_every_server_and_face_until_it_gets_more_time(h: Harness) {
    let (root, other) = (h.root().await, h.another(|_| {}).await);
    let (caller, token) = create(&root, "job", &["introspect"], Some(5)).await.expect("it is made");
    assert_eq!(caller.state(), pb::CredentialState::Active);
    let end = caller.expire_time.expect("it expires");
    let here = h.with_token(&token);
    let there = here.via(&other);
    // Both servers know it, and each connection remembers it.
    calls(&here).await.expect("it may call");
    calls(&there).await.expect("it may call");
    refused_at(&here, end).await;
    refused_at(&there, end).await;
    assert_eq!(refused(calls(&h.reconnected(&here).await).await), expired());
    let authorization = format!("Bearer {token}");
    for (call, header) in [
        (Call::get("/auth"), "x-sophic-auth-caller"),
        (Call::form("/oauth2/introspect", &[("token", "x")]), "authorization"),
    ] {
        let reply = call.header(header, &authorization).send(h.running.http).await;
        assert!(reply.body.contains("CALLER_EXPIRED"), "{reply:?}");
    }
    let request = RotateCallerRequest { caller: "job".to_owned(), ..Default::default() };
    let rotated = root.admin().rotate_caller(request).await.expect("it may").into_inner();
    let rotated_caller = rotated.caller.expect("it is given");
    assert_eq!(rotated_caller.state(), pb::CredentialState::Expired, "a new token, no more time");
    assert_eq!(refused(calls(&h.with_token(&rotated.token)).await), expired());
    let again = update(&root, "job", after(3_600)).await.expect("it lives again");
    assert_eq!(again.state(), pb::CredentialState::Active);
    for actor in [&here, &h.with_token(&rotated.token)] {
        calls(actor).await.expect("its old token has its overlap");
    }
    other.running.stop().await;
}

async fn an_expiry_is_brought_forward_moved_back_and_removed(h: Harness) {
    let (root, other) = (h.root().await, h.another(|_| {}).await);
    let (_, token) = create(&root, "job", &["introspect"], None).await.expect("it is made");
    let there = h.with_token(&token).via(&other);
    calls(&there).await.expect("it may call");
    let first = update(&root, "job", after(3_600)).await.expect("it gets an expiry");
    let sooner = update(&root, "job", after(3)).await.expect("it is brought forward");
    assert_ne!(first.etag, sooner.etag);
    let end = sooner.expire_time.expect("it expires");
    // The same call again changes nothing, also after that time.
    refused_at(&there, end).await;
    let same = update(&root, "job", at(end)).await.expect("it is the present one");
    assert_eq!((&same.etag, same.state()), (&sooner.etag, pb::CredentialState::Expired));
    let removed = update(&root, "job", NEVER).await.expect("it is removed");
    assert_eq!(removed.expire_time, None);
    h.wait_until_read_by(&other).await;
    calls(&there).await.expect("it lives again");
    let events = of_action(&root, "caller.update").await;
    assert_eq!(events.len(), 4);
    for pair in events[..3].windows(2) {
        assert_eq!(pair[0].after, pair[1].before, "the history has no gap");
    }
    other.running.stop().await;
}

async fn a_watch_ends_when_its_caller_expires(h: Harness) {
    let root = h.root().await;
    let (caller, token) = create(&root, "cache", &["introspect"], Some(5)).await.expect("made");
    let end = SystemTime::try_from(caller.expire_time.expect("it expires")).expect("a time");
    let stream = h.with_token(&token).auth().watch(WatchRequest::default()).await;
    let mut stream = stream.expect("it may listen").into_inner();
    let ended = within("the Watch ends", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends with a reason"),
                Err(status) => break status,
            }
        }
    })
    .await;
    assert!(SystemTime::now() >= end, "not before its time");
    assert_eq!(refused::<()>(Err(ended)), expired());
}

async fn a_caller_that_expires_gives_nobody_more_time_than_it_has(h: Harness) {
    let root = h.root().await;
    let all = ["introspect", "callers.admin"];
    let (made, token) = create(&root, "brief", &all, Some(3_600)).await.expect("it is made");
    let (brief, end) = (h.with_token(&token), made.expire_time.expect("it expires"));
    create(&root, "long", &all, None).await.expect("it is made");
    // It cannot create one that outlives it, nor extend or take over one.
    assert_eq!(refused(create(&brief, "new", &all, None).await), not_held());
    assert_eq!(refused(create(&brief, "new", &all, Some(7_200)).await), not_held());
    let rotate = RotateCallerRequest { caller: "long".to_owned(), ..Default::default() };
    assert_eq!(refused(brief.admin().rotate_caller(rotate).await), not_held());
    for change in [after(7_200), NEVER] {
        assert_eq!(refused(update(&brief, "brief", change).await), not_held(), "not even its own");
    }
    // Nor add a permission to one, which would then last longer than itself.
    create(&root, "weak", &["introspect"], None).await.expect("it is made");
    let permissions = |caller: &str, permissions: &[&str]| UpdateCallerRequest {
        caller: caller.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let outcome = brief.admin().update_caller(permissions("weak", &all)).await;
    assert_eq!(refused(outcome), not_held());
    let fewer = brief.admin().update_caller(permissions("long", &["introspect"])).await;
    fewer.expect("taking away gives nothing");
    // What is shorter it may, and take time away from anybody.
    create(&brief, "shorter", &all, Some(60)).await.expect("it is shorter");
    update(&brief, "shorter", at(end)).await.expect("not later than its own");
    assert_eq!(refused(update(&brief, "shorter", NEVER).await), not_held());
    update(&brief, "long", after(86_400)).await.expect("it is less than for ever");
    let rotate = RotateCallerRequest { caller: "brief".to_owned(), ..Default::default() };
    let rotated = brief.admin().rotate_caller(rotate).await.expect("itself").into_inner();
    assert_eq!(rotated.caller.expect("it is given").expire_time, Some(end));
    update(&brief, "brief", after(60)).await.expect("its own, brought forward");
    update(&root, "brief", NEVER).await.expect("by another");
}

async fn more_time_for_a_caller_needs_its_permissions(h: Harness) {
    let root = h.root().await;
    let (_, token) = create(&root, "admin", &["callers.admin"], None).await.expect("it is made");
    let admin = h.with_token(&token);
    create(&root, "auditor", &["audit.read"], Some(3_600)).await.expect("it is made");
    let expected = (Code::PermissionDenied, "PERMISSION_NOT_HELD".to_owned());
    for change in [after(7_200), NEVER] {
        assert_eq!(refused(update(&admin, "auditor", change).await), expected);
    }
    update(&admin, "auditor", after(60)).await.expect("it is less time");
}

async fn a_retry_that_would_now_give_more_time_is_refused_only_after_the_wait(h: Harness) {
    let (root, here) = (h.root().await, brief(&h).await);
    let (_, token) = create(&root, "admin", &["callers.admin"], None).await.expect("it is made");
    let admin = h.with_token(&token).via(&here);
    create(&root, "auditor", &["audit.read"], None).await.expect("it is made");
    let (mut feed, id) = freeze(&h).await;
    for expected in ["BARRIER_PENDING", "REFUSAL_PENDING"] {
        let refusal = refused(update(&admin, "auditor", after(600)).await);
        assert_eq!(refusal, (Code::DeadlineExceeded, expected.to_owned()));
    }
    feed.deregister(id).await.expect("it takes leave");
    here.running.stop().await;
}

async fn an_expiry_is_in_the_future_and_at_most_one_is_given(h: Harness) {
    let root = h.root().await;
    create(&root, "job", &["introspect"], None).await.expect("it is made");
    let past = prost_types::Timestamp { seconds: 1, nanos: 0 };
    let no = update_caller_request::Expiration::RemoveExpiry(false);
    for (change, field) in
        [(at(past), "expire_time"), (after(0), "ttl"), (after(-1), "ttl"), (no, "remove_expiry")]
    {
        assert_eq!(fields(update(&root, "job", change).await), [field]);
    }
    assert_eq!(fields(create(&root, "other", &["introspect"], Some(0)).await), ["ttl"]);
}

async fn no_caller_expires_while_a_server_of_an_earlier_release_runs(h: Harness) {
    let root = h.root().await;
    create(&root, "job", &["introspect"], None).await.expect("it is made");
    raw::run(&h.database, &registration_of_0_1(&h.database, 1)).await;
    let expected = (Code::FailedPrecondition, "REPLICA_TOO_OLD".to_owned());
    assert_eq!(refused(create(&root, "new", &["introspect"], Some(9)).await), expected);
    let request = UpdateCallerRequest {
        caller: "job".to_owned(),
        expiration: Some(after(9)),
        ..Default::default()
    };
    // The old server confirms nothing, so the refusal waits until it is given up.
    let refusal = root.admin().update_caller(request.clone()).await;
    assert_eq!(refused(refusal), expected);
    raw::run(&h.database, &format!("{} AND rules = 0", end_all(&h.database))).await;
    root.admin().update_caller(request).await.expect("it has left");
    let old = raw::try_run(&h.database, &registration_of_0_1(&h.database, 2)).await;
    let refusal = old.expect_err("it would accept the caller after its expiry");
    assert!(refusal.contains("earlier release"), "{refusal}");
}
