//! Retries of narrowing calls whose wait for the barrier timed out: no retry reports success before the barrier has
//! passed.

use std::time::Duration;

use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreateKeyResponse, DisableRequest, RotateCallerRequest, RotateRequest,
    Scope, UpdateCallerRequest, UpdateCredentialRequest,
};
use sophic_auth::model::{Permission, ReplicaId};
use sophic_auth::store::{self, ChangeFeed};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::changing::{Changed, Effect, Stage, TABLE};
use super::permissions::{paths, rule};
use super::refusal::{reason, refused};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    every_changing_rpc_declares_its_effect,
    a_retry_of_a_narrowing_call_waits_like_the_first,
    a_narrowing_call_waits_even_if_it_changes_nothing,
    a_refusal_that_the_first_call_caused_waits_like_it,
    a_retry_after_the_new_token_was_used_waits_before_it_is_refused,
    a_refusal_by_the_request_alone_does_not_wait,
    a_call_that_narrows_nothing_does_not_wait,
}

/// A server on the same database with a request timeout of two seconds. (A client's deadline might end first.)
pub(crate) async fn brief(h: &Harness) -> Harness {
    h.another(|config| config.limits.request_timeout = Duration::from_secs(2)).await
}

/// A replica that never syncs, and whose lease does not end.
pub(crate) async fn freeze(h: &Harness) -> (Box<dyn ChangeFeed>, ReplicaId) {
    let store = store::open_existing(&h.database.location()).await.expect("the store opens");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId(uuid::Uuid::from_u128(7));
    feed.register(id, Duration::from_hours(1)).await.expect("it is registered");
    (feed, id)
}

