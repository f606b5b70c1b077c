//! Retries of narrowing calls whose wait for the barrier timed out: no retry reports success before the barrier has
//! passed.

use std::time::Duration;

use sophic_auth::model::ReplicaId;
use sophic_auth::store::{self, ChangeFeed};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::changing::{Changed, Effect, Stage, TABLE};
use super::permissions::{paths, rule};
use super::refusal::reason;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    every_changing_rpc_declares_its_effect,
    a_retry_of_a_narrowing_call_waits_like_the_first,
    a_narrowing_call_waits_even_if_it_changes_nothing,
    a_call_that_narrows_nothing_does_not_wait,
}

/// A server on the same database with a request timeout of a second. (A client's deadline might end first.)
pub(crate) async fn brief(h: &Harness) -> Harness {
    h.another(|config| config.limits.request_timeout = Duration::from_secs(1)).await
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

fn is_pending(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded && reason(status) == "BARRIER_PENDING"
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
    const READ: [&str; 7] =
        ["Introspect", "BatchIntrospect", "Watch", "Check", "Get", "List", "ServerReflection"];
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
    let stage = Stage::set(&root).await;
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
    let stage = Stage::set(&root).await;
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
    }
    feed.deregister(id).await.expect("it takes leave");
    for (rpc, changed) in all(&root, &stage, &nothing).await {
        assert!(is_done(&changed), "{rpc}: {changed:?}");
    }
}

async fn a_call_that_narrows_nothing_does_not_wait(h: Harness) {
    let root = h.root().await;
    let stage = Stage::set(&root).await;
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
