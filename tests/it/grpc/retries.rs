//! `request_id`: a retry creates nothing twice.

use std::collections::BTreeSet;
use std::time::Duration;

use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreateKeyResponse, CreatePatRequest, Denial, ListCredentialsRequest,
    RevokeRequest, Role, RotateRequest, Scope, revoke_request,
};
use sophic_auth::model::Permission;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::refusal::{fields, reason};
use super::rotate;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{stays_pending, within};

on_every_store! {
    a_retry_gives_the_same_credential_a_new_token,
    another_body_under_the_same_id_is_refused,
    the_order_of_scopes_does_not_change_the_body,
    a_retry_does_not_follow_a_slug_to_another_workspace,
    request_ids_are_separate_for_each_caller,
    a_retry_for_an_inactive_credential_names_it,
    a_retry_of_a_pat_and_of_a_rotation_makes_no_second_one,
    a_call_that_failed_leaves_its_id_free,
    a_request_id_is_a_uuid,
    one_hundred_racing_retries_create_one_credential,
    a_late_retry_is_refused_and_after_a_day_is_a_new_request,
    a_retry_after_use_is_refused,
    a_retry_while_the_use_is_being_written_is_refused,
}

const ID: &str = "3f0c9a52-8f3e-4d59-9b1c-6a1c2a7f0e11";

fn request() -> CreateKeyRequest {
    CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into(), Scope::Admin.into()],
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

async fn create(actor: &Actor, request: CreateKeyRequest) -> Result<CreateKeyResponse, Status> {
    actor.auth().create_key(request).await.map(tonic::Response::into_inner)
}

fn id(credential: Option<&pb::Credential>) -> String {
    credential.expect("a credential").id.clone()
}

async fn keys(actor: &Actor) -> usize {
    let request = ListCredentialsRequest { workspace: "acme".to_owned(), ..Default::default() };
    let response = actor.auth().list_credentials(request).await.expect("a page");
    response.into_inner().credentials.len()
}

async fn root(h: &Harness) -> Actor {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root
}

async fn a_retry_gives_the_same_credential_a_new_token(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = root(&h).await;
    let there = root.via(&other);
    let first = create(&root, request()).await.expect("it is made");
    // If the server knew of a use, a new token would replace one that is in use.
    assert!(root.introspect(&first.token, "acme", &[Scope::Read]).await.allowed);
    let again = create(&there, request()).await.expect("it is the same");
    assert_eq!(id(again.credential.as_ref()), id(first.credential.as_ref()));
    assert_ne!(again.token, first.token);
    assert_eq!(keys(&root).await, 1);
    for actor in [&root, &there] {
        let old = actor.introspect(&first.token, "acme", &[]).await;
        assert_eq!(old.denial(), Denial::TokenUnknown);
        assert!(actor.introspect(&again.token, "acme", &[Scope::Read]).await.allowed);
    }
    // The hint is that of the valid token.
    let credential = again.credential.expect("it is given");
    let hint = &credential.hint;
    assert!(again.token.contains(&hint[hint.len() - 4..]), "{hint}");
}

async fn another_body_under_the_same_id_is_refused(h: Harness) {
    let root = root(&h).await;
    root.put_user("ada").await;
    create(&root, request()).await.expect("it is made");
    let ttl =
        pb::create_key_request::Expiration::Ttl(prost_types::Duration { seconds: 60, nanos: 0 });
    let others = [
        CreateKeyRequest { name: "cd".to_owned(), ..request() },
        CreateKeyRequest { scopes: vec![Scope::Read.into()], ..request() },
        CreateKeyRequest { expiration: Some(ttl), ..request() },
        CreateKeyRequest { ip_allowlist: vec!["192.0.2.1".to_owned()], ..request() },
        CreateKeyRequest { annotations: [("a".to_owned(), "b".to_owned())].into(), ..request() },
    ];
    for other in others {
        assert_eq!(fields(create(&root, other.clone()).await), ["request_id"], "{other:?}");
    }
    let pat = CreatePatRequest {
        user: "ada".to_owned(),
        name: "ci".to_owned(),
        scopes: request().scopes,
        request_id: ID.to_owned(),
        ..Default::default()
    };
    assert_eq!(fields(root.auth().create_pat(pat).await), ["request_id"]);
    assert_eq!(keys(&root).await, 1);
}

