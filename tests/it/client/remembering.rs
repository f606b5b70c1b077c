//! Cached answers take no call, and concurrent requests with the same question share one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sophic_auth_client::{Client, Counters, Denial, Presented, Scopes};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::stage::{NOBODYS_KEY, Stage, calls, remembered, watching};
use crate::proxy::{Mode, Proxy};
use crate::stores::{Database, Fixture as _, on_every_store};
use crate::waits::{eventually, within};

on_every_store! {
    a_thousand_first_uses_at_once_make_one_call,
    a_cancelled_request_leaves_the_call_to_the_others,
    an_unknown_token_is_remembered,
    a_fresh_answer_and_one_of_a_later_revision_take_a_call,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_answers_from_memory_make_no_call() {
    let stage = Stage::set_up(Arc::new(Database::sqlite())).await;
    let (client, counters) = stage.client().await;
    let presented = stage.reading();
    remembered(&client, &presented).await;
    let (hits, before) = (counters.hits.load(Ordering::Relaxed), calls(&counters));
    let mut asked = 0;
    within("a million answers from memory", async {
        while counters.hits.load(Ordering::Relaxed) - hits < 1_000_000 {
            assert!(client.introspect(&presented).await.expect("an answer").is_allowed());
            asked += 1;
        }
    })
    .await;
    // The answer's lifetime of a minute may have ended meanwhile, and on a busy machine a checkpoint may have arrived
    // too late. Apart from that, every request was a hit.
    let made = calls(&counters) - before;
    assert_eq!(asked, 1_000_000 + made);
    let renewed = counters.drops.load(Ordering::Relaxed) + 5;
    assert!(made <= renewed, "{made} calls, though only {renewed} answers could grow old");
}

async fn a_thousand_first_uses_at_once_make_one_call(stage: Stage) {
    let (client, counters) = stage.client().await;
    let (together, token) = (Arc::new(Barrier::new(1_000)), Arc::new(stage.key.clone()));
    let before = calls(&counters);
    let mut asking = JoinSet::new();
    for _ in 0..1_000 {
        let (client, together, token) = (client.clone(), Arc::clone(&together), Arc::clone(&token));
        asking.spawn(async move {
            together.wait().await;
            let presented = Presented::new(&token).requiring(Scopes::READ);
            client.introspect(&presented).await.expect("an answer").is_allowed()
        });
    }
    assert!(within("all are answered", asking.join_all()).await.into_iter().all(|allowed| allowed));
    assert_eq!(calls(&counters) - before, 1);
}

async fn a_cancelled_request_leaves_the_call_to_the_others(stage: Stage) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let counters = Arc::new(Counters::default());
    let client = Client::builder(proxy.url())
        .caller_token(&stage.caller_token)
        .observer(counters.clone())
        .build()
        .expect("a client");
    client.introspect(&Presented::new(&stage.pat)).await.expect("it is connected");
    let (before, misses) = (calls(&counters), || counters.misses.load(Ordering::Relaxed));
    proxy.set(Mode::StallAnswers);
    let ask = |client: Client, token: String| async move {
        let presented = Presented::new(&token).requiring(Scopes::READ);
        client.introspect(&presented).await.expect("an answer").is_allowed()
    };
    let mut tasks = JoinSet::new();
    let missed = misses();
    let mut first = tasks.spawn(ask(client.clone(), stage.key.clone()));
    eventually("the first asks", async || misses() > missed).await;
    within("somebody joins a call of somebody else", async {
        loop {
            let (began, joined) = (misses(), || counters.joined.load(Ordering::Relaxed) > 0);
            let next = tasks.spawn(ask(client.clone(), stage.key.clone()));
            eventually("the next asks", async || joined() || misses() > began).await;
            if joined() {
                break;
            }
            // A checkpoint arrived in between, so this request started a new call. The next request may join that one.
            first = next;
        }
    })
    .await;
    first.abort();
    let gone = within("the first is gone", tasks.join_next()).await.expect("it ends");
    assert!(gone.expect_err("it went away").is_cancelled());
    proxy.set(Mode::Pass);
    assert!(
        within("the others are answered", tasks.join_all())
            .await
            .into_iter()
            .all(|allowed| allowed)
    );
    assert_eq!(calls(&counters) - before, misses() - missed, "who joined made none");
}

async fn an_unknown_token_is_remembered(stage: Stage) {
    let builder = stage.builder().unknown_ttl(std::time::Duration::from_secs(60));
    let (client, counters) = watching(builder).await;
    let presented = Presented::new(NOBODYS_KEY);
    let answer = remembered(&client, &presented).await;
    assert_eq!(answer.denial(), Some(Denial::TokenUnknown));
    let before = calls(&counters);
    client.introspect(&presented).await.expect("an answer");
    assert_eq!(calls(&counters), before);
}

async fn a_fresh_answer_and_one_of_a_later_revision_take_a_call(stage: Stage) {
    let (client, counters) = stage.client().await;
    let presented = stage.reading();
    let answer = remembered(&client, &presented).await;
    let before = calls(&counters);
    client.introspect(&presented.fresh()).await.expect("an answer");
    assert_eq!(calls(&counters), before + 1);
    client.introspect(&presented.at_least_revision(answer.revision())).await.expect("an answer");
    assert_eq!(calls(&counters), before + 1);
    stage.root.put_workspace("later").await;
    let revision = stage.root.introspect(&stage.key, "", &[]).await.revision;
    let later = presented.at_least_revision(revision);
    // It does not wait for a checkpoint. Either one has already shown that nothing changed, or the client makes a call.
    let answer = client.introspect(&later).await.expect("an answer");
    assert!(answer.is_allowed());
}
