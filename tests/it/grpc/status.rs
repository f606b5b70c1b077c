//! `ListReplicas` and `GetStatus`, and replicas of an earlier release.

use std::time::Duration;

use sophic_auth::grpc::pb::{
    self, GetStatusRequest, ListReplicasRequest, ReplicaState, RevokeRequest, Scope, revoke_request,
};
use sophic_auth::model::{Permission, ReplicaId};
use sophic_auth::service::Service;
use tonic::{Code, Request};

use super::refusal::refused;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::store::rules::{end_all, opens_for_0_1, registration_of_0_1};
use crate::stores::on_every_store;
use crate::waits::{eventually, eventually_some};

on_every_store! {
    the_replicas_are_listed_with_their_release_and_their_lag,
    the_status_has_the_server_and_the_numbers,
    what_expires_soon_is_counted_and_listed,
    a_time_that_is_too_long_is_refused,
    a_call_that_waits_is_shown_and_the_wait_is_recorded_at_the_replica,
    a_rule_is_refused_while_a_server_of_an_earlier_release_runs,
    a_server_of_an_earlier_release_that_has_crashed_is_given_up_though_no_call_waits,
    a_limited_token_and_a_server_of_an_earlier_release_exclude_each_other,
    a_policy_for_tokens_excludes_a_server_of_an_earlier_release_until_it_is_cleared,
}

async fn replicas(actor: &Actor) -> Vec<pb::Replica> {
    let listed = actor.admin().list_replicas(ListReplicasRequest::default()).await;
    listed.expect("a page").into_inner().replicas
}

async fn status(actor: &Actor) -> pb::GetStatusResponse {
    let status = actor.admin().get_status(GetStatusRequest::default()).await;
    status.expect("a status").into_inner()
}

async fn the_replicas_are_listed_with_their_release_and_their_lag(h: Harness) {
    let monitor = h.caller("monitor", &[Permission::StatusRead]).await;
    let other = h.another(|_| {}).await;
    let both = eventually_some("both are registered and have synced", async || {
        let listed = replicas(&monitor).await;
        let synced = listed.iter().filter(|replica| replica.revision_lag == 0).count();
        (synced == 2).then_some(listed)
    })
    .await;
    for replica in &both {
        assert_eq!(replica.state(), ReplicaState::Active, "{replica:?}");
        assert_eq!(replica.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(replica.process_id, i64::from(std::process::id()));
        assert!(replica.start_time.is_some() && replica.sync_time.is_some(), "{replica:?}");
        assert!(replica.applied_revision > 0 && !replica.host.is_empty(), "{replica:?}");
        assert_eq!((&replica.waited_time, replica.waited_count), (&None, 0));
    }
    other.running.stop().await;
    h.root().await.put_workspace("since-its-end").await;
    let listed = replicas(&monitor).await;
    let ended = listed.iter().filter(|replica| replica.state() == ReplicaState::Ended);
    assert!(ended.clone().all(|replica| replica.end_time.is_some()));
    assert!(
        ended.clone().all(|replica| replica.revision_lag == 0),
        "it follows nothing: {listed:?}"
    );
    assert_eq!((ended.count(), listed.len()), (1, 2));
    // In pages of one.
    let mut page_token = String::new();
    for expected in [&listed[0].id, &listed[1].id] {
        let request = ListReplicasRequest { page_size: 1, page_token };
        let page = monitor.admin().list_replicas(request).await.expect("a page").into_inner();
        assert_eq!(&page.replicas[0].id, expected);
        page_token = page.next_page_token;
    }
    assert_eq!(page_token, "");
}

async fn the_status_has_the_server_and_the_numbers(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    let revoked = root.create_key("acme", &[Scope::Read]).await;
    root.create_key("acme", &[Scope::Read]).await;
    root.create_pat("ada", &[Scope::Read], pb::Role::Unspecified).await;
    root.revoke_token(&revoked.token).await;
    let current =
        async || h.running.service.memory_state() == sophic_auth::service::MemoryState::Current;
    eventually("memory is valid", current).await;
    let monitor = h.caller("monitor", &[Permission::StatusRead]).await;
    h.wait_until_read_by(&h).await;
    let status = status(&monitor).await;
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    let kind =
        if h.database.is_postgres() { pb::StoreKind::Postgres } else { pb::StoreKind::Sqlite };
    assert_eq!(status.store_kind(), kind);
    assert!(status.answers_from_memory && !status.host.is_empty(), "{status:?}");
    assert_eq!((status.applied_revision, status.revision_lag), (status.revision, 0));
    assert_eq!(status.barrier_wait, None);
    let exactly = |count| Some(pb::Count { count, at_least: false });
    assert_eq!((status.workspaces, status.users), (exactly(1), exactly(1)));
    assert_eq!(status.callers, exactly(2));
    assert_eq!(status.credential_counts.len(), 8, "each kind in each state");
    let of = |kind: pb::CredentialKind, state: pb::CredentialState| {
        let counted = status.credential_counts.iter();
        let mut counted = counted.filter(|one| one.kind() == kind && one.state() == state);
        counted.next().expect("a count").count
    };
    use pb::{CredentialKind as Kind, CredentialState as State};
    assert_eq!(of(Kind::Key, State::Active), exactly(1));
    assert_eq!(of(Kind::Key, State::Revoked), exactly(1));
    assert_eq!(of(Kind::Pat, State::Active), exactly(1));
    assert_eq!(of(Kind::Pat, State::Disabled), exactly(0));
}

async fn what_expires_soon_is_counted_and_listed(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    for days in [1, 2, 6, 8] {
        let ttl = prost_types::Duration { seconds: days * 86_400, nanos: 0 };
        let request = pb::CreateKeyRequest {
            workspace: "acme".to_owned(),
            name: format!("in {days} days"),
            scopes: vec![Scope::Read.into()],
            expiration: Some(pb::create_key_request::Expiration::Ttl(ttl)),
            ..Default::default()
        };
        root.auth().create_key(request).await.expect("it is made");
    }
    let within = async |days: i64| {
        let expiring_within = Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 });
        let status = root.admin().get_status(GetStatusRequest { expiring_within }).await;
        let status = status.expect("a status").into_inner();
        let names = status.expiring_credentials.into_iter().map(|one| one.name);
        (status.expiring.expect("a count").count, names.collect::<Vec<_>>())
    };
    let soon = ["in 1 days", "in 2 days", "in 6 days"].map(str::to_owned);
    let status = status(&root).await;
    assert_eq!(status.expiring.map(|count| count.count), Some(3), "within 7 days");
    let first = &status.expiring_credentials[0];
    assert_eq!((first.kind(), &*first.workspace_id), (pb::CredentialKind::Key, "id-of-acme"));
    assert!(first.expire_time.is_some() && first.hint.starts_with("sophic_key_"), "{first:?}");
    assert_eq!(within(7).await, (3, soon.to_vec()));
    assert_eq!(within(2).await, (2, soon[..2].to_vec()));
    assert_eq!(within(366).await.0, 4);
    assert_eq!(within(0).await, (0, Vec::new()));
}

