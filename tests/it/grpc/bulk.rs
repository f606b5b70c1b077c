//! Revoking many credentials at once: by a filter, and by a list of leaked tokens.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::grpc::pb::{self, BulkRevokeRequest, Denial, ListAuditEventsRequest, Role, Scope};
use sophic_auth::model::{Clock, CredentialId, LastUse, SystemClock, Timestamp, WorkspaceName};
use sophic_auth::server::uncached_service;
use sophic_auth::service::{BulkRevoke, Context, Options, StoreClock};
use tonic::Code;

use super::audit::{events, of_action};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::{block, within};

on_every_store! {
    each_field_of_the_filter_restricts,
    a_dry_run_counts_and_ends_nothing,
    a_filter_that_names_nothing_is_refused,
    several_batches_are_revoked_and_a_second_run_finds_none,
    credentials_beyond_the_time_of_a_call_are_left_to_the_next,
    a_server_with_a_slow_clock_revokes_what_another_has_just_created,
    revoked_credentials_are_refused_at_once_and_recorded,
    real_leaked_tokens_are_revoked_and_named,
    leaked_tokens_are_found_in_the_text_around_them,
    a_thousand_candidates_fit_in_one_call_and_one_more_does_not,
}

async fn revoke(root: &Actor, request: BulkRevokeRequest) -> pb::BulkRevokeResponse {
    root.auth().bulk_revoke(request).await.expect("they are ended").into_inner()
}

fn id_of(credential: Option<pb::Credential>) -> String {
    credential.expect("a credential").id
}

async fn state(root: &Actor, id: &str) -> pb::CredentialState {
    let request = pb::GetCredentialRequest { credential_id: id.to_owned(), ..Default::default() };
    let credential = root.auth().get_credential(request).await.expect("it is there").into_inner();
    credential.credential.expect("a credential").state()
}

async fn each_field_of_the_filter_restricts(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("other").await;
    root.put_user("ada").await;
    root.put_user("bob").await;
    let acme = id_of(root.create_key("acme", &[Scope::Read]).await.credential);
    let other = id_of(root.create_key("other", &[Scope::Read]).await.credential);
    let ada = id_of(root.create_pat("ada", &[Scope::Read], Role::Owner).await.credential);
    let bob = id_of(root.create_pat("bob", &[Scope::Read], Role::Owner).await.credential);
    let service = &h.running.service;
    let used = LastUse { time: service.now(), ip: None };
    let other_id = CredentialId::parse(&other).expect("an id");
    h.database.open().await.write_last_uses(&[(other_id, used)], &[]).await.expect("it is written");
    let request = pb::GetCredentialRequest { credential_id: bob.clone(), ..Default::default() };
    let bob_made = root.auth().get_credential(request).await.expect("it is there").into_inner();
    let bob_made = bob_made.credential.and_then(|credential| credential.create_time);
    let none = BulkRevokeRequest::default;
    let cases = [
        (BulkRevokeRequest { workspace: "acme".to_owned(), ..none() }, vec![&acme]),
        (BulkRevokeRequest { workspace: "id-of-acme".to_owned(), ..none() }, vec![&acme]),
        (BulkRevokeRequest { user: "ada".to_owned(), ..none() }, vec![&ada]),
        (BulkRevokeRequest { family_id: other.clone(), ..none() }, vec![&other]),
        (
            BulkRevokeRequest { creator: "caller:root".to_owned(), ..none() },
            vec![&acme, &other, &ada, &bob],
        ),
        (BulkRevokeRequest { creator: "caller:nobody".to_owned(), ..none() }, vec![]),
        (BulkRevokeRequest { created_before: bob_made, ..none() }, vec![&acme, &other, &ada]),
        (
            BulkRevokeRequest {
                last_used_before: Some(prost_types::Timestamp {
                    seconds: used.time.unix_micros() / 1_000_000 - 1,
                    nanos: 0,
                }),
                ..none()
            },
            vec![&acme, &ada, &bob],
        ),
        (
            BulkRevokeRequest {
                workspace: "acme".to_owned(),
                creator: "caller:nobody".to_owned(),
                ..none()
            },
            vec![],
        ),
    ];
    for (filter, expected) in cases {
        let dry = revoke(&root, BulkRevokeRequest { dry_run: true, ..filter.clone() }).await;
        let sample: Vec<_> = dry.sample.iter().map(|credential| &credential.id).collect();
        assert_eq!(sample, expected, "{filter:?}");
        assert_eq!(dry.revoked_count, i64::try_from(expected.len()).expect("few"), "{filter:?}");
    }
    let done = revoke(&root, BulkRevokeRequest { user: "ada".to_owned(), ..none() }).await;
    assert_eq!((done.revoked_count, done.sample.len()), (1, 0));
    assert_eq!(state(&root, &ada).await, pb::CredentialState::Revoked);
    assert_eq!(state(&root, &bob).await, pb::CredentialState::Active);
}

