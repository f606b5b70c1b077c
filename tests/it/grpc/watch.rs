//! Watch: changes, checkpoints, cursors.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sophic_auth::grpc::pb::change::Entity;
use sophic_auth::grpc::pb::{RevokeCallerRequest, Scope, WatchRequest, WatchResponse};
use tonic::{Code, Streaming};

use super::refusal::reason;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;
use crate::waits::{eventually, within};

on_every_store! {
    a_watcher_receives_every_change,
    a_watcher_gets_checkpoints_without_changes,
    a_cursor_resumes_without_a_gap,
    a_cursor_far_behind_catches_up_from_the_log,
    a_cursor_at_the_edge_of_the_ring_misses_nothing,
    a_cursor_before_the_start_of_the_log_is_too_old,
    a_server_that_is_behind_a_cursor_catches_up_first,
    an_invalid_cursor_is_refused,
    a_cursor_of_another_incarnation_is_out_of_range,
    the_watch_of_a_revoked_caller_ends,
    a_stopping_server_ends_its_watches,
    watch_needs_the_permission,
    a_thousand_watchers_receive_the_same_changes,
}

async fn watch(actor: &Actor, cursor: &str) -> Result<Streaming<WatchResponse>, tonic::Status> {
    let request = WatchRequest { cursor: cursor.to_owned() };
    actor.auth().watch(request).await.map(tonic::Response::into_inner)
}

async fn next(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    within("a message", stream.message()).await.expect("no error").expect("no end")
}

/// Reads until all changes up to `revision` were sent, and returns them.
async fn until(stream: &mut Streaming<WatchResponse>, revision: u64) -> Vec<(u64, Entity)> {
    let mut received = Vec::new();
    within(&format!("revision {revision} is received"), async {
        loop {
            let response = next(stream).await;
            let changes = response.changes.into_iter();
            received
                .extend(changes.map(|change| (change.revision, change.entity.expect("an entity"))));
            if response.revision >= revision {
                return received;
            }
        }
    })
    .await
}

async fn revision(h: &Harness) -> u64 {
    h.running.service.revision().await.expect("a revision").0
}

async fn a_watcher_receives_every_change(h: Harness) {
    let root = h.root().await;
    let mut stream = watch(&root, "").await.expect("a stream");
    next(&mut stream).await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let received = until(&mut stream, revision(&h).await).await;
    let digest = sophic_auth::model::Digest::of(&key).as_bytes().to_vec();
    let entities: Vec<_> = received.into_iter().map(|(_, entity)| entity).collect();
    let expected = [
        Entity::WorkspaceId("id-of-acme".to_owned()),
        Entity::UserId("ada".to_owned()),
        Entity::CredentialDigest(digest),
    ];
    // Changes from before the stream may be in it too, if the server was still reading them.
    assert!(entities.ends_with(&expected), "{entities:?}");
}

async fn a_watcher_gets_checkpoints_without_changes(h: Harness) {
    let root = h.root().await;
    let mut stream = watch(&root, "").await.expect("a stream");
    until(&mut stream, revision(&h).await).await;
    for _ in 0..3 {
        let response = next(&mut stream).await;
        assert!(response.changes.is_empty());
        assert_eq!(response.revision, revision(&h).await);
    }
}

async fn a_cursor_resumes_without_a_gap(h: Harness) {
    let root = h.root().await;
    let mut stream = watch(&root, "").await.expect("a stream");
    let cursor = next(&mut stream).await;
    drop(stream);
    root.put_workspace("acme").await;
    for _ in 0..5 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let newest = revision(&h).await;
    let mut stream = watch(&root, &cursor.cursor).await.expect("a stream");
    let received: Vec<_> = until(&mut stream, newest).await.into_iter().map(|(at, _)| at).collect();
    // Changes of callers have revisions too, but are not sent.
    assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "{received:?}");
    assert_eq!(received.iter().filter(|at| **at > newest - 6).count(), 6, "{received:?}");
    assert!(received.iter().all(|at| *at > cursor.revision));
    // Another server of the same store resumes from there too, although its ring never had those changes.
    let other = h.another(|_| {}).await;
    let mut stream = watch(&root.via(&other), &cursor.cursor).await.expect("a stream");
    let there: Vec<_> = until(&mut stream, newest).await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(there, received);
}

