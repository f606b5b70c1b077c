//! A caching client refuses what was revoked: as soon as the change arrives, and within the limit if no change arrives.

use std::time::{Duration, Instant};

use sophic_auth::grpc::pb::{
    CreatePatRequest, Credential, PatPolicy, PutUserRequest, PutWorkspaceRequest, Role, Scope,
    UpdateCredentialRequest, User, Workspace,
};
use sophic_auth_client::{Builder, Client, Denial, Presented, Scopes};

use super::stage::{Stage, answered, remembered, watching};
use crate::proxy::{Mode, Proxy};
use crate::stores::on_every_store;
use crate::waits::{eventually, eventually_some, let_time_pass, within, yield_once};

on_every_store! {
    a_revoked_key_is_refused_when_the_change_arrives,
    a_lowered_role_is_lower_when_the_change_arrives,
    a_disabled_user_is_refused_when_the_change_arrives,
    a_disabled_workspace_is_refused_when_the_change_arrives,
    a_policy_for_tokens_holds_when_the_change_arrives,
    a_narrowed_limit_to_workspaces_holds_when_the_change_arrives,
    a_new_key_is_known_when_the_change_arrives,
    with_watch_stalled_a_revoked_key_is_refused_within_the_limit,
    with_watch_reset_a_revoked_key_is_refused_within_the_limit,
    with_watch_delayed_a_revoked_key_is_refused_within_the_limit,
    with_answers_stalled_a_revoked_key_is_refused_within_the_limit,
    fills_that_race_with_changes_are_never_kept,
}

/// A limit so long that only a received change can end an answer in time.
const FOR_EVER: Duration = Duration::from_hours(1);

/// Waits until a client that follows changes refuses the token.
async fn until_refused(client: &Client, presented: &Presented<'_>) -> (Denial, Duration) {
    let begun = Instant::now();
    let denial = eventually_some("it is refused", async || {
        client.introspect(presented).await.expect("an answer").denial()
    });
    (denial.await, begun.elapsed())
}

/// The question whether the personal access token may read in this workspace.
fn reading_in<'a>(stage: &'a Stage, workspace: &'a str) -> Presented<'a> {
    Presented::new(&stage.pat).in_workspace(workspace).requiring(Scopes::READ)
}

async fn a_revoked_key_is_refused_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let presented = stage.reading();
    assert!(remembered(&client, &presented).await.is_allowed());
    stage.revoke_key().await;
    let (denial, after) = until_refused(&client, &presented).await;
    assert_eq!(denial, Denial::TokenRevoked);
    eprintln!("refused {after:?} after Revoke returned");
}

async fn a_lowered_role_is_lower_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let presented = Presented::new(&stage.pat).in_workspace("acme").requiring(Scopes::CAPTURE);
    assert!(remembered(&client, &presented).await.is_allowed());
    stage.root.put_membership("acme", "ada", Role::Viewer).await;
    let (denial, _) = until_refused(&client, &presented).await;
    assert_eq!(denial, Denial::InsufficientScope);
}

async fn a_disabled_user_is_refused_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let presented = reading_in(&stage, "acme");
    assert!(remembered(&client, &presented).await.is_allowed());
    let user = User {
        id: "ada".into(),
        display_name: "Ada".into(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutUserRequest { user: Some(user) };
    stage.root.directory().put_user(request).await.expect("it is disabled");
    let (denial, _) = until_refused(&client, &presented).await;
    assert_eq!(denial, Denial::PrincipalDisabled);
}

async fn a_disabled_workspace_is_refused_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let (by_key, by_pat) = (stage.reading(), reading_in(&stage, "acme"));
    assert!(remembered(&client, &by_key).await.is_allowed());
    assert!(remembered(&client, &by_pat).await.is_allowed());
    let workspace = Workspace {
        id: "id-of-acme".into(),
        slug: "acme".into(),
        display_name: "Acme".into(),
        disabled: Some(true),
        ..Default::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(workspace) };
    stage.root.directory().put_workspace(request).await.expect("it is disabled");
    assert_eq!(until_refused(&client, &by_key).await.0, Denial::PrincipalDisabled);
    assert_eq!(until_refused(&client, &by_pat).await.0, Denial::NotAMember);
}

