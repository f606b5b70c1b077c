//! Time and address of the last use, which are not written by the introspection itself.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::grpc::pb::{self, IntrospectRequest, Scope};
use sophic_auth::model::{CredentialId, LastUse, Timestamp};

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture, on_every_store};
use crate::waits::{eventually, within};

on_every_store! {
    a_use_is_written_later_with_the_clients_address,
    pending_uses_are_written_when_the_server_stops,
    an_inactive_credential_has_no_use,
    a_use_changes_neither_etag_nor_revision_nor_log,
    racing_replicas_never_move_a_use_backwards,
}

async fn get(root: &Actor, id: &str) -> pb::Credential {
    let request = pb::GetCredentialRequest { credential_id: id.to_owned(), ..Default::default() };
    root.auth()
        .get_credential(request)
        .await
        .expect("it is there")
        .into_inner()
        .credential
        .expect("one")
}

async fn use_from(root: &Actor, token: &str, client_ip: &str) {
    let request = IntrospectRequest {
        token: token.to_owned(),
        client_ip: client_ip.to_owned(),
        ..Default::default()
    };
    root.auth().introspect(request).await.expect("an answer");
}

/// Interval at which the server writes last uses.
struct Flushing(Harness);

impl Fixture for Flushing {
    async fn set_up(database: Arc<Database>) -> Self {
        let change = |config: &mut sophic_auth::server::Config| {
            config.housekeeping.last_use_flush = Duration::from_millis(20);
        };
        Self(Harness::start(database, change).await)
    }

    async fn tear_down(_: &Database) {}
}

async fn a_use_is_written_later_with_the_clients_address(Flushing(h): Flushing) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let id = key.credential.expect("a credential").id;
    assert_eq!(get(&root, &id).await.last_use_time, None);
    use_from(&root, &key.token, "192.0.2.7").await;
    eventually("the use is written", async || get(&root, &id).await.last_use_time.is_some()).await;
    assert_eq!(get(&root, &id).await.last_use_ip, "192.0.2.7");
    use_from(&root, &key.token, "").await;
    eventually("the later use is written", async || get(&root, &id).await.last_use_ip.is_empty())
        .await;
}

async fn pending_uses_are_written_when_the_server_stops(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let id = CredentialId::parse(&key.credential.expect("a credential").id).expect("an id");
    use_from(&root, &key.token, "192.0.2.7").await;
    let database = Arc::clone(&h.database);
    h.running.stop().await;
    let again = Harness::start(database, |_| {}).await;
    let row = again.database.open().await.find_credential(id).await.expect("a read");
    assert!(row.expect("a row").last_use.is_some());
}

async fn an_inactive_credential_has_no_use(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let dead = root.create_key("acme", &[Scope::Read]).await;
    let refused = root.create_key("acme", &[Scope::Read]).await;
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::Token(dead.token.clone())),
        ..Default::default()
    };
    root.auth().revoke(revoke).await.expect("it is revoked");
    use_from(&root, &dead.token, "").await;
    // Active but not allowed: it was presented, which is a use.
    root.introspect(&refused.token, "elsewhere", &[]).await;
    assert_eq!(h.running.service.flush_last_uses().await, 1);
    assert!(get(&root, &refused.credential.expect("one").id).await.last_use_time.is_some());
}

async fn a_use_changes_neither_etag_nor_revision_nor_log(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let made = key.credential.expect("a credential");
    let store = h.database.open().await;
    let revision = store.revision().await.expect("a revision");
    let logged =
        store.list_audit_events(&Default::default(), None, 100).await.expect("events").len();
    use_from(&root, &key.token, "").await;
    assert_eq!(h.running.service.flush_last_uses().await, 1);
    assert_eq!(get(&root, &made.id).await.etag, made.etag);
    assert_eq!(store.revision().await.expect("a revision"), revision);
    assert_eq!(
        store.list_audit_events(&Default::default(), None, 100).await.expect("events").len(),
        logged
    );
}

async fn racing_replicas_never_move_a_use_backwards(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let key = root.create_key("acme", &[Scope::Read]).await;
        ids.push(CredentialId::parse(&key.credential.expect("one").id).expect("an id"));
    }
    let store = h.database.open().await;
    let at = |micros| Timestamp::from_unix_micros(micros).expect("a time");
    let uses = |micros: i64| -> Vec<_> {
        let ip = Some("192.0.2.1".parse().expect("an address"));
        ids.iter().map(|id| (*id, LastUse { time: at(micros), ip })).collect()
    };
    let mut racing = tokio::task::JoinSet::new();
    for micros in [5, 9, 1, 7, 3, 8, 2, 6, 4] {
        let (store, mut uses) = (Arc::clone(&store), uses(micros * 1_000_000));
        if micros % 2 == 0 {
            uses.reverse();
        }
        racing.spawn(async move { store.write_last_uses(&uses, &[]).await });
    }
    within("all uses are written", async {
        while let Some(outcome) = racing.join_next().await {
            outcome.expect("no panic").expect("it is written");
        }
    })
    .await;
    assert_eq!(store.write_last_uses(&uses(8_000_000), &[]).await.expect("nothing to write"), 0);
    for id in ids {
        let row = store.find_credential(id).await.expect("a read").expect("a row");
        assert_eq!(row.last_use.map(|last_use| last_use.time), Some(at(9_000_000)));
    }
}