/// Inserts this many users directly into the store: `name` and a number.
pub(crate) async fn many_users(h: &Harness, name: &str, count: u32) {
    let statement = format!(
        "INSERT INTO users (id, display_name, disabled, generation, create_time, update_time) \
         SELECT '{name}' || numbers.n, display_name, disabled, generation, create_time, update_time \
         FROM users CROSS JOIN ( \
             WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) \
             SELECT n FROM s) AS numbers \
         WHERE id = 'ada'"
    );
    raw::run(&h.database, &statement).await;
}

/// The users that changed. Asserts that each change was sent once, and in order.
fn users(received: &[(u64, Entity)]) -> HashSet<&str> {
    assert!(received.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, each once");
    let mut users = HashSet::new();
    for (_, entity) in received {
        if let Entity::UserId(id) = entity {
            users.insert(id.as_str());
        }
    }
    users
}

async fn a_cursor_far_behind_catches_up_from_the_log(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    let mut stream = watch(&root, "").await.expect("a stream");
    let cursor = next(&mut stream).await.cursor;
    until(&mut stream, revision(&h).await).await;
    many_users(&h, "away", 3_500).await;
    // As after a restart: the ring of this server never had those changes.
    let other = h.another(|_| {}).await;
    let root = root.via(&other);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(watch(&root, &cursor).await.expect("a stream"));
    }
    // More changes happen before the client reads on.
    many_users(&h, "meanwhile", 2_500).await;
    let newest = revision(&h).await;
    for stream in &mut streams {
        let received = until(stream, newest).await;
        let users = users(&received);
        let of = |name: &str| users.iter().filter(|id| id.starts_with(name)).count();
        assert_eq!((of("away"), of("meanwhile")), (3_500, 2_500));
    }
    root.put_user("later").await;
    let newest = revision(&h).await;
    for stream in &mut streams {
        let received = until(stream, newest).await;
        assert_eq!(received, [(newest, Entity::UserId("later".to_owned()))]);
    }
}

/// The parts of a cursor.
fn taken_apart(cursor: &str) -> (u64, String) {
    let cursor = URL_SAFE_NO_PAD.decode(cursor).expect("base64");
    let cursor = String::from_utf8(cursor).expect("text");
    let (revision, life) = cursor.split_once(' ').expect("two parts");
    (revision.parse().expect("a number"), life.to_owned())
}

fn cursor_at(revision: u64, life: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{revision} {life}"))
}

async fn a_cursor_at_the_edge_of_the_ring_misses_nothing(h: Harness) {
    let root = h.root().await;
    for n in 0..5 {
        root.put_user(&format!("before{n}")).await;
    }
    let other = h.another(|_| {}).await;
    let root = root.via(&other);
    // Its ring begins about here.
    let mut stream = watch(&root, "").await.expect("a stream");
    let (edge, life) = taken_apart(&next(&mut stream).await.cursor);
    for n in 0..5 {
        root.put_user(&format!("after{n}")).await;
    }
    let newest = revision(&h).await;
    for start in edge - 4..=newest {
        let mut stream = watch(&root, &cursor_at(start, &life)).await.expect("a stream");
        let received = until(&mut stream, newest).await;
        let revisions: Vec<_> = received.iter().map(|(revision, _)| *revision).collect();
        assert_eq!(revisions, (start + 1..=newest).collect::<Vec<_>>(), "from {start}");
    }
}