/// Makes these calls in parallel, and returns their results.
async fn all(actor: &Actor, stage: &Stage, rpcs: &[&'static str]) -> Vec<(String, Changed)> {
    let mut calls = JoinSet::new();
    for &rpc in rpcs {
        let (actor, stage) = (actor.clone(), stage.clone());
        calls.spawn(async move { (rpc.to_owned(), stage.call(&actor, rpc).await) });
    }
    within("every call is answered", calls.join_all()).await
}

pub(super) fn is_pending(status: &Status) -> bool {
    // The retry of a removal may be refused, because there is nothing left to remove.
    status.code() == Code::DeadlineExceeded
        && ["BARRIER_PENDING", "REFUSAL_PENDING"].contains(&&*reason(status))
}

/// Whether the call succeeded and is not pending.
fn is_done(changed: &Changed) -> bool {
    match changed {
        Ok(pending) => !pending,
        // The first call has revoked it.
        Err(status) => [Code::NotFound, Code::FailedPrecondition].contains(&status.code()),
    }
}

async fn every_changing_rpc_declares_its_effect(_: Harness) {
    const READ: [&str; 8] = [
        "Introspect",
        "BatchIntrospect",
        "Watch",
        "Check",
        "Get",
        "List",
        "Explain",
        "ServerReflection",
    ];
    for path in paths() {
        if rule(&path).any_of().is_empty() {
            continue;
        }
        let name = path.rsplit('/').next().expect("a name");
        if READ.iter().any(|read| name.starts_with(read)) {
            continue;
        }
        let listed = TABLE.iter().filter(|(listed, _)| *listed == name).count();
        assert_eq!(listed, 1, "{name}: what does it do to answers? Give it a line and a call");
    }
}

async fn a_retry_of_a_narrowing_call_waits_like_the_first(h: Harness) {
    let (here, there) = (brief(&h).await, brief(&h).await);
    let root = h.root().await;
    let stage = Stage::set(&h, &root).await;
    let (mut feed, id) = freeze(&h).await;
    let with = |effect: Effect| TABLE.iter().filter(move |(_, listed)| *listed == effect);
    let narrowing: Vec<_> = with(Effect::Narrows).map(|(rpc, _)| *rpc).collect();
    for server in [&here, &here, &there] {
        for (rpc, changed) in all(&root.via(server), &stage, &narrowing).await {
            let status = changed.expect_err("a server may answer as before still");
            assert!(is_pending(&status), "{rpc}: {status:?}");
        }
    }
    // Their response shows the new token, so it reports the end of the old one as pending.
    let rotating: Vec<_> = with(Effect::Rotates).map(|(rpc, _)| *rpc).collect();
    for (rpc, changed) in all(&root.via(&here), &stage, &rotating).await {
        assert_eq!(changed.map_err(|status| status.to_string()), Ok(true), "{rpc}");
    }
    feed.deregister(id).await.expect("it takes leave");
    for (rpc, changed) in all(&root, &stage, &narrowing).await {
        assert!(is_done(&changed), "{rpc}: {changed:?}");
    }
}

async fn a_narrowing_call_waits_even_if_it_changes_nothing(h: Harness) {
    let here = brief(&h).await;
    let root = h.root().await;
    let stage = Stage::set(&h, &root).await;
    let (mut feed, id) = freeze(&h).await;
    let nothing = [
        "Revoke nobody's token",
        "Revoke what is no token",
        "Revoke an unknown id",
        "Disable an unknown id",
        "RevokeLeaked nothing",
        "BulkRevoke nothing",
        "DeleteWorkspace unknown",
        "DeleteUser unknown",
        "DeleteMembership unknown",
        "DeleteMembership of an unknown workspace",
        "DeleteWorkspace unknown, allowed to be missing",
        "DeleteUser unknown, allowed to be missing",
        "DeleteMembership unknown, allowed to be missing",
        "RevokeCaller unknown",
        "UpdateCaller unknown",
        "RotateCaller unknown",
        "Rotate an unknown id",
    ];
    for (rpc, changed) in all(&root.via(&here), &stage, &nothing).await {
        let status = changed.expect_err("an earlier call may be the reason, and not be done");
        assert!(is_pending(&status), "{rpc}: {status:?}");
        let refused = rpc.contains("nknown") && !rpc.contains("allowed");
        let expected = if refused { "REFUSAL_PENDING" } else { "BARRIER_PENDING" };
        assert_eq!(reason(&status), expected, "{rpc}: {status:?}");
        if refused {
            let details = status.get_error_details();
            let info = details.error_info().expect("an ErrorInfo");
            assert!(info.metadata["refusal"].ends_with("_NOT_FOUND"), "{rpc}: {info:?}");
        }
    }
    feed.deregister(id).await.expect("it takes leave");
    for (rpc, changed) in all(&root, &stage, &nothing).await {
        assert!(is_done(&changed), "{rpc}: {changed:?}");
    }
}

fn update(credential: pb::Credential, path: &str) -> UpdateCredentialRequest {
    UpdateCredentialRequest {
        credential: Some(credential),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
        ..Default::default()
    }
}

/// A change of scopes that names the etag of the credential.
fn scopes_by_etag(key: &CreateKeyResponse) -> UpdateCredentialRequest {
    let pb::Credential { id, etag, .. } = key.credential.clone().expect("it is given");
    let scopes = vec![Scope::Read.into()];
    update(pb::Credential { id, etag, scopes, ..Default::default() }, "scopes")
}

/// An expiry this long from now, as the command line makes it of `--ttl`.
fn expiry_after(key: &CreateKeyResponse, ttl: Duration) -> UpdateCredentialRequest {
    let id = key.credential.clone().expect("it is given").id;
    let expire_time = Some((std::time::SystemTime::now() + ttl).into());
    update(pb::Credential { id, expire_time, ..Default::default() }, "expire_time")
}

fn rotation(key: &CreateKeyResponse, request_id: &str) -> RotateRequest {
    let credential_id = key.credential.clone().expect("it is given").id;
    RotateRequest { credential_id, request_id: request_id.to_owned(), ..Default::default() }
}

async fn a_refusal_that_the_first_call_caused_waits_like_it(h: Harness) {
    let here = brief(&h).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(root.create_key("acme", &[Scope::Read, Scope::Capture]).await);
    }
    let (mut feed, id) = freeze(&h).await;
    let mut auth = root.via(&here).auth();
    for _ in 0..2 {
        let by_etag = auth.update_credential(scopes_by_etag(&keys[0])).await;
        assert!(is_pending(&by_etag.expect_err("a server may answer as before still")));
        let later = auth.update_credential(expiry_after(&keys[1], Duration::from_hours(1))).await;
        assert!(is_pending(&later.expect_err("a server may answer as before still")));
    }
    let rotated = auth.rotate(rotation(&keys[2], "")).await.expect("it has a token to show");
    assert!(rotated.into_inner().end_pending);
    let again = auth.rotate(rotation(&keys[2], "")).await.expect_err("it is rotated");
    assert!(is_pending(&again), "{again:?}");
    feed.deregister(id).await.expect("it takes leave");
    let mismatch = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(refused(auth.update_credential(scopes_by_etag(&keys[0])).await), mismatch);
    let later = auth.update_credential(expiry_after(&keys[1], Duration::from_hours(1))).await;
    assert_eq!(refused(later), (Code::InvalidArgument, "ARGUMENT_INVALID".to_owned()));
    let again = refused(auth.rotate(rotation(&keys[2], "")).await);
    assert_eq!(again, (Code::FailedPrecondition, "CREDENTIAL_REVOKED".to_owned()));
}

