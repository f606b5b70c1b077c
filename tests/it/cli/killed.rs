//! A server that is killed during a bulk revocation: complete batches are committed, and a second run finishes the work.

use rustix::process::Signal;
use sophic_auth::grpc::pb::BulkRevokeRequest;
use sophic_auth::model::{
    Annotations, AuditEvent, Credential, CredentialId, CredentialKind, Digest, DisplayName,
    EventId, IpAllowlist, Owner, Scope, Timestamp, WorkspaceId,
};
use sophic_auth::store::{self, AuditFilter, RevokeFilter, Store};
use sophic_auth_client::pb::auth_service_client::AuthServiceClient;
use tonic::{Request, Status};

use super::program::{Program, Serving, operator};
use crate::stores::on_every_store;
use crate::waits::{eventually, within};

on_every_store! {
    a_server_killed_in_the_middle_of_revoking_many_leaves_whole_batches,
    a_command_interrupted_in_the_middle_of_revoking_many_says_that_some_are,
}

const KEYS: u32 = 2_600;

async fn a_server_killed_in_the_middle_of_revoking_many_leaves_whole_batches(p: Program) {
    p.run("workspace put acme --id w1").ok();
    let caller = p.run("caller create root --permission credentials.admin --output token").word();
    let store = store::open(&p.database.location()).await.expect("the store opens");
    let workspace = WorkspaceId::parse("w1").expect("an id");
    insert_keys(&*store, &workspace).await;
    let filter = RevokeFilter { workspace_id: Some(workspace), ..RevokeFilter::default() };
    let left = async || store.count_revocable(&filter).await.expect("a count");
    let all = u64::from(KEYS);

    let (server, url) = serve(&p);
    let killed = async {
        // Kills the server, by dropping it, as soon as the first batch is committed.
        eventually("the first batch is committed", async || left().await < all).await;
        drop(server);
    };
    let (outcome, ()) = tokio::join!(revoke(&url, &caller), killed);
    let remaining = left().await;
    assert!(remaining > 0 && outcome.is_err(), "it was killed too late to show anything");
    assert_eq!((all - remaining) % 50, 0, "whole batches");
    assert_eq!(revocations(&*store).await, all - remaining);

    let (_server, url) = serve(&p);
    let done = revoke(&url, &caller).await.expect("the second run completes the work");
    assert_eq!(done, remaining);
    assert_eq!(left().await, 0);
    assert_eq!(revocations(&*store).await, all, "one event for each");
    store.close().await;
}

async fn a_command_interrupted_in_the_middle_of_revoking_many_says_that_some_are(p: Program) {
    p.run("workspace put acme --id w1").ok();
    let store = store::open(&p.database.location()).await.expect("the store opens");
    let workspace = WorkspaceId::parse("w1").expect("an id");
    insert_keys(&*store, &workspace).await;
    let filter = RevokeFilter { workspace_id: Some(workspace), ..RevokeFilter::default() };
    let left = async || store.count_revocable(&filter).await.expect("a count");
    let command = p.start("credentials revoke --workspace acme");
    eventually("the first batch is committed", async || left().await < u64::from(KEYS)).await;
    command.signal(Signal::INT);
    assert_eq!(command.end().code(), Some(3), "committed, but not confirmed");
    assert!(left().await > 0, "it was interrupted too late to show anything");
    store.close().await;
}

/// A server with a short lease, so that the next one does not wait long for the killed one.
fn serve(p: &Program) -> (Serving, String) {
    let words = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --output json --lease 1s";
    let mut server = p.start(words);
    let url = server.json()["grpc"].as_str().expect("a URL").to_owned();
    (server, url)
}

/// Returns the number of revoked credentials. A busy machine needs several calls.
async fn revoke(url: &str, caller: &str) -> Result<u64, Status> {
    let mut client = AuthServiceClient::connect(url.to_owned())
        .await
        .expect("the server accepts the connection");
    let (mut count, mut page_token) = (0, String::new());
    within("all of them are revoked", async {
        loop {
            let workspace = "acme".to_owned();
            let message = BulkRevokeRequest { workspace, page_token, ..Default::default() };
            let mut request = Request::new(message);
            let value = format!("Bearer {caller}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
            let done = client.bulk_revoke(request).await?.into_inner();
            count += u64::try_from(done.revoked_count).expect("positive");
            page_token = done.next_page_token;
            if page_token.is_empty() {
                return Ok(count);
            }
        }
    })
    .await
}

/// Returns the number of revoked credentials in the audit log.
async fn revocations(store: &dyn Store) -> u64 {
    let action = Some("credential.revoke".to_owned());
    let filter = AuditFilter { action, ..AuditFilter::default() };
    let (mut count, mut after) = (0, None);
    within("the last page of the log", async {
        loop {
            let page = store.list_audit_events(&filter, after, 1_000).await.expect("a page");
            let Some(last) = page.last() else { return count };
            after = Some(last.id);
            count += page.len() as u64;
        }
    })
    .await
}

/// Inserts keys of the workspace in one transaction.
async fn insert_keys(store: &dyn Store, workspace: &WorkspaceId) {
    let at = |micros| Timestamp::from_unix_micros(micros).expect("a time");
    let mut tx = store.begin("test").await.expect("a transaction");
    for number in 0..KEYS {
        let time = at(i64::from(number) * 1_000);
        let id = CredentialId::new(time, [3; 10]);
        let key = Credential {
            id,
            kind: CredentialKind::Key,
            owner: Owner::Workspace(workspace.clone()),
            generation: 0,
            name: DisplayName::parse("ci").expect("a name"),
            hint: "sophic_key_...abcd".to_owned(),
            scopes: [Scope::Read].into_iter().collect(),
            ip_allowlist: IpAllowlist::parse([]).expect("no CIDRs"),
            end_at_once: false,
            granted_workspaces: None,
            barred_workspaces: sophic_auth::model::WorkspaceSet::default(),
            annotations: Annotations::default(),
            create_time: time,
            expire_time: None,
            disable_time: None,
            revoke_time: None,
            last_use: None,
            creator: operator(),
            predecessor_id: None,
            family_id: id,
            version: 1,
        };
        let digest = Digest::of(&format!("key {number}"));
        tx.insert_credential(&key, &digest).await.expect("the creation succeeds");
    }
    let event = AuditEvent {
        id: EventId::in_order(at(1), [1; 10]),
        time: at(1),
        action: "test.insert".to_owned(),
        caller: "test".to_owned(),
        acting_user: None,
        target_kind: "credential".to_owned(),
        target_id: String::new(),
        remote_address: None,
        before: None,
        after: None,
        reason: None,
        refusal: None,
    };
    tx.commit(&event).await.expect("the commit succeeds");
}