async fn the_order_of_scopes_does_not_change_the_body(h: Harness) {
    let root = root(&h).await;
    create(&root, request()).await.expect("it is made");
    let scopes = vec![Scope::Admin.into(), Scope::Read.into(), Scope::Read.into()];
    let request_id = ID.to_uppercase();
    let same = CreateKeyRequest { scopes, request_id, ..request() };
    create(&root, same).await.expect("it is the same");
    assert_eq!(keys(&root).await, 1);
}

async fn a_retry_does_not_follow_a_slug_to_another_workspace(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("globex").await;
    let first = create(&root, request()).await.expect("it is created");
    super::put::swap_slugs(&root, "acme", "globex").await;
    let refused = create(&root, request()).await.expect_err("acme is another workspace now");
    assert_eq!(reason(&refused), "REQUEST_REPLAYED");
    assert!(root.introspect(&first.token, "id-of-acme", &[]).await.active, "it keeps its token");
}

async fn request_ids_are_separate_for_each_caller(h: Harness) {
    let root = root(&h).await;
    let second = h.caller("second", &[Permission::CredentialsAdmin]).await;
    let one = create(&root, request()).await.expect("it is made");
    let other = create(&second, CreateKeyRequest { name: "cd".to_owned(), ..request() }).await;
    let other = other.expect("it is made");
    assert_ne!(id(one.credential.as_ref()), id(other.credential.as_ref()));
    assert_eq!(keys(&root).await, 2);
}

async fn a_retry_for_an_inactive_credential_names_it(h: Harness) {
    let root = root(&h).await;
    let made = id(create(&root, request()).await.expect("it is made").credential.as_ref());
    let credential = Some(revoke_request::Credential::CredentialId(made.clone()));
    let revoke = RevokeRequest { credential, ..Default::default() };
    root.auth().revoke(revoke).await.expect("it is revoked");
    names(&create(&root, request()).await.expect_err("it is dead"), &made);
}

/// Asserts that the retry was refused as too late, and names this credential.
fn names(status: &Status, id: &str) {
    assert_eq!((status.code(), &*reason(status)), (Code::AlreadyExists, "REQUEST_REPLAYED"));
    let info = status.get_details_error_info().expect("details");
    assert_eq!(info.metadata.get("credential_id").map(String::as_str), Some(id));
}

async fn a_retry_of_a_pat_and_of_a_rotation_makes_no_second_one(h: Harness) {
    let root = root(&h).await;
    root.put_user("ada").await;
    let request = CreatePatRequest {
        user: "ada".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Read.into()],
        max_role: Role::Member.into(),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let first = root.auth().create_pat(request.clone()).await.expect("it is made").into_inner();
    let again = root.auth().create_pat(request).await.expect("it is the same").into_inner();
    let pat = id(first.credential.as_ref());
    assert_eq!(id(again.credential.as_ref()), pat);
    let request = RotateRequest {
        request_id: "8a1dbe56-02f7-4a5f-8ab0-0d9bd8b6f0c2".to_owned(),
        ..rotate::of(&pat)
    };
    let first = rotate::rotate(&root, request.clone()).await.expect("it is rotated");
    let again = rotate::rotate(&root, request.clone()).await.expect("it is the same");
    assert_eq!(id(again.credential.as_ref()), id(first.credential.as_ref()));
    assert_eq!(again.predecessor, first.predecessor);
    assert_ne!(again.token, first.token);
    assert!(!root.introspect(&first.token, "", &[]).await.active);
    assert!(root.introspect(&again.token, "", &[]).await.active);
    let other =
        RotateRequest { overlap: Some(prost_types::Duration { seconds: 9, nanos: 0 }), ..request };
    assert_eq!(fields(rotate::rotate(&root, other).await), ["request_id"]);
    let list = ListCredentialsRequest { user: "ada".to_owned(), ..Default::default() };
    let listed = root.auth().list_credentials(list).await.expect("a page").into_inner();
    assert_eq!(listed.credentials.len(), 2);
}

async fn a_call_that_failed_leaves_its_id_free(h: Harness) {
    let root = h.root().await;
    create(&root, request()).await.expect_err("no such workspace");
    root.put_workspace("acme").await;
    create(&root, CreateKeyRequest { name: "cd".to_owned(), ..request() }).await.expect("made");
}

async fn a_request_id_is_a_uuid(h: Harness) {
    let root = root(&h).await;
    for wrong in ["1", "3f0c9a528f3e4d599b1c6a1c2a7f0e11", &format!("{{{ID}}}"), &"a".repeat(1_024)]
    {
        let request = CreateKeyRequest { request_id: wrong.to_owned(), ..request() };
        assert_eq!(fields(create(&root, request).await), ["request_id"]);
    }
}