async fn a_cursor_before_the_start_of_the_log_is_too_old(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    let mut stream = watch(&root, "").await.expect("a stream");
    let cursor = next(&mut stream).await.cursor;
    many_users(&h, "away", 1_500).await;
    until(&mut stream, revision(&h).await).await;
    let other = h.another(|_| {}).await;
    h.wait_until_read_by(&other).await;
    let store = h.database.open().await;
    let tomorrow = h.running.service.now().checked_add(Duration::from_hours(24));
    let cut = async || store.delete_changes(tomorrow.expect("a time"), 1_000).await.expect("rows");
    eventually("the log is cut", async || cut().await > 0).await;
    let refused = watch(&root.via(&other), &cursor).await.expect_err("it is not kept any more");
    assert_eq!(refused.code(), Code::OutOfRange);
    assert_eq!(reason(&refused), "CURSOR_TOO_OLD");
    // The ring of the first server still has all of them.
    let mut stream = watch(&root, &cursor).await.expect("a stream");
    let received = until(&mut stream, revision(&h).await).await;
    assert_eq!(users(&received).iter().filter(|id| id.starts_with("away")).count(), 1_500);
}

async fn a_server_that_is_behind_a_cursor_catches_up_first(h: Harness) {
    let root = h.root().await;
    let other = h.another(|_| {}).await;
    let mut stream = watch(&root, "").await.expect("a stream");
    for n in 0..20 {
        // The test does not wait for the other server.
        root.put_user(&format!("user{n}")).await;
        let newest = revision(&h).await;
        until(&mut stream, newest).await;
        let (_, life) = taken_apart(&next(&mut stream).await.cursor);
        let resumed = watch(&root.via(&other), &cursor_at(newest, &life)).await;
        resumed.expect("it gets there at once");
    }
}

async fn an_invalid_cursor_is_refused(h: Harness) {
    let root = h.root().await;
    for cursor in ["x", "%", "MTIz", &"A".repeat(300)] {
        let refused = watch(&root, cursor).await.expect_err("no cursor");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

async fn a_cursor_of_another_incarnation_is_out_of_range(h: Harness) {
    let root = h.root().await;
    for cursor in ["0 another", "1 "] {
        let refused =
            watch(&root, &URL_SAFE_NO_PAD.encode(cursor)).await.expect_err("another life");
        assert_eq!(refused.code(), Code::OutOfRange);
    }
    let mut stream = watch(&root, "").await.expect("a stream");
    let (_, life) = taken_apart(&next(&mut stream).await.cursor);
    let refused = watch(&root, &cursor_at(999_999, &life)).await;
    assert_eq!(refused.expect_err("not reached yet").code(), Code::OutOfRange);
}

async fn the_watch_of_a_revoked_caller_ends(h: Harness) {
    let (root, gateway) = (h.root().await, h.gateway().await);
    let mut stream = watch(&gateway, "").await.expect("a stream");
    next(&mut stream).await;
    let request = RevokeCallerRequest { caller: "gateway".to_owned() };
    root.admin().revoke_caller(request).await.expect("the caller is revoked");
    let end = within("the watch of a caller that is no more ends", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    })
    .await;
    assert_eq!(end.expect_err("a dead caller").code(), Code::Unauthenticated);
}

async fn a_stopping_server_ends_its_watches(h: Harness) {
    let root = h.root().await;
    let other = h.another(|_| {}).await;
    let mut stream = watch(&root.via(&other), "").await.expect("a stream");
    next(&mut stream).await;
    other.running.stop().await;
    let end = within("the watch of a server that stops ends", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    })
    .await;
    let end = end.expect_err("it has stopped");
    assert_eq!((end.code(), &*reason(&end)), (Code::Unavailable, "STOPPING"));
}

async fn watch_needs_the_permission(h: Harness) {
    let refused = watch(&h.dashboard().await, "").await.expect_err("no permission");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

async fn a_thousand_watchers_receive_the_same_changes(h: Harness) {
    let root = h.root().await;
    let mut streams = Vec::new();
    // One connection has at most 256 streams.
    for _ in 0..5 {
        let actor = h.reconnected(&root).await;
        for _ in 0..200 {
            let mut stream = watch(&actor, "").await.expect("a stream");
            next(&mut stream).await;
            streams.push(stream);
        }
    }
    root.put_workspace("acme").await;
    let newest = revision(&h).await;
    for stream in &mut streams {
        let received = until(stream, newest).await;
        assert!(received.contains(&(newest, Entity::WorkspaceId("id-of-acme".to_owned()))));
    }
}
