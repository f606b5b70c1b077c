//! Purging while the service is in use: inactive rows are deleted, active ones answer, and watchers miss nothing.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::grpc::pb::{RevokeRequest, Scope, revoke_request};
use sophic_auth::store::AuditFilter;

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture, on_every_store};
use crate::waits::eventually;

on_every_store! {
    under_load_inactive_credentials_are_purged_and_active_ones_answer,
}

/// A server that purges continuously everything that is a moment old.
struct Purging(Harness);

impl Fixture for Purging {
    async fn set_up(database: Arc<Database>) -> Self {
        let change = |config: &mut sophic_auth::server::Config| {
            config.housekeeping.purge_every = Duration::from_millis(5);
            config.housekeeping.purge_dead_after = Duration::from_micros(1);
            config.housekeeping.purge_changes_after = Duration::from_micros(1);
        };
        Self(Harness::start(database, change).await)
    }

    async fn tear_down(_: &Database) {}
}

/// Creates keys and revokes every second one. Returns the tokens of the active ones.
async fn work(root: Actor, rounds: usize) -> Vec<String> {
    let mut living = Vec::new();
    for round in 0..rounds {
        let key = root.create_key("acme", &[Scope::Read]).await;
        assert!(root.introspect(&key.token, "acme", &[Scope::Read]).await.allowed);
        if round % 2 == 1 {
            living.push(key.token);
            continue;
        }
        let credential = Some(revoke_request::Credential::Token(key.token.clone()));
        let request = RevokeRequest { credential, ..Default::default() };
        root.auth().revoke(request).await.expect("it is revoked");
        assert!(!root.introspect(&key.token, "acme", &[]).await.active);
        for token in &living {
            assert!(root.introspect(token, "acme", &[Scope::Read]).await.allowed);
        }
    }
    living
}

async fn under_load_inactive_credentials_are_purged_and_active_ones_answer(Purging(h): Purging) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let (one, two) = tokio::join!(work(root.clone(), 30), work(root.clone(), 30));
    let store = h.database.open().await;
    let purged = async || {
        let filter =
            AuditFilter { action: Some("credential.purge".to_owned()), ..AuditFilter::default() };
        store.list_audit_events(&filter, None, 1_000).await.expect("events").len()
    };
    eventually("all that is dead is purged", async || purged().await == 30).await;
    let dead = store.list_purgeable(h.running.service.now(), 100).await.expect("ids");
    assert_eq!(dead, []);
    for token in one.iter().chain(&two) {
        assert!(root.introspect(token, "acme", &[Scope::Read]).await.allowed);
    }
    // In time all but the newest row is purged, since the server has applied the rest.
    let rows = async || store.list_changes(Default::default(), 1_000).await.expect("rows").len();
    eventually("the log is cut", async || rows().await == 1).await;
}
