//! Outages of the service: no revoked token is admitted, and the client recovers by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sophic_auth::grpc::pb::revoke_request::Credential;
use sophic_auth_client::{Client, ErrorKind, Presented, Scopes};
use tokio::task::JoinSet;

use super::stage::{Stage, caller_token, remembered, revoke, watching};
use crate::grpc::watch::many_users;
use crate::harness::Harness;
use crate::proxy::{Mode, Proxy};
use crate::stores::on_every_store;
use crate::waits::{eventually, let_time_pass, within};

on_every_store! {
    a_restart_under_load_never_admits_a_revoked_key,
    an_outage_is_not_bridged_by_default,
    a_bridged_outage_is_marked_as_stale,
    a_revoked_caller_gets_no_more_answers,
    a_watch_that_resumes_in_time_keeps_what_is_remembered,
    a_watch_that_resumes_far_behind_drops_nothing,
}

/// What concurrent requests observed.
#[derive(Default)]
struct Seen {
    allowed: AtomicU64,
    failed: AtomicU64,
    wrongly_allowed: AtomicU64,
}

async fn a_restart_under_load_never_admits_a_revoked_key(stage: Stage) {
    const LIMIT: Duration = Duration::from_secs(2);
    let other = stage.h.another(|_| {}).await;
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder = Client::builder(proxy.url()).caller_token(&stage.caller_token);
    let builder = builder.checkpoint_max(LIMIT).timeout(Duration::from_millis(500));
    let (client, _) = watching(builder).await;
    remembered(&client, &stage.reading()).await;
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    // When the key was revoked, in milliseconds since the start. 0 while it is active.
    let (start, dead_since) = (Instant::now(), Arc::new(AtomicU64::new(u64::MAX)));
    let mut askers = JoinSet::new();
    for asker in 0..8 {
        let (client, seen, stop) = (client.clone(), Arc::clone(&seen), Arc::clone(&stop));
        let (key, pat) = (stage.key.clone(), stage.pat.clone());
        let dead_since = Arc::clone(&dead_since);
        askers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let presented = if asker % 2 == 0 {
                    Presented::new(&key).requiring(Scopes::READ)
                } else {
                    Presented::new(&pat).in_workspace("acme").requiring(Scopes::READ)
                };
                let begun = u64::try_from(start.elapsed().as_millis()).expect("a short test");
                let must_be_refused = asker % 2 == 0
                    && begun > dead_since.load(Ordering::Relaxed).saturating_add(2_000);
                let counter = match client.introspect(&presented).await {
                    Ok(answer) if answer.is_allowed() && must_be_refused => &seen.wrongly_allowed,
                    Ok(answer) if answer.is_allowed() => &seen.allowed,
                    Ok(_) => continue,
                    Err(_) => &seen.failed,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                let_time_pass("an asker is paced", Duration::from_micros(200)).await;
            }
        });
    }
    eventually("some are allowed", async || seen.allowed.load(Ordering::Relaxed) > 200).await;

    // The server stops, the key is revoked through another server, and the server starts again.
    proxy.set(Mode::Refuse);
    proxy.cut();
    let Stage { h, root, key_id, .. } = stage;
    let database = Arc::clone(&h.database);
    h.running.stop().await;
    revoke(&root.via(&other), Credential::CredentialId(key_id)).await;
    let since = u64::try_from(start.elapsed().as_millis()).expect("a short test");
    dead_since.store(since, Ordering::Relaxed);
    let_time_pass("long after the limit", 2 * LIMIT).await;
    let again = Harness::start(database, |_| {}).await;
    proxy.redirect_to(again.running.grpc);
    proxy.set(Mode::Pass);
    eventually("it is watching", async || client.is_watching()).await;
    let before = seen.allowed.load(Ordering::Relaxed);
    eventually("some are allowed again", async || {
        seen.allowed.load(Ordering::Relaxed) > before + 200
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    within("the askers stop", askers.join_all()).await;
    let Seen { allowed, failed, wrongly_allowed } = &*seen;
    eprintln!("{allowed:?} allowed, {failed:?} failed while the server was away");
    assert_eq!(wrongly_allowed.load(Ordering::Relaxed), 0);
}

async fn cut_off(stage: &Stage, bridge: Duration) -> (Client, Proxy) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder = Client::builder(proxy.url())
        .caller_token(&stage.caller_token)
        .checkpoint_max(Duration::from_secs(2))
        .bridge_outage(bridge);
    let (client, _) = watching(builder).await;
    assert!(remembered(&client, &stage.reading()).await.is_allowed());
    proxy.set(Mode::Refuse);
    proxy.cut();
    eventually("it watches no more", async || !client.is_watching()).await;
    (client, proxy)
}