/// Waits until a client that follows changes allows the token.
async fn until_allowed(client: &Client, presented: &Presented<'_>) {
    let allowed = async || client.introspect(presented).await.expect("an answer").is_allowed();
    eventually("it is allowed", allowed).await;
}

async fn a_policy_for_tokens_holds_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let (acme, globex) = (reading_in(&stage, "acme"), reading_in(&stage, "globex"));
    let put = async |forbidden| {
        let pat_policy = PatPolicy { forbidden: Some(forbidden), ..Default::default() };
        let workspace = Workspace {
            id: "id-of-acme".into(),
            slug: "acme".into(),
            pat_policy: Some(pat_policy),
            ..Default::default()
        };
        let request = PutWorkspaceRequest { workspace: Some(workspace) };
        stage.root.directory().put_workspace(request).await.expect("it is put");
    };
    for _ in 0..3 {
        assert!(remembered(&client, &acme).await.is_allowed());
        assert!(remembered(&client, &globex).await.is_allowed());
        put(true).await;
        // The servers know it when the call returns, the client when the change arrives.
        let asked = stage.root.introspect(&stage.pat, "acme", &[Scope::Read]).await;
        assert_eq!(asked.denial(), sophic_auth::grpc::pb::Denial::PatNotPermitted);
        assert_eq!(until_refused(&client, &acme).await.0, Denial::PatNotPermitted);
        let answer = remembered(&client, &acme).await;
        assert_eq!(answer.denial(), Some(Denial::PatNotPermitted));
        assert_eq!(answer.workspace().map(|workspace| workspace.slug.as_str()), Some("acme"));
        assert!(remembered(&client, &globex).await.is_allowed());
        put(false).await;
        until_allowed(&client, &acme).await;
    }
}

async fn a_narrowed_limit_to_workspaces_holds_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let request = CreatePatRequest {
        user: "ada".to_owned(),
        name: "limited".to_owned(),
        scopes: vec![Scope::Read.into()],
        workspaces: vec!["acme".to_owned(), "globex".to_owned()],
        ..Default::default()
    };
    let made = stage.root.auth().create_pat(request).await.expect("it is made").into_inner();
    let reading =
        |workspace| Presented::new(&made.token).in_workspace(workspace).requiring(Scopes::READ);
    for workspace in ["acme", "globex"] {
        assert!(remembered(&client, &reading(workspace)).await.is_allowed());
    }
    let credential = Credential {
        id: made.credential.expect("it is shown").id,
        granted_workspace_ids: vec!["id-of-globex".to_owned()],
        ..Default::default()
    };
    let request = UpdateCredentialRequest {
        credential: Some(credential),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["granted_workspace_ids".to_owned()],
        }),
        ..Default::default()
    };
    stage.root.auth().update_credential(request).await.expect("it is narrowed");
    assert_eq!(until_refused(&client, &reading("acme")).await.0, Denial::WorkspaceNotGranted);
    let answer = remembered(&client, &reading("acme")).await;
    assert_eq!(answer.denial(), Some(Denial::WorkspaceNotGranted));
    until_allowed(&client, &reading("globex")).await;
}

async fn a_new_key_is_known_when_the_change_arrives(stage: Stage) {
    let (client, _) = watching(stage.builder().unknown_ttl(FOR_EVER)).await;
    let initech = reading_in(&stage, "initech");
    let answer = client.introspect(&initech).await.expect("an answer");
    assert_eq!(answer.denial(), Some(Denial::NotAMember));
    stage.root.put_membership("initech", "ada", Role::Viewer).await;
    eventually("it is allowed there", async || {
        client.introspect(&initech).await.expect("an answer").is_allowed()
    })
    .await;
}