async fn a_time_that_is_too_long_is_refused(h: Harness) {
    let root = h.root().await;
    for (seconds, nanos) in [(366 * 86_400, 1), (-1, 0), (0, -1)] {
        let expiring_within = Some(prost_types::Duration { seconds, nanos });
        let status = root.admin().get_status(GetStatusRequest { expiring_within }).await;
        let status = status.expect_err("it is refused");
        assert!(status.message().contains("expiring_within"), "{status:?}");
        assert_eq!(
            refused::<()>(Err(status)),
            (Code::InvalidArgument, "ARGUMENT_INVALID".to_owned())
        );
    }
}

async fn a_call_that_waits_is_shown_and_the_wait_is_recorded_at_the_replica(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    // It never syncs, like a server that was killed.
    let store = h.database.open().await;
    let mut feed = store.open_feed().await.expect("a feed");
    let dead = ReplicaId(uuid::Uuid::from_u128(7));
    feed.register(dead, Duration::from_secs(3)).await.expect("it is registered");
    let id = key.credential.expect("a credential").id;
    let revoking = root.clone();
    let revoke = tokio::task::spawn(async move {
        let credential = Some(revoke_request::Credential::CredentialId(id));
        let request = RevokeRequest { credential, ..Default::default() };
        revoking.auth().revoke(Request::new(request)).await.map(drop)
    });
    let wait =
        eventually_some("the wait is shown", async || status(&root).await.barrier_wait).await;
    assert!(wait.revision > 0, "{wait:?}");
    eventually("the replica is named", async || {
        let wait = status(&root).await.barrier_wait;
        wait.is_some_and(|wait| wait.replica_ids == [dead.to_string()])
    })
    .await;
    revoke.await.expect("no panic").expect("the replica is given up");
    assert_eq!(status(&root).await.barrier_wait, None);
    let listed = replicas(&root).await;
    let of = |id: &str| listed.iter().find(|replica| replica.id == id).expect("it is listed");
    let dead = of(&dead.to_string());
    assert_eq!((dead.state(), dead.waited_count), (ReplicaState::Ended, 1));
    assert!(dead.waited_time.is_some());
    let live = listed.iter().filter(|replica| replica.state() == ReplicaState::Active);
    assert!(live.clone().all(|replica| replica.waited_count == 0), "{listed:?}");
    assert_eq!(live.count(), 1);
}