async fn an_outage_is_not_bridged_by_default(stage: Stage) {
    let (client, _proxy) = cut_off(&stage, Duration::ZERO).await;
    let error = client.introspect(&stage.reading()).await.expect_err("nobody knows");
    assert!(error.is_outage(), "{error:?}");
    // Malformed tokens are refused without a call.
    assert!(!client.introspect(&Presented::new("abc")).await.expect("an answer").is_active());
}

async fn a_bridged_outage_is_marked_as_stale(stage: Stage) {
    let (client, proxy) = cut_off(&stage, Duration::from_secs(30)).await;
    let answer = client.introspect(&stage.reading()).await.expect("what was known");
    assert!(answer.is_allowed() && answer.is_stale());
    // A question that was not asked before the outage has no answer.
    let error = client.introspect(&Presented::new(&stage.pat)).await.expect_err("nobody knows");
    assert!(error.is_outage());
    // Changes during the outage are applied before any cached answer is used again.
    stage.revoke_key().await;
    proxy.set(Mode::Pass);
    eventually("it is watching", async || client.is_watching()).await;
    let answer = client.introspect(&stage.reading()).await.expect("an answer");
    assert!(!answer.is_allowed() && !answer.is_stale());
}

async fn a_revoked_caller_gets_no_more_answers(stage: Stage) {
    use sophic_auth::grpc::pb::RevokeCallerRequest;
    use sophic_auth::model::Permission;
    let token = caller_token(&stage.h, "shortlived", &[Permission::Introspect]).await;
    let client = Client::builder(stage.h.running.grpc_url()).caller_token(token);
    let client = client.without_cache().build().expect("a client");
    assert!(client.introspect(&stage.reading()).await.expect("an answer").is_allowed());
    let request = RevokeCallerRequest { caller: "shortlived".to_owned() };
    stage.root.admin().revoke_caller(request).await.expect("it is revoked");
    let error = client.introspect(&stage.reading()).await.expect_err("it is nobody");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

async fn a_watch_that_resumes_in_time_keeps_what_is_remembered(stage: Stage) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder = Client::builder(proxy.url()).caller_token(&stage.caller_token);
    let (client, counters) = watching(builder.checkpoint_max(Duration::from_mins(10))).await;
    assert!(remembered(&client, &stage.reading()).await.is_allowed());
    let drops = counters.drops.load(Ordering::Relaxed);
    for round in 1..=3 {
        proxy.cut();
        eventually("it watches again", async || counters.watch_ups.load(Ordering::Relaxed) > round)
            .await;
        assert!(client.introspect_cached(&stage.reading()).is_some(), "round {round}");
    }
    assert_eq!(counters.drops.load(Ordering::Relaxed), drops);
    // Changes during the interruption arrive when the stream resumes.
    proxy.set(Mode::Refuse);
    proxy.cut();
    stage.revoke_key().await;
    proxy.set(Mode::Pass);
    eventually("it is refused", async || {
        !client.introspect(&stage.reading()).await.is_ok_and(|answer| answer.is_allowed())
    })
    .await;
    assert_eq!(counters.drops.load(Ordering::Relaxed), drops);
}

async fn a_watch_that_resumes_far_behind_drops_nothing(stage: Stage) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder = Client::builder(proxy.url()).caller_token(&stage.caller_token);
    let (client, counters) = watching(builder.checkpoint_max(Duration::from_mins(10))).await;
    assert!(remembered(&client, &stage.reading()).await.is_allowed());
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (drops, ups) = (count(&counters.drops), count(&counters.watch_ups));
    proxy.set(Mode::Refuse);
    proxy.cut();
    // The changes take more than three responses. The last one contains that of the cached answer.
    many_users(&stage.h, "away", 3_500).await;
    stage.revoke_key().await;
    // As after a restart.
    let other = stage.h.another(|_| {}).await;
    proxy.redirect_to(other.running.grpc);
    proxy.set(Mode::Pass);
    eventually("it watches again", async || count(&counters.watch_ups) > ups).await;
    eventually("it is refused", async || {
        !client.introspect(&stage.reading()).await.is_ok_and(|answer| answer.is_allowed())
    })
    .await;
    assert_eq!(count(&counters.drops), drops);
}
