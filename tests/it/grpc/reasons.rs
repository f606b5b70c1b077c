//! Reasons that no other file covers, each asserted once by name.

use std::time::Duration;

use sophic_auth::grpc::pb::{
    CreateCallerRequest, CreateKeyRequest, GetCredentialRequest, IntrospectRequest,
    RevokeCallerRequest, RotateCallerRequest, RotateRequest, Scope, WatchRequest,
    create_key_request,
};
use sophic_auth::service::ServiceError;
use sophic_auth::token::RandomError;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::refusal::{reason, refused};
use super::watch::many_users;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;
use crate::waits::{eventually, eventually_some};

on_every_store! {
    a_caller_with_a_certificate_has_no_token_to_rotate,
    a_caller_that_is_revoked_is_not_rotated,
    a_credential_that_has_expired_is_not_rotated,
    a_future_revision_is_not_reached,
    a_store_that_is_locked_for_too_long_is_busy,
    a_watcher_that_reads_too_slowly_gets_an_error,
    an_unreadable_row_is_an_internal_error,
}

async fn rotate_caller(root: &Actor, caller: &str) -> (Code, String) {
    let request = RotateCallerRequest { caller: caller.to_owned(), ..Default::default() };
    refused(root.admin().rotate_caller(request).await)
}

async fn a_caller_with_a_certificate_has_no_token_to_rotate(h: Harness) {
    let root = h.root().await;
    let mesh = CreateCallerRequest {
        name: "mesh".to_owned(),
        permissions: vec!["introspect".to_owned()],
        certificate_san: "spiffe://sophic/mesh".to_owned(),
        ..Default::default()
    };
    root.admin().create_caller(mesh).await.expect("it is made");
    let expected = (Code::FailedPrecondition, "CALLER_HAS_NO_TOKEN".to_owned());
    assert_eq!(rotate_caller(&root, "mesh").await, expected);
}

async fn a_caller_that_is_revoked_is_not_rotated(h: Harness) {
    let root = h.root().await;
    h.gateway().await;
    let revoke = RevokeCallerRequest { caller: "gateway".to_owned() };
    let revoked = root.admin().revoke_caller(revoke).await.expect("it is revoked").into_inner();
    // The name is free for another caller, but the id still finds this one.
    let id = revoked.caller.expect("it is given").id;
    let expected = (Code::FailedPrecondition, "CALLER_REVOKED".to_owned());
    assert_eq!(rotate_caller(&root, &id).await, expected);
}

async fn a_credential_that_has_expired_is_not_rotated(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let ttl = prost_types::Duration { seconds: 0, nanos: 1_000_000 };
    let brief = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "brief".to_owned(),
        scopes: vec![Scope::Read.into()],
        expiration: Some(create_key_request::Expiration::Ttl(ttl)),
        ..Default::default()
    };
    let made = root.auth().create_key(brief).await.expect("it is made").into_inner();
    let expired = async || !root.introspect(&made.token, "", &[]).await.active;
    eventually("the key has expired", expired).await;
    let credential_id = made.credential.expect("it is given").id;
    let request = RotateRequest { credential_id, ..Default::default() };
    let outcome = refused(root.auth().rotate(request).await);
    assert_eq!(outcome, (Code::FailedPrecondition, "CREDENTIAL_EXPIRED".to_owned()));
}

async fn a_future_revision_is_not_reached(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let made = root.create_key("acme", &[Scope::Read]).await;
    let reached = root.introspect(&made.token, "acme", &[]).await.revision;
    let token = made.token;
    let at_least_revision = reached + 1_000;
    let request = IntrospectRequest { token, at_least_revision, ..Default::default() };
    let outcome = refused(root.auth().introspect(request).await);
    assert_eq!(outcome, (Code::Unavailable, "REVISION_NOT_REACHED".to_owned()));
}

async fn a_store_that_is_locked_for_too_long_is_busy(h: Harness) {
    let root = h.root().await;
    let create = async || {
        let request = CreateCallerRequest {
            name: "late".to_owned(),
            permissions: vec!["introspect".to_owned()],
            ..Default::default()
        };
        refused(root.admin().create_caller(request).await)
    };
    let busy = (Code::Unavailable, "STORE_BUSY".to_owned());
    if h.database.is_postgres() {
        let mut other = PgConnection::connect(&h.database.url()).await.expect("it answers");
        let mut holding = other.begin().await.expect("it begins");
        holding.execute("LOCK TABLE callers IN EXCLUSIVE MODE").await.expect("it is locked");
        assert_eq!(create().await, busy);
    } else {
        let mut other = SqliteConnection::connect(&h.database.url()).await.expect("it opens");
        let _holding = other.begin_with("BEGIN IMMEDIATE").await.expect("it begins");
        assert_eq!(create().await, busy);
    }
}

/// Together more changes than a server keeps in memory. One transaction for all would take Postgres minutes.
const BATCHES: u32 = 33;
const BATCH: u32 = 2_000;

async fn a_watcher_that_reads_too_slowly_gets_an_error(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    h.wait_until_read_by(&h).await;
    // It receives the first byte of the first response, and no more until it reads.
    let endpoint = Endpoint::from_shared(h.running.grpc_url()).expect("a URL");
    let channel = endpoint.initial_stream_window_size(1).connect().await.expect("it accepts");
    let watch = root.clone().via_channel(channel).auth().watch(WatchRequest::default()).await;
    let mut stream = watch.expect("a stream").into_inner();
    for number in 0..BATCHES {
        many_users(&h, &format!("many-{number}-"), BATCH).await;
    }
    h.wait_until_read_by(&h).await;
    let tomorrow = h.running.service.now().checked_add(Duration::from_hours(24)).expect("a time");
    let store = h.database.open().await;
    let cut = async || store.delete_changes(tomorrow, 1_000).await.expect("rows") > 0;
    eventually("the log is cut", cut).await;
    let status = eventually_some("the stream ends", async || stream.message().await.err()).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "WATCHER_TOO_SLOW"));
}

async fn an_unreadable_row_is_an_internal_error(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let credential_id = root.create_key("acme", &[Scope::Read]).await.credential.expect("a key").id;
    let damage = r#"UPDATE credentials SET annotations = '{"team": ["damaged"]}'"#;
    raw::run(&h.database, damage).await;
    let request = GetCredentialRequest { credential_id, ..Default::default() };
    let status = root.auth().get_credential(request).await.expect_err("it cannot be read");
    assert_eq!((status.code(), &*reason(&status)), (Code::Internal, "INTERNAL"));
    // The log has the details under the same id.
    let info = status.get_details_error_info().expect("its details");
    assert!(!info.metadata["id"].is_empty());
    assert!(!format!("{status:?}").contains("damaged"), "{status:?}");
}

/// No test can make the machine's random source fail, so this checks the status that its error becomes.
#[test]
fn a_failing_random_source_asks_for_a_retry() {
    let status = Status::from(ServiceError::from(RandomError));
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "RANDOM_UNAVAILABLE"));
}