async fn a_retry_after_the_new_token_was_used_waits_before_it_is_refused(h: Harness) {
    let here = brief(&h).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    h.caller("service", &[Permission::Introspect]).await;
    let (mut feed, id) = freeze(&h).await;
    let there = root.via(&here);
    let ids = [1, 2, 3].map(|n| uuid::Uuid::from_u128(n).to_string());
    let create = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        request_id: ids[0].clone(),
        ..Default::default()
    };
    let rotate_caller = RotateCallerRequest {
        caller: "service".to_owned(),
        overlap: Some(prost_types::Duration::default()),
        request_id: ids[2].clone(),
        ..Default::default()
    };
    let (mut auth, mut admin) = (there.auth(), there.admin());
    let created = auth.create_key(create.clone()).await.expect("it is made").into_inner();
    let rotated = auth.rotate(rotation(&key, &ids[1])).await.expect("a token").into_inner();
    let service = admin.rotate_caller(rotate_caller.clone()).await.expect("a token").into_inner();
    assert!(rotated.end_pending && service.end_pending);
    let user = there.with_token(&service.token);
    for token in [&created.token, &rotated.token] {
        assert!(user.introspect(token, "acme", &[Scope::Read]).await.allowed);
    }
    for _ in 0..2 {
        let statuses = [
            auth.create_key(create.clone()).await.map(drop),
            auth.rotate(rotation(&key, &ids[1])).await.map(drop),
            admin.rotate_caller(rotate_caller.clone()).await.map(drop),
        ];
        for (i, status) in statuses.into_iter().enumerate() {
            let status = status.expect_err("its token is in use");
            assert!(is_pending(&status), "{i}: {status:?}");
        }
    }
    feed.deregister(id).await.expect("it takes leave");
    let replayed = (Code::AlreadyExists, "REQUEST_REPLAYED".to_owned());
    assert_eq!(refused(auth.create_key(create).await), replayed);
    assert_eq!(refused(auth.rotate(rotation(&key, &ids[1])).await), replayed);
    assert_eq!(refused(admin.rotate_caller(rotate_caller).await), replayed);
    for token in [&created.token, &rotated.token] {
        assert!(user.introspect(token, "acme", &[Scope::Read]).await.allowed, "it is untouched");
    }
}

async fn a_refusal_by_the_request_alone_does_not_wait(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let _frozen = freeze(&h).await;
    let ip_allowlist = vec!["nowhere".to_owned()];
    let id = key.credential.clone().expect("it is given").id;
    let narrower = pb::Credential { id: id.clone(), ip_allowlist, ..Default::default() };
    let invalid = (Code::InvalidArgument, "ARGUMENT_INVALID".to_owned());
    let updated = root.auth().update_credential(update(narrower, "ip_allowlist")).await;
    assert_eq!(refused(updated), invalid);
    let update = UpdateCallerRequest { caller: "root".to_owned(), ..Default::default() };
    assert_eq!(refused(root.admin().update_caller(update).await), invalid);
    let acting_user = "nobody".to_owned();
    let disable = DisableRequest { credential_id: id, acting_user, ..Default::default() };
    let stranger = (Code::PermissionDenied, "ACTING_USER_NOT_ACTIVE".to_owned());
    assert_eq!(refused(root.auth().disable(disable).await), stranger);
}

async fn a_call_that_narrows_nothing_does_not_wait(h: Harness) {
    let root = h.root().await;
    let stage = Stage::set(&h, &root).await;
    let _frozen = freeze(&h).await;
    let others = TABLE.iter().filter(|(_, effect)| *effect == Effect::Gives);
    let mut others: Vec<_> = others.map(|(rpc, _)| *rpc).collect();
    others.extend([
        "UpdateCredential its name",
        "BulkRevoke dry run",
        "PutUser enabled",
        "PutMembership owner",
    ]);
    for (rpc, changed) in all(&root, &stage, &others).await {
        assert_eq!(changed.map_err(|status| status.to_string()), Ok(false), "{rpc}");
    }
}