async fn a_dry_run_counts_and_ends_nothing(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    for _ in 0..12 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let before = h.running.service.revision().await.expect("a revision");
    let request =
        BulkRevokeRequest { workspace: "acme".to_owned(), dry_run: true, ..Default::default() };
    let dry = revoke(&root, request).await;
    assert_eq!((dry.revoked_count, dry.sample.len()), (12, 10));
    assert!(dry.sample.iter().all(|key| key.state() == pb::CredentialState::Active));
    assert_eq!(h.running.service.revision().await.expect("a revision"), before);
}

async fn a_filter_that_names_nothing_is_refused(h: Harness) {
    let root = h.root().await;
    let everything = BulkRevokeRequest { reason: "why not".to_owned(), ..Default::default() };
    let refused = root.auth().bulk_revoke(everything).await.expect_err("that would be all");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let unknown = BulkRevokeRequest { workspace: "nowhere".to_owned(), ..Default::default() };
    let refused = root.auth().bulk_revoke(unknown).await.expect_err("no such workspace");
    assert_eq!(refused.code(), Code::NotFound);
    let nobody = BulkRevokeRequest {
        workspace: "nowhere".to_owned(),
        acting_user: "nobody".to_owned(),
        ..Default::default()
    };
    let refused = root.auth().bulk_revoke(nobody).await.expect_err("no such acting user");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refusals = of_action(&root, "credential.bulk_revoke").await;
    let logged: Vec<_> = refusals.iter().map(|event| &*event.refusal).collect();
    assert_eq!(logged, ["ARGUMENT_INVALID", "WORKSPACE_NOT_FOUND", "ACTING_USER_NOT_ACTIVE"]);
}

async fn several_batches_are_revoked_and_a_second_run_finds_none(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    let spared = root.create_pat("ada", &[Scope::Read], Role::Owner).await;
    for _ in 0..55 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let request = BulkRevokeRequest { workspace: "acme".to_owned(), ..Default::default() };
    let done = revoke(&root, request.clone()).await;
    assert_eq!(done.revoked_count, 55);
    let batches = of_action(&root, "credential.bulk_revoke").await;
    assert_eq!(batches.len(), 2);
    assert!(batches[0].after.contains(r#""revoked_count":50"#), "{:?}", batches[0]);
    assert_eq!(of_action(&root, "credential.revoke").await.len(), 55);
    let again = revoke(&root, request).await;
    assert_eq!(again.revoked_count, 0);
    assert!(again.revision >= done.revision);
    assert!(root.introspect(&spared.token, "", &[]).await.active);
}

async fn credentials_beyond_the_time_of_a_call_are_left_to_the_next(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    for _ in 0..105 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let service = &h.running.service;
    let request = |page_token: String| BulkRevoke {
        workspace: Some(WorkspaceName::parse("acme").expect("a name")),
        page_token,
        ..Default::default()
    };
    let operator = Context::operator("test");
    let refused = service.bulk_revoke(operator, request("x".to_owned()), |_| ()).await;
    assert_eq!(refused.expect_err("no token").reason.code(), "ARGUMENT_INVALID");
    let deadline = Some(tokio::time::Instant::now() + Duration::from_secs(10));
    let context = Context { deadline, ..Context::operator("test") };
    // The first batch takes more than half of the time.
    let first = service.bulk_revoke(context, request(String::new()), |_| {
        block("as a slow batch does", Duration::from_secs(5));
    });
    let first = first.await.expect("what it could");
    assert_eq!(first.count, 50);
    let spared = root.create_key("acme", &[Scope::Read]).await;
    let mut token = first.next_token;
    let mut count = first.count;
    within("all of them are revoked", async {
        while !token.is_empty() {
            let going_on = BulkRevokeRequest {
                workspace: "acme".to_owned(),
                page_token: token,
                ..Default::default()
            };
            let more = revoke(&root, going_on).await;
            count += u64::try_from(more.revoked_count).expect("a count");
            token = more.next_page_token;
        }
    })
    .await;
    assert_eq!(count, 105);
    assert!(root.introspect(&spared.token, "acme", &[]).await.active, "made since it began");
}

/// A machine whose clock is behind, but not so far that the clock of the store corrects it.
struct Slow;

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        SystemClock.now().saturating_sub(Duration::from_millis(900))
    }
}

async fn a_server_with_a_slow_clock_revokes_what_another_has_just_created(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let clock = Arc::new(StoreClock::new(Arc::new(Slow)));
    let slow = uncached_service(h.database.open().await, clock, Options::default());
    let request = |dry_run| BulkRevoke {
        workspace: Some(WorkspaceName::parse("acme").expect("a name")),
        dry_run,
        ..Default::default()
    };
    let operator = || Context::operator("test");
    let key = root.create_key("acme", &[Scope::Read]).await;
    let counted = slow.bulk_revoke(operator(), request(true), |_| ()).await.expect("a count");
    assert_eq!(counted.count, 1);
    let revoked = slow.bulk_revoke(operator(), request(false), |_| ()).await.expect("it is ended");
    assert_eq!((revoked.count, &*revoked.next_token), (1, ""));
    assert!(!root.introspect(&key.token, "acme", &[]).await.active);
}