/// Returns the outcome of setting a rule that a server of an earlier release would ignore.
async fn set_rule(h: &Harness) -> Result<(), (String, Vec<(&'static str, String)>)> {
    let store = h.database.open().await;
    let mut tx = store.begin("test").await.expect("a transaction");
    let set = Service::require_new_rules(&mut *tx).await;
    set.map_err(|error| (error.reason.code().to_owned(), error.metadata))
}

async fn a_rule_is_refused_while_a_server_of_an_earlier_release_runs(h: Harness) {
    assert_eq!(set_rule(&h).await, Ok(()), "only this release");
    raw::run(&h.database, &registration_of_0_1(&h.database, 0xee)).await;
    let (reason, metadata) = set_rule(&h).await.expect_err("a server would ignore it");
    assert_eq!(reason, "REPLICA_TOO_OLD");
    let text = |value: &str| value.to_owned();
    assert_eq!(metadata, [("host", text("old-host pid 7")), ("version", text("older than 0.2"))]);
    raw::run(&h.database, &end_all(&h.database)).await;
    assert_eq!(set_rule(&h).await, Ok(()), "it has ended");
}

async fn a_server_of_an_earlier_release_that_has_crashed_is_given_up_though_no_call_waits(
    h: Harness,
) {
    let registration = registration_of_0_1(&h.database, 0xee).replace("10000000", "100000");
    raw::run(&h.database, &registration).await;
    let given_up = async || set_rule(&h).await.is_ok();
    eventually("the replica is given up", given_up).await;
}

async fn a_limited_token_and_a_server_of_an_earlier_release_exclude_each_other(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", pb::Role::Member).await;
    let create = async || {
        let request = pb::CreatePatRequest {
            user: "ada".to_owned(),
            name: "ci".to_owned(),
            scopes: vec![Scope::Read.into()],
            workspaces: vec!["acme".to_owned()],
            ..Default::default()
        };
        root.auth().create_pat(request).await
    };
    raw::run(&h.database, &registration_of_0_1(&h.database, 0xee)).await;
    let too_old = (Code::FailedPrecondition, "REPLICA_TOO_OLD".to_owned());
    assert_eq!(refused(create().await), too_old);
    let unlimited = root.create_pat("ada", &[Scope::Read], pb::Role::Unspecified).await;
    assert!(!unlimited.token.is_empty(), "what it knows is allowed");
    assert!(opens_for_0_1(&h.database).await);
    raw::run(&h.database, &end_all(&h.database)).await;
    let token = create().await.expect("only this release runs").into_inner().token;
    let another = registration_of_0_1(&h.database, 0xef);
    raw::try_run(&h.database, &another).await.expect_err("it would ignore the limit");
    h.running.service.release_rules().await.expect("it is checked");
    assert!(!opens_for_0_1(&h.database).await);
    root.revoke_token(&token).await;
    h.running.service.release_rules().await.expect("it is checked");
    assert!(opens_for_0_1(&h.database).await, "no rule is in use any more");
    raw::run(&h.database, &another).await;
}

async fn a_policy_for_tokens_excludes_a_server_of_an_earlier_release_until_it_is_cleared(
    h: Harness,
) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let put = async |pats_forbidden: bool| {
        let policy = pb::PatPolicy { forbidden: Some(pats_forbidden), ..Default::default() };
        let workspace = pb::Workspace {
            id: "id-of-acme".to_owned(),
            slug: "acme".to_owned(),
            display_name: "Acme".to_owned(),
            pat_policy: Some(policy),
            ..Default::default()
        };
        let request = pb::PutWorkspaceRequest { workspace: Some(workspace) };
        root.directory().put_workspace(request).await
    };
    let registration = registration_of_0_1(&h.database, 0xee);
    raw::run(&h.database, &registration).await;
    let too_old = (Code::FailedPrecondition, "REPLICA_TOO_OLD".to_owned());
    assert_eq!(refused(put(true).await), too_old);
    raw::run(&h.database, &end_all(&h.database)).await;
    put(true).await.expect("only this release runs");
    assert!(!opens_for_0_1(&h.database).await);
    put(false).await.expect("it is cleared");
    h.running.service.release_rules().await.expect("it is checked");
    assert!(opens_for_0_1(&h.database).await, "no rule is in use any more");
}
