//! Deleting an owner with many credentials revokes all at once. Each gets one audit event, written in batches.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sophic_auth::grpc::pb::{self, DeleteUserRequest, ListAuditEventsRequest, Role, Scope};
use sophic_auth::service::Context;
use tokio::task::JoinSet;

use super::audit::{events, of_action};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{eventually, within};

on_every_store! {
    the_keys_of_a_deleted_workspace_get_their_events_exactly_once,
    the_tokens_of_a_deleted_user_get_their_events,
    credentials_are_purged_only_after_their_events_are_written,
}

/// More than two batches.
const MANY: usize = 450;
/// Maximum number of end events in one transaction.
const BATCH: u64 = 50;

async fn many_keys(root: &Actor, workspace: &'static str) -> Vec<pb::CreateKeyResponse> {
    let mut making = JoinSet::new();
    for _ in 0..MANY {
        let root = root.clone();
        making.spawn(async move { root.create_key(workspace, &[Scope::Read]).await });
    }
    within("all are made", making.join_all()).await
}

/// Number of end events for each credential.
async fn ends(root: &Actor) -> HashMap<String, usize> {
    let filter =
        ListAuditEventsRequest { action: "credential.revoke".to_owned(), ..Default::default() };
    let mut ends = HashMap::new();
    for event in events(root, filter).await {
        assert_eq!(event.caller, "root");
        *ends.entry(event.target_id).or_default() += 1;
    }
    ends
}

async fn wait_for_pending_ends(h: &Harness) {
    let store = h.database.open().await;
    eventually("no end events are pending", async || {
        !store.has_pending_ends().await.expect("a read")
    })
    .await;
}

async fn the_keys_of_a_deleted_workspace_get_their_events_exactly_once(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let keys = many_keys(&root, "acme").await;
    let other = h.another(|_| {}).await;
    root.delete_workspace("acme").await;
    assert!(!root.introspect(&keys[MANY - 1].token, "", &[]).await.active);
    // A new workspace of the same id has a key that is not among them.
    root.put_workspace("acme").await;
    let later = root.create_key("acme", &[Scope::Read]).await;
    let batches = Arc::new(Mutex::new(vec![0]));
    let counts = Arc::clone(&batches);
    let writing = h.running.service.write_pending_ends(move |count| counts.lock().push(count));
    // Two servers write the events, and so does this test.
    writing.await.expect("they are written");
    wait_for_pending_ends(&other).await;
    assert!(batches.lock().windows(2).all(|pair| pair[1] - pair[0] <= BATCH), "{batches:?}");
    let ends = ends(&root).await;
    assert_eq!(ends.len(), MANY);
    for key in &keys {
        assert_eq!(ends[&key.credential.as_ref().expect("it is given").id], 1);
    }
    assert!(root.introspect(&later.token, "acme", &[Scope::Read]).await.allowed);
    let [logged] = &of_action(&root, "credential.revoke_owned").await[..] else {
        panic!("it is counted once")
    };
    let after: serde_json::Value = serde_json::from_str(&logged.after).expect("JSON");
    assert_eq!((&after["revoked_count"], &*logged.target_id), (&450.into(), "id-of-acme"));
    assert!(after["revoke_time"].is_string(), "{after}");
    // A transaction writes its own event last. The deletion's transaction has written one batch before it at most.
    let log = events(&root, ListAuditEventsRequest::default()).await;
    let deleted = log.iter().position(|event| event.action == "workspace.delete");
    let before = &log[..deleted.expect("the deletion is recorded")];
    let ends = before.iter().filter(|event| event.action == "credential.revoke").count();
    assert!(ends as u64 <= BATCH, "{ends}");
}

async fn the_tokens_of_a_deleted_user_get_their_events(h: Harness) {
    let root = h.root().await;
    root.put_user("ada").await;
    let mut making = JoinSet::new();
    for _ in 0..BATCH + 1 {
        let root = root.clone();
        making.spawn(async move { root.create_pat("ada", &[Scope::Read], Role::Owner).await });
    }
    within("all are made", making.join_all()).await;
    let delete = DeleteUserRequest { user: "ada".to_owned(), ..Default::default() };
    root.directory().delete_user(delete).await.expect("they are deleted");
    // The server writes the events in the background.
    wait_for_pending_ends(&h).await;
    let ends = ends(&root).await;
    assert_eq!(ends.len() as u64, BATCH + 1);
    assert!(ends.values().all(|count| *count == 1));
}

async fn credentials_are_purged_only_after_their_events_are_written(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    many_keys(&root, "acme").await;
    root.delete_workspace("acme").await;
    let service = &h.running.service;
    let purged = service.purge_dead(Context::operator("test"), service.now(), |_| ()).await;
    assert_eq!(purged.expect("they are purged"), MANY as u64);
    assert_eq!(ends(&root).await.len(), MANY);
    let purges = of_action(&root, "credential.purge").await;
    assert!(purges.iter().all(|event| event.before.contains("revoke_time")));
}