async fn revoked_credentials_are_refused_at_once_and_recorded(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root.put_membership("acme", "ada", Role::Admin).await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    assert!(root.introspect(&key.token, "acme", &[]).await.active);
    let request = BulkRevokeRequest {
        workspace: "acme".to_owned(),
        reason: "the workspace was broken into".to_owned(),
        acting_user: "ada".to_owned(),
        ..Default::default()
    };
    revoke(&root, request).await;
    let answer = root.introspect(&key.token, "acme", &[]).await;
    assert_eq!(answer.denial(), Denial::TokenRevoked);
    let id = id_of(key.credential);
    let filter = ListAuditEventsRequest { target_id: id, ..Default::default() };
    let story = events(&root, filter).await;
    let logged: Vec<_> =
        story.iter().map(|event| (&*event.action, &*event.acting_user, &*event.reason)).collect();
    let revoked = ("credential.revoke", "ada", "the workspace was broken into");
    assert_eq!(logged, [("key.create", "", ""), revoked]);
}

async fn real_leaked_tokens_are_revoked_and_named(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let pat = root.create_pat("ada", &[Scope::Read], Role::Owner).await;
    let dead = root.create_key("acme", &[Scope::Read]).await;
    let revoke = pb::revoke_request::Credential::Token(dead.token.clone());
    let revoke = pb::RevokeRequest { credential: Some(revoke), ..Default::default() };
    root.auth().revoke(revoke).await.expect("it is revoked");
    let found = |token: &str| pb::LeakedToken {
        token: token.to_owned(),
        url: "https://example.com/paste/1".to_owned(),
        reason: "secret scanner".to_owned(),
    };
    let texts = [
        &*key.token,
        "password123",
        "",
        &pat.token,
        &dead.token,
        &key.token,
        "sophic_key_nonsense",
    ];
    let request = pb::RevokeLeakedRequest { tokens: texts.into_iter().map(found).collect() };
    let results = root.auth().revoke_leaked(request).await.expect("an answer").into_inner().results;
    let logged: Vec<_> = results.iter().map(|result| (result.real, result.revoked_now)).collect();
    let (no, old, now) = ((false, false), (true, false), (true, true));
    assert_eq!(logged, [now, no, no, now, old, old, no]);
    assert_eq!(id_of(results[0].credential.clone()), id_of(key.credential.clone()));
    assert!(!root.introspect(&key.token, "acme", &[]).await.active);
    assert!(!root.introspect(&pat.token, "acme", &[]).await.active);
    let filter = ListAuditEventsRequest { target_id: id_of(key.credential), ..Default::default() };
    let story = events(&root, filter).await;
    assert_eq!(story[1].reason, "secret scanner: https://example.com/paste/1");
    let [summary] = &of_action(&root, "credential.revoke_leaked").await[..] else { panic!("one") };
    assert!(summary.after.contains(r#""candidate_count":7"#), "{summary:?}");
}

async fn a_thousand_candidates_fit_in_one_call_and_one_more_does_not(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let key = root.create_key("acme", &[Scope::Read]).await;
    let mut tokens: Vec<_> = (0..999)
        .map(|i| pb::LeakedToken {
            token: format!("candidate-{i}-{}", "x".repeat(40)),
            url: format!("https://example.com/{i}/{}", "path/".repeat(20)),
            reason: "secret scanner".to_owned(),
        })
        .collect();
    tokens.push(pb::LeakedToken { token: key.token.clone(), ..Default::default() });
    let request = pb::RevokeLeakedRequest { tokens: tokens.clone() };
    let results = root.auth().revoke_leaked(request).await.expect("an answer").into_inner().results;
    assert_eq!(results.iter().filter(|result| result.real).count(), 1);
    assert!(results[999].revoked_now);
    tokens.push(pb::LeakedToken::default());
    let refused = root.auth().revoke_leaked(pb::RevokeLeakedRequest { tokens }).await;
    assert_eq!(refused.expect_err("too many").code(), Code::InvalidArgument);
}

async fn leaked_tokens_are_found_in_the_text_around_them(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let one = root.create_key("acme", &[Scope::Read]).await;
    let other = root.create_key("acme", &[Scope::Read]).await;
    let text = |token: String| pb::LeakedToken { token, ..Default::default() };
    let texts = vec![
        text(format!("file:3: A={} B={}", one.token, other.token)),
        text(format!("C={}", other.token)),
        text("KEY=".to_owned()),
    ];
    let request = pb::RevokeLeakedRequest { tokens: texts };
    let results = root.auth().revoke_leaked(request).await.expect("an answer").into_inner().results;
    assert_eq!(results.iter().map(|result| result.real).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(id_of(results[0].credential.clone()), id_of(one.credential));
    assert_eq!(id_of(results[1].credential.clone()), id_of(other.credential));
    assert!(!root.introspect(&one.token, "acme", &[]).await.active);
    assert!(!root.introspect(&other.token, "acme", &[]).await.active);
    let tokens = vec![text("x".repeat(16 * 1024 + 1))];
    let refused = root.auth().revoke_leaked(pb::RevokeLeakedRequest { tokens }).await;
    assert_eq!(refused.expect_err("too long").code(), Code::InvalidArgument);
}
