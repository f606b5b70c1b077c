//! A rotation without an overlap that fails between its two steps: the next call about it does the second.

use sophic_auth::grpc::pb::{self, Denial, RotateRequest, Scope, UpdateCredentialRequest};
use tonic::Code;

use super::refusal::refused;
use super::retried::{brief, freeze};
use super::rotate::{of, rotate};
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::{Database, on_every_store};

on_every_store! {
    a_retry_does_what_the_first_try_decided_under_any_policy,
    what_a_server_of_0_1_left_half_done_is_done_by_the_next_call,
    a_refused_rotation_first_ends_the_old_token,
    a_refused_rotation_that_has_ended_the_old_token_does_not_claim_that_it_changed_nothing,
    a_refused_rotation_leaves_an_overlap_alone,
    a_retry_ends_the_old_token_when_the_successor_is_revoked_already,
    a_stranger_ends_nothing,
    a_retry_that_is_too_late_ends_the_old_token,
    an_interrupted_caller_rotation_is_done_by_its_retry,
    its_retry_finds_the_caller_by_the_old_name_too,
}

const REQUEST: &str = "0195f2d4-0000-4000-8000-000000000001";

/// Makes the second step fail, as if the server had died before it. `column` of `table` is what that step changes.
async fn refuse_second_step(database: &Database, table: &str, change: &str) {
    let text = match database.file() {
        Some(_) => format!(
            "CREATE TRIGGER no_second_step BEFORE UPDATE ON {table} WHEN {change} \
             BEGIN SELECT RAISE(ABORT, 'no second step'); END"
        ),
        None => format!(
            "CREATE FUNCTION no_second_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 RAISE EXCEPTION 'no second step'; END $$; \
             CREATE TRIGGER no_second_step BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({change}) \
                 EXECUTE FUNCTION no_second_step()"
        ),
    };
    raw::run(database, &text).await;
}

