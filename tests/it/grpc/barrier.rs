//! The revocation barrier on real servers: crashed replicas, deleted rows, forged notifications, and a task that
//! panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sophic_auth::cache::{
    Barrier, ChangeApplier, FollowerParts, Lease, LocalReplica, Mirror, follow_change_log,
};
use sophic_auth::grpc::pb::{Denial, RevokeRequest, Scope, revoke_request};
use sophic_auth::model::{BootClock, ReplicaId, SystemClock};
use sophic_auth::store::Store;
use sophic_auth::token::OsRandom;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;
use crate::waits::{eventually, let_time_pass, within};

on_every_store! {
    a_dead_replica_is_given_up_even_if_its_lease_outlasts_every_deadline,
    the_silence_of_a_dead_replica_is_counted_across_calls_and_servers,
    a_revocation_waits_for_a_replica_whose_row_was_deleted,
    a_replica_that_claims_a_future_revision_is_waited_for,
    a_task_that_panics_is_started_again,
    a_replica_whose_sync_panics_registers_anew,
}

/// Longer than every deadline here.
const LEASE: Duration = Duration::from_secs(3);
/// A time in which no lease ends.
const DEADLINE: Duration = Duration::from_millis(300);

async fn revoke(actor: &Actor, id: &str) -> Result<(), Status> {
    let credential = Some(revoke_request::Credential::CredentialId(id.to_owned()));
    let mut request = Request::new(RevokeRequest { credential, ..Default::default() });
    request.set_timeout(DEADLINE);
    actor.auth().revoke(request).await.map(drop)
}

/// Registers a replica that never syncs, like one that was killed.
async fn dead_replica(h: &Harness, number: u128) -> ReplicaId {
    let store =
        sophic_auth::store::open_existing(&h.database.location()).await.expect("the store opens");
    let mut feed = store.open_feed().await.expect("a feed");
    let id = ReplicaId(uuid::Uuid::from_u128(number));
    feed.register(id, LEASE).await.expect("it is registered");
    id
}

fn assert_pending(outcome: Result<(), Status>) {
    let status = outcome.expect_err("a replica has not applied it");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("committed"), "{status:?}");
}

/// Calls the servers in turn until one reports success. Returns the number of calls that did not.
async fn revoke_until_done(actors: &[&Actor], id: &str) -> usize {
    within("the dead replica is given up", async {
        for (tries, actor) in actors.iter().cycle().enumerate() {
            match revoke(actor, id).await {
                Ok(()) => return tries,
                Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
            }
        }
        0
    })
    .await
}

async fn a_dead_replica_is_given_up_even_if_its_lease_outlasts_every_deadline(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let id = dead_replica(&h, 7).await;
    let tries = revoke_until_done(&[&root], &key.credential.expect("a credential").id).await;
    assert!(tries > 1, "the lease was longer than a deadline");
    let rows = h.database.open().await.list_replicas().await.expect("the rows");
    assert!(rows.ended.contains(&id), "{rows:?}");
}

async fn the_silence_of_a_dead_replica_is_counted_across_calls_and_servers(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let id = key.credential.expect("a credential").id;
    dead_replica(&h, 7).await;
    assert_pending(revoke(&root, &id).await);
    // The other server has watched the row for as long, although no call waited there.
    let there = root.via(&other);
    revoke_until_done(&[&there, &root], &id).await;
    assert_eq!(there.introspect(&key.token, "acme", &[]).await.denial(), Denial::TokenRevoked);
}

/// Bypasses the trigger that forbids this.
fn vanish(h: &Harness) -> &'static str {
    if h.database.is_postgres() {
        "SET session_replication_role = replica; \
         ALTER TABLE replicas DISABLE TRIGGER replicas_refuse_delete; \
         DELETE FROM replicas WHERE replica_id = '00000000-0000-0000-0000-000000000007'"
    } else {
        "DROP TRIGGER replicas_refuse_delete; \
         DELETE FROM replicas WHERE replica_id = X'00000000000000000000000000000007'"
    }
}

async fn a_revocation_waits_for_a_replica_whose_row_was_deleted(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let id = key.credential.expect("a credential").id;
    let dead = dead_replica(&h, 7).await;
    // The server has read the row.
    assert_pending(revoke(&root, &id).await);
    raw::run(&h.database, vanish(&h)).await;
    let rows = h.database.open().await.list_replicas().await.expect("the rows");
    assert!(rows.replicas.iter().all(|row| row.id != dead), "{rows:?}");
    assert_pending(revoke(&root, &id).await);
    revoke_until_done(&[&root], &id).await;
}

async fn a_replica_that_claims_a_future_revision_is_waited_for(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    dead_replica(&h, 7).await;
    let claim = "UPDATE replicas SET applied = 9000000000000000000 WHERE applied = 0";
    raw::run(&h.database, claim).await;
    assert_pending(revoke(&root, &key.credential.expect("a credential").id).await);
}

/// A clock that panics once, after a number of calls.
struct PanicsOnce {
    after: u32,
    asked: AtomicU32,
}

impl PanicsOnce {
    fn after(after: u32) -> Arc<Self> {
        Arc::new(Self { after, asked: AtomicU32::new(0) })
    }