/// The purpose of a request id: retrying a call that a busy server refused.
async fn until_answered(actor: Actor) -> CreateKeyResponse {
    within("a key is made", async {
        loop {
            match create(&actor, request()).await {
                Ok(response) => return response,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
    })
    .await
}

async fn one_hundred_racing_retries_create_one_credential(h: Harness) {
    let other = h.another(|_| {}).await;
    let root = root(&h).await;
    let there = root.via(&other);
    let racing: Vec<_> = (0..100)
        .map(|number| {
            let actor = if number % 2 == 0 { root.clone() } else { there.clone() };
            tokio::spawn(until_answered(actor))
        })
        .collect();
    let (mut made, mut tokens) = (BTreeSet::new(), Vec::new());
    for task in racing {
        let response = task.await.expect("it ends");
        made.insert(id(response.credential.as_ref()));
        tokens.push(response.token);
    }
    assert_eq!((made.len(), keys(&root).await), (1, 1));
    let mut live = 0;
    for token in tokens {
        live += u32::from(root.introspect(&token, "acme", &[]).await.active);
    }
    assert_eq!(live, 1, "the last token, and no other");
}

/// Moves the creation into the past.
async fn age(h: &Harness, seconds: i64) {
    let shift = if h.database.is_postgres() {
        format!("create_time = create_time - interval '{seconds} seconds'")
    } else {
        format!("create_time = create_time - {}", seconds * 1_000_000)
    };
    for table in ["credentials", "requests"] {
        crate::store::raw::run(&h.database, &format!("UPDATE {table} SET {shift}")).await;
    }
}

async fn a_late_retry_is_refused_and_after_a_day_is_a_new_request(h: Harness) {
    let root = root(&h).await;
    let made = id(create(&root, request()).await.expect("it is made").credential.as_ref());
    age(&h, 9 * 60).await;
    let again = create(&root, request()).await.expect("it is young");
    assert_eq!(id(again.credential.as_ref()), made);
    age(&h, 2 * 60).await;
    names(&create(&root, request()).await.expect_err("it is old"), &made);
    age(&h, 23 * 3_600).await;
    names(&create(&root, request()).await.expect_err("it is old"), &made);
    age(&h, 3_600).await;
    let new = CreateKeyRequest { name: "cd".to_owned(), ..request() };
    let new = create(&root, new).await.expect("the id is forgotten");
    assert_ne!(id(new.credential.as_ref()), made);
    assert_eq!(keys(&root).await, 2);
}

async fn a_retry_after_use_is_refused(h: Harness) {
    let root = root(&h).await;
    let made = id(create(&root, request()).await.expect("it is made").credential.as_ref());
    crate::store::raw::run(&h.database, "UPDATE credentials SET last_use_time = create_time").await;
    names(&create(&root, request()).await.expect_err("it was used"), &made);
}

async fn a_retry_while_the_use_is_being_written_is_refused(h: Harness) {
    let root = root(&h).await;
    let made = create(&root, request()).await.expect("it is made");
    assert!(root.introspect(&made.token, "acme", &[]).await.active);
    let mut retry = Box::pin(create(&root, request()));
    let mut flush = Box::pin(h.running.service.flush_last_uses());
    // The retry waits for the lock first. Then the use is taken out of memory, and its write waits behind the retry.
    let mut queue = async || {
        let time = Duration::from_millis(200);
        stays_pending(time, "the retry has the lock", &mut retry).await;
        stays_pending(time, "the use has been written", &mut flush).await;
    };
    if h.database.is_postgres() {
        let mut other = PgConnection::connect(&h.database.url()).await.expect("it answers");
        let mut holding = other.begin().await.expect("it begins");
        holding.execute("SELECT FROM credentials FOR UPDATE").await.expect("it is locked");
        queue().await;
        holding.rollback().await.expect("it is unlocked");
    } else {
        let mut other = SqliteConnection::connect(&h.database.url()).await.expect("it opens");
        let holding = other.begin_with("BEGIN IMMEDIATE").await.expect("it begins");
        queue().await;
        holding.rollback().await.expect("it is unlocked");
    }
    let (again, written) = within("both end", futures::future::join(retry, flush)).await;
    names(&again.expect_err("it was used"), &id(made.credential.as_ref()));
    assert_eq!(written, 1);
}
