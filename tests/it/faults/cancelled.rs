//! Clients that cancel at any moment: no transaction stays open, and no later acknowledged write ends up in one and is
//! lost.

use std::time::Duration;

use sophic_auth::grpc::pb::{
    CreateKeyRequest, IntrospectRequest, RevokeRequest, Scope, revoke_request,
};
use sqlx::{Connection as _, PgConnection, Row as _};
use tonic::Request;

use crate::harness::{Actor, Harness};
use crate::stores::{Database, Fixture as _};
use crate::waits::{drop_after, eventually};

/// Number of calls of each kind.
const CALLS: u64 = 300;
fn with_timeout_micros<T>(message: T, micros: u64) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_micros(micros));
    request
}

async fn give_up(root: &Actor, token: &str, turn: u64) {
    // Every delay from 20 to 1,500 µs comes up sooner or later.
    let micros = 20 + (turn * 379) % 1_481;
    let create = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    let credential = Some(revoke_request::Credential::Token(token.to_owned()));
    let revoke = RevokeRequest { credential, ..Default::default() };
    let fresh = true;
    let ask = IntrospectRequest { token: token.to_owned(), fresh, ..Default::default() };
    let (mut first, mut second, mut third) = (root.auth(), root.auth(), root.auth());
    let (mut fourth, mut fifth) = (root.auth(), root.auth());
    // Some calls carry a deadline, the others are just dropped.
    let going = Duration::from_micros(micros);
    let _ = tokio::join!(
        first.create_key(with_timeout_micros(create.clone(), micros)),
        second.revoke(with_timeout_micros(revoke, micros)),
        third.introspect(with_timeout_micros(ask.clone(), micros)),
        drop_after(going, fourth.create_key(create)),
        drop_after(going, fifth.introspect(ask)),
    );
}

/// Waits until all transactions that are open now have ended. The server keeps working, and its new transactions do not
/// count.
async fn until_open_transactions_have_ended(database: &mut PgConnection) {
    let now = "SELECT clock_timestamp()::text";
    let now: String = sqlx::query(now).fetch_one(&mut *database).await.expect("a time").get(0);
    let open = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND state LIKE 'idle in transaction%' \
        AND xact_start < $1::timestamptz";
    eventually("every transaction that was open has ended", async || {
        let count = sqlx::query(open).bind(&now).fetch_one(&mut *database).await;
        count.expect("a count").get::<i64, _>(0) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_calls_leave_no_open_transaction_and_lose_no_later_write() {
    let h = Harness::set_up(Database::postgres().await.into()).await;
    let root = h.root().await;
    root.put_workspace("acme").await;
    for turn in 0..CALLS {
        let token = root.create_key("acme", &[Scope::Read]).await.token;
        give_up(&root, &token, turn).await;
    }
    eventually("the server is idle", async || h.running.service.is_idle()).await;
    let mut database = PgConnection::connect(&h.database.url()).await.expect("it answers");
    until_open_transactions_have_ended(&mut database).await;
    for _ in 0..30 {
        let id = root.create_key("acme", &[Scope::Read]).await.credential.expect("a key").id;
        let there = sqlx::query("SELECT count(*) FROM credentials WHERE id = $1::text::uuid")
            .bind(&id)
            .fetch_one(&mut database)
            .await;
        assert_eq!(there.expect("a count").get::<i64, _>(0), 1, "{id} was acknowledged");
    }
}