    fn has_panicked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > self.after
    }
}

impl BootClock for PanicsOnce {
    fn since_boot(&self) -> Duration {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        assert!(asked != self.after, "as if there were a fault in the loop");
        SystemClock.since_boot()
    }
}

async fn a_task_that_panics_is_started_again(h: Harness) {
    let store =
        sophic_auth::store::open_existing(&h.database.location()).await.expect("the store opens");
    let revision = store.revision().await.expect("a revision");
    let clock = PanicsOnce::after(0);
    let barrier = Barrier::new(store as Arc<dyn Store>, Arc::clone(&clock) as _, None);
    let waited = within("the task looks again", barrier.wait(revision)).await;
    waited.expect("no replica is behind");
    assert!(clock.has_panicked());
    barrier.stop().await;
}

async fn a_replica_whose_sync_panics_registers_anew(h: Harness) {
    let store =
        sophic_auth::store::open_existing(&h.database.location()).await.expect("the store opens");
    let (mirror, lease) = (Arc::new(Mirror::new(10)), Arc::new(Lease::new(LEASE)));
    let local = Arc::new(LocalReplica::new(Arc::clone(&mirror)));
    let applier = ChangeApplier::new(mirror, Arc::clone(&lease), Arc::default(), || {});
    // The replica has registered, and synced once or twice.
    let boot = PanicsOnce::after(4);
    let parts = FollowerParts {
        store: store as Arc<dyn Store>,
        applier,
        local: Arc::clone(&local),
        lease: LEASE,
        boot: Arc::clone(&boot) as _,
        clock: Arc::new(SystemClock),
        random: Arc::new(OsRandom),
    };
    let stop = CancellationToken::new();
    let following = tokio::task::spawn(follow_change_log(parts, stop.clone()));
    let holds = || lease.held_since(lease.snapshot(), SystemClock.since_boot());
    let observer = h.database.open().await;
    // The row that it had before the panic may still be there.
    eventually("it registers anew", async || {
        let rows = observer.list_replicas().await.expect("the rows").replicas;
        let rows: Vec<_> =
            rows.iter().filter(|row| row.lease == LEASE).map(|row| row.id.0).collect();
        let newest = local.row().map(|(id, _)| id.0) == rows.iter().max().copied();
        boot.has_panicked() && rows.len() == 2 && newest && holds()
    })
    .await;
    stop.cancel();
    following.await.expect("it ends in good order");
    let rows = h.database.open().await.list_replicas().await.expect("the rows");
    assert_eq!(rows.ended.len(), 1, "the second row was left in good order: {rows:?}");
}

mod notified {
    use super::*;
    use crate::stores::{Database, run};

    async fn listener(h: &Harness) -> PgListener {
        let mut listener = PgListener::connect(&h.database.url()).await.expect("it listens");
        listener.listen("sophic_auth_changes").await.expect("it listens");
        listener
    }

    /// Every role that may connect can also listen.
    async fn carries_a_revision_and_nothing_else(h: Harness) {
        let mut listener = listener(&h).await;
        let root = h.root().await;
        root.put_workspace("acme").await;
        root.create_key("acme", &[Scope::Read]).await;
        for _ in 0..3 {
            let notification =
                within("it is notified", listener.recv()).await.expect("the connection holds");
            assert!(notification.payload().parse::<u64>().is_ok(), "{}", notification.payload());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_notification_carries_a_revision_and_nothing_else() {
        run(Database::postgres().await, carries_a_revision_and_nothing_else).await;
    }

    /// Sends notifications of the next revision without pause, in every format that was ever used.
    async fn forge(url: String) {
        let pool = PgPoolOptions::new().connect(&url).await.expect("anybody may connect");
        let statement = "SELECT pg_notify('sophic_auth_changes', text) \
             FROM counter, LATERAL (VALUES \
                 ((revision + 1)::text), ((revision + 1000000)::text), \
                 (epoch::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || ' ' \
                     || (revision + 1) || ' unknown  '), \
                 ('9223372036854775808'), ('-1'), ('')) AS forged (text)";
        loop {
            sqlx::raw_sql(statement).execute(&pool).await.expect("anybody may notify");
            let_time_pass("it goes on forging", Duration::from_millis(1)).await;
        }
    }

    async fn keeps_no_key_alive(h: Harness) {
        let other = h.another(|_| {}).await;
        let root = h.root().await;
        root.put_workspace("acme").await;
        let servers = [root.via(&h), root.via(&other)];
        let mut forgers = tokio::task::JoinSet::new();
        for _ in 0..2 {
            forgers.spawn(forge(h.database.url()));
        }
        for _ in 0..100 {
            let key = root.create_key("acme", &[Scope::Read]).await;
            for server in &servers {
                assert!(server.introspect(&key.token, "acme", &[]).await.allowed);
            }
            root.revoke_token(&key.token).await;
            for server in &servers {
                let answer = server.introspect(&key.token, "acme", &[]).await;
                assert_eq!(answer.denial(), Denial::TokenRevoked);
            }
        }
        assert!(forgers.try_join_next().is_none(), "the forging went on to the end");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_forged_notification_keeps_no_key_alive() {
        run(Database::postgres().await, keeps_no_key_alive).await;
    }
}
