//! A call that takes something away, and did not see the end of its wait, is sent again: no retry says that it is done
//! before it is.

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
    every_rpc_that_changes_something_says_what_it_does_to_answers,
    a_retry_of_what_takes_away_waits_like_the_first_call,
    what_finds_nothing_to_take_away_waits_all_the_same,
    what_takes_nothing_away_waits_for_nobody,
}

/// A server on the same database that gives a request a second. (A client with a deadline of its own may give up first.)
pub(crate) async fn brief(h: &Harness) -> Harness {
    h.another(|config| config.limits.request_timeout = Duration::from_secs(1)).await
}

/// A replica that never syncs, and whose lease does not end.
pub(crate) async fn freeze(h: &Harness) -> (Box<dyn ChangeFeed>, ReplicaId) {
    let store = store::open_as_is(&h.database.url()).await.expect("the store opens");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId(uuid::Uuid::from_u128(7));
    feed.register(id, Duration::from_hours(1)).await.expect("it is registered");
    (feed, id)
}

/// What each of these calls came to, all at once.
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

/// Whether it was done, and not by halves.
fn is_done(changed: &Changed) -> bool {
    match changed {
        Ok(pending) => !pending,
        // What a first call has ended is gone.
        Err(status) => [Code::NotFound, Code::FailedPrecondition].contains(&status.code()),
    }
}

async fn every_rpc_that_changes_something_says_what_it_does_to_answers(_: Harness) {
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

async fn a_retry_of_what_takes_away_waits_like_the_first_call(h: Harness) {
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
    // Their answer has a token that is shown this once: it says that the end of the old one is pending.
    let rotating: Vec<_> = with(Effect::Rotates).map(|(rpc, _)| *rpc).collect();
    for (rpc, changed) in all(&root.via(&here), &stage, &rotating).await {
        assert_eq!(changed.map_err(|status| status.to_string()), Ok(true), "{rpc}");
    }
    feed.deregister(id).await.expect("it takes leave");
    for (rpc, changed) in all(&root, &stage, &narrowing).await {
        assert!(is_done(&changed), "{rpc}: {changed:?}");
    }
}

async fn what_finds_nothing_to_take_away_waits_all_the_same(h: Harness) {
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

async fn what_takes_nothing_away_waits_for_nobody(h: Harness) {
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