async fn allow_second_step(database: &Database, table: &str) {
    let on = if database.file().is_some() { String::new() } else { format!(" ON {table}") };
    raw::run(database, &format!("DROP TRIGGER no_second_step{on}")).await;
    if database.file().is_none() {
        raw::run(database, "DROP FUNCTION no_second_step").await;
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn key(root: &Actor) -> (pb::Credential, String) {
    let key = root.create_key("acme", &[Scope::Read]).await;
    (key.credential.expect("it is given"), key.token)
}

/// Rotates a key by this request, except for the second step. Returns the new token.
async fn half(h: &Harness, root: &Actor, request: RotateRequest) -> String {
    let change = "OLD.revoke_time IS NULL AND NEW.revoke_time IS NOT NULL";
    refuse_second_step(&h.database, "credentials", change).await;
    let rotated = rotate(root, request).await.expect("its token is shown");
    assert!(rotated.end_pending);
    allow_second_step(&h.database, "credentials").await;
    rotated.token
}

async fn denial(actor: &Actor, token: &str) -> Denial {
    actor.introspect(token, "acme", &[]).await.denial()
}

async fn a_retry_does_what_the_first_try_decided_under_any_policy(h: Harness) {
    let root = h.root().await;
    let acme = root.put_workspace("acme").await;
    let changes = [
        pb::Workspace { id: acme.id.clone(), disabled: Some(true), ..Default::default() },
        pb::Workspace {
            id: acme.id.clone(),
            policy: Some(pb::WorkspacePolicy { overlap_min: seconds(30), ..Default::default() }),
            ..Default::default()
        },
    ];
    for (change, n) in changes.into_iter().zip(1..) {
        let (old, token) = key(&root).await;
        let request_id = uuid::Uuid::from_u128(n).to_string();
        let request = RotateRequest { request_id, ..of(&old.id) };
        half(&h, &root, request.clone()).await;
        assert!(root.introspect(&token, "acme", &[]).await.active);
        root.put(change).await;
        let again = rotate(&root, request).await.expect("another token is shown");
        let predecessor = again.predecessor.expect("the old one");
        assert!(!again.end_pending && predecessor.revoke_time.is_some(), "{predecessor:?}");
        let enabled = Some(false);
        root.put(pb::Workspace { id: acme.id.clone(), disabled: enabled, ..Default::default() })
            .await;
        assert_eq!(denial(&root, &token).await, Denial::TokenRevoked);
        assert!(root.introspect(&again.token, "acme", &[]).await.active);
    }
    // The other way round: the policy demands no overlap any more.
    let (old, token) = key(&root).await;
    let request = RotateRequest { request_id: REQUEST.to_owned(), ..of(&old.id) };
    rotate(&root, request.clone()).await.expect("it is rotated");
    let policy = Some(pb::WorkspacePolicy { overlap_min: seconds(0), ..Default::default() });
    root.put(pb::Workspace { id: acme.id, policy, ..Default::default() }).await;
    let again = rotate(&root, request).await.expect("another token is shown");
    assert_eq!(again.predecessor.expect("the old one").revoke_time, None);
    assert!(root.introspect(&token, "acme", &[]).await.active, "it keeps its overlap");
}

async fn what_a_server_of_0_1_left_half_done_is_done_by_the_next_call(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    for (request_id, overlap) in [(REQUEST, None), ("", seconds(0)), ("", None)] {
        let (old, token) = key(&root).await;
        let request = RotateRequest { request_id: request_id.to_owned(), ..of(&old.id) };
        half(&h, &root, request.clone()).await;
        // It knows no such column, and tells by the expiry.
        raw::run(&h.database, "UPDATE credentials SET end_at_once = (1 = 0)").await;
        assert!(root.introspect(&token, "acme", &[]).await.active);
        let outcome = rotate(&root, RotateRequest { overlap, ..request }).await;
        assert_eq!(outcome.is_ok(), !request_id.is_empty(), "a retry, or refused: {outcome:?}");
        assert_eq!(denial(&root, &token).await, Denial::TokenRevoked);
    }
}

async fn a_refused_rotation_first_ends_the_old_token(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let other = h.another(|_| {}).await;
    let there = root.via(&other);
    for by_etag in [false, true] {
        let (old, token) = key(&root).await;
        assert!(there.introspect(&token, "acme", &[]).await.active);
        half(&h, &root, of(&old.id)).await;
        let etag = if by_etag { old.etag } else { String::new() };
        let request = RotateRequest { overlap: seconds(0), etag, ..of(&old.id) };
        let expected = if by_etag {
            (Code::Aborted, "ETAG_MISMATCH".to_owned())
        } else {
            (Code::FailedPrecondition, "ALREADY_ROTATED".to_owned())
        };
        assert_eq!(refused(rotate(&root, request.clone()).await), expected);
        for actor in [&root, &there] {
            assert_eq!(denial(actor, &token).await, Denial::TokenRevoked, "{expected:?}");
        }
        refused(rotate(&root, request).await);
    }
}

async fn a_refused_rotation_that_has_ended_the_old_token_does_not_claim_that_it_changed_nothing(
    h: Harness,
) {
    let (root, here) = (h.root().await, brief(&h).await);
    root.put_workspace("acme").await;
    let (old, _) = key(&root).await;
    half(&h, &root, of(&old.id)).await;
    let (mut feed, id) = freeze(&h).await;
    for expected in ["BARRIER_PENDING", "REFUSAL_PENDING"] {
        let (code, reason) = refused(rotate(&root.via(&here), of(&old.id)).await);
        assert_eq!((code, &*reason), (Code::DeadlineExceeded, expected));
    }
    feed.deregister(id).await.expect("it takes leave");
    here.running.stop().await;
}

async fn a_refused_rotation_leaves_an_overlap_alone(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    // The second is what an immediate end leaves at most, and so is the third after rounding.
    for (seconds, nanos) in [(60, 0), (59, 999_999_000), (59, 999_999_999), (3_600, 0), (5, 0)] {
        let (old, token) = key(&root).await;
        let overlap = Some(prost_types::Duration { seconds, nanos });
        rotate(&root, RotateRequest { overlap, ..of(&old.id) }).await.expect("it is rotated");
        let again = refused(rotate(&root, of(&old.id)).await);
        assert_eq!(again, (Code::FailedPrecondition, "ALREADY_ROTATED".to_owned()));
        assert!(root.introspect(&token, "acme", &[]).await.active, "{seconds} s {nanos} ns");
    }
    // Nor does its own early expiry make it one that was to end at once.
    let (old, token) = key(&root).await;
    let expire_time =
        Some((std::time::SystemTime::now() + std::time::Duration::from_secs(40)).into());
    let update = UpdateCredentialRequest {
        credential: Some(pb::Credential { id: old.id.clone(), expire_time, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["expire_time".to_owned()] }),
        ..Default::default()
    };
    root.auth().update_credential(update).await.expect("it ends earlier");
    let expiration = Some(pb::rotate_request::Expiration::Ttl(seconds(3_600).expect("a time")));
    let request = RotateRequest { overlap: seconds(3_600), expiration, ..of(&old.id) };
    rotate(&root, request).await.expect("it is rotated");
    refused(rotate(&root, of(&old.id)).await);
    assert!(root.introspect(&token, "acme", &[]).await.active);
}

async fn a_retry_ends_the_old_token_when_the_successor_is_revoked_already(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    for (with_id, n) in [(true, 7), (false, 8)] {
        let (old, token) = key(&root).await;
        let request_id = uuid::Uuid::from_u128(n).to_string();
        let request_id = if with_id { request_id } else { String::new() };
        let request = RotateRequest { request_id, ..of(&old.id) };
        let new = half(&h, &root, request.clone()).await;
        let credential = Some(pb::revoke_request::Credential::Token(new));
        let revoke = pb::RevokeRequest { credential, ..Default::default() };
        root.auth().revoke(revoke).await.expect("it is revoked");
        assert!(root.introspect(&token, "acme", &[]).await.active);
        let (code, reason) = refused(rotate(&root, request).await);
        assert_ne!(code, Code::Ok, "{reason}");
        assert_eq!(denial(&root, &token).await, Denial::TokenRevoked);
    }
}

async fn a_stranger_ends_nothing(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("bob").await;
    let dashboard = h.dashboard().await;
    let (old, token) = key(&root).await;
    half(&h, &root, of(&old.id)).await;
    let by_bob = RotateRequest { acting_user: "bob".to_owned(), ..of(&old.id) };
    let unknown = (Code::NotFound, "CREDENTIAL_NOT_FOUND".to_owned());
    assert_eq!(refused(rotate(&dashboard, by_bob).await), unknown);
    assert!(root.introspect(&token, "acme", &[]).await.active);
}

async fn a_retry_that_is_too_late_ends_the_old_token(h: Harness) {
    let root = h.root().await;
    let acme = root.put_workspace("acme").await;
    for (overlap, n) in [(seconds(0), 1), (None, 2)] {
        let (old, token) = key(&root).await;
        let request_id = uuid::Uuid::from_u128(n).to_string();
        let request = RotateRequest { request_id, overlap, ..of(&old.id) };
        let new = half(&h, &root, request.clone()).await;
        assert!(root.introspect(&new, "acme", &[]).await.active, "it is used");
        let policy = Some(pb::WorkspacePolicy { overlap_min: seconds(30), ..Default::default() });
        root.put(pb::Workspace { id: acme.id.clone(), policy, ..Default::default() }).await;
        let replayed = (Code::AlreadyExists, "REQUEST_REPLAYED".to_owned());
        assert_eq!(refused(rotate(&root, request).await), replayed);
        assert_eq!(denial(&root, &token).await, Denial::TokenRevoked, "{overlap:?}");
        let policy = Some(pb::WorkspacePolicy { overlap_min: seconds(0), ..Default::default() });
        root.put(pb::Workspace { id: acme.id.clone(), policy, ..Default::default() }).await;
    }
}

async fn an_interrupted_caller_rotation_is_done_by_its_retry(h: Harness) {
    let root = h.root().await;
    let old = h.caller("gateway", &[sophic_auth::model::Permission::Introspect]).await;
    root.put_workspace("acme").await;
    let (_, token) = key(&root).await;
    let by = async |actor: &Actor| {
        let request = pb::IntrospectRequest { token: token.clone(), ..Default::default() };
        actor.auth().introspect(request).await
    };
    for (request_id, n) in [(REQUEST, 1), ("", 2)] {
        let request = pb::RotateCallerRequest {
            caller: "gateway".to_owned(),
            overlap: seconds(0),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let rotate = async || root.admin().rotate_caller(request.clone()).await;
        let change = "OLD.previous_digest IS NOT NULL AND NEW.previous_digest IS NULL";
        refuse_second_step(&h.database, "callers", change).await;
        let first = rotate().await.expect("its token is shown").into_inner();
        assert!(first.end_pending);
        allow_second_step(&h.database, "callers").await;
        if n == 1 {
            by(&old).await.expect("its end is pending");
        }
        let again = rotate().await.expect("another token is shown").into_inner();
        assert!(!again.end_pending);
        for refused_now in [&old, &h.with_token(&first.token)] {
            assert_eq!(
                by(refused_now).await.expect_err("it has ended").code(),
                Code::Unauthenticated
            );
        }
        by(&h.with_token(&again.token)).await.expect("the newest is good");
    }
}

async fn its_retry_finds_the_caller_by_the_old_name_too(h: Harness) {
    let root = h.root().await;
    let introspect = [sophic_auth::model::Permission::Introspect];
    let old = h.caller("gateway", &introspect).await;
    let asks = async |actor: &Actor| {
        actor.auth().introspect(pb::IntrospectRequest::default()).await.map(drop)
    };
    let request = pb::RotateCallerRequest {
        caller: "gateway".to_owned(),
        overlap: seconds(0),
        request_id: REQUEST.to_owned(),
        ..Default::default()
    };
    let change = "OLD.previous_digest IS NOT NULL AND NEW.previous_digest IS NULL";
    refuse_second_step(&h.database, "callers", change).await;
    root.admin().rotate_caller(request.clone()).await.expect("its token is shown");
    allow_second_step(&h.database, "callers").await;
    let rename = pb::UpdateCallerRequest {
        caller: "gateway".to_owned(),
        name: "edge".to_owned(),
        ..Default::default()
    };
    root.admin().update_caller(rename).await.expect("it is renamed");
    // The name belongs to another caller now, which the retry leaves alone.
    let other = h.caller("gateway", &introspect).await;
    asks(&old).await.expect("its end is pending");
    let again = root.admin().rotate_caller(request).await.expect("another token").into_inner();
    assert_eq!(again.caller.expect("it is given").name, "edge");
    assert_eq!(asks(&old).await.expect_err("it has ended").code(), Code::Unauthenticated);
    asks(&h.with_token(&again.token)).await.expect("the newest is good");
    asks(&other).await.expect("it is another caller");
}