const LIMIT: Duration = Duration::from_secs(2);

/// Starts a network fault, revokes the key by another path, and introspects until well after the limit. No
/// introspection that starts after the limit is allowed.
async fn refused_within_the_limit(stage: Stage, misbehave: impl Fn(&Proxy)) {
    let proxy = Proxy::start(stage.h.running.grpc).await;
    let builder: Builder = Client::builder(proxy.url())
        .caller_token(&stage.caller_token)
        .checkpoint_max(LIMIT)
        .timeout(Duration::from_millis(300));
    let (client, _) = watching(builder).await;
    let presented = stage.reading();
    assert!(remembered(&client, &presented).await.is_allowed());
    misbehave(&proxy);
    stage.revoke_key().await;
    let revoked = Instant::now();
    let mut allowed = 0;
    within("twice the limit", async {
        while revoked.elapsed() < 2 * LIMIT {
            let begun = revoked.elapsed();
            // An error is a refusal too.
            let is_allowed =
                client.introspect(&presented).await.is_ok_and(|answer| answer.is_allowed());
            assert!(!is_allowed || begun < LIMIT, "allowed {begun:?} after Revoke returned");
            allowed += u32::from(is_allowed);
            let_time_pass("between two questions", Duration::from_millis(1)).await;
        }
    })
    .await;
    eprintln!("{allowed} answers from memory before the limit");
    // The client recovers by itself.
    proxy.set(Mode::Pass);
    eventually("it is watching", async || client.is_watching()).await;
    let answer = answered(&client, &presented).await;
    assert_eq!(answer.denial(), Some(Denial::TokenRevoked));
}

async fn with_watch_stalled_a_revoked_key_is_refused_within_the_limit(stage: Stage) {
    refused_within_the_limit(stage, |proxy| proxy.set(Mode::Stall)).await;
}

async fn with_answers_stalled_a_revoked_key_is_refused_within_the_limit(stage: Stage) {
    refused_within_the_limit(stage, |proxy| proxy.set(Mode::StallAnswers)).await;
}

async fn with_watch_reset_a_revoked_key_is_refused_within_the_limit(stage: Stage) {
    refused_within_the_limit(stage, |proxy| {
        proxy.set(Mode::Refuse);
        proxy.cut();
    })
    .await;
}

/// Checkpoints arrive every second, each older than the limit.
async fn with_watch_delayed_a_revoked_key_is_refused_within_the_limit(stage: Stage) {
    refused_within_the_limit(stage, |proxy| proxy.set(Mode::Delay(2 * LIMIT))).await;
}

/// Readers introspect without pause while a role changes. In the end the answer matches the store.
async fn fills_that_race_with_changes_are_never_kept(stage: Stage) {
    let (client, _) = watching(stage.builder().checkpoint_max(FOR_EVER)).await;
    let pat = std::sync::Arc::new(stage.pat.clone());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, pat, stop) = (client.clone(), pat.clone(), stop.clone());
        readers.spawn(async move {
            let presented = Presented::new(&pat).in_workspace("acme").requiring(Scopes::CAPTURE);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                client.introspect(&presented).await.expect("an answer");
                yield_once().await;
            }
        });
    }
    let presented = Presented::new(&pat).in_workspace("acme").requiring(Scopes::CAPTURE);
    for _ in 0..25 {
        stage.root.put_membership("acme", "ada", Role::Viewer).await;
        until_refused(&client, &presented).await;
        for _ in 0..20 {
            assert!(!client.introspect(&presented).await.expect("an answer").is_allowed());
        }
        stage.root.put_membership("acme", "ada", Role::Member).await;
        eventually("it is allowed again", async || {
            client.introspect(&presented).await.expect("an answer").is_allowed()
        })
        .await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    within("the readers stop", readers.join_all()).await;
}
