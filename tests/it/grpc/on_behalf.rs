//! BulkRevoke and Revoke by token on behalf of an acting user: who may end what, and that a demotion in between counts.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::grpc::pb::{
    self, BulkRevokeRequest, BulkRevokeResponse, CreatePatRequest, RevokeRequest, RevokeResponse,
    Role, Scope, revoke_request,
};
use sophic_auth::model::{CredentialId, LastUse, Permission, UserId, WorkspaceName};
use sophic_auth::service::{BulkRevoke, Context, Reason};
use tonic::{Code, Status};

use super::audit::of_action;
use super::get_by_token::by_token;
use super::refusal::{fields, refused};
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    admins_and_owners_end_keys_of_their_workspace,
    a_user_ends_all_of_their_own_pats_and_no_others,
    an_acting_user_names_a_workspace_or_themselves,
    every_other_filter_restricts_within_the_workspace,
    a_dry_run_needs_the_same_right,
    a_continuation_is_authorised_again,
    a_continuation_does_not_follow_a_slug_to_another_workspace,
    a_demotion_stops_the_run_before_its_next_batch,
    unused_for_spares_what_is_young,
    a_token_is_revoked_only_on_behalf_of_who_may_manage_it,
    the_audit_log_alone_tells_a_hidden_token_from_an_unknown_text,
}

const USERS: [(&str, Option<Role>); 5] = [
    ("vera", Some(Role::Viewer)),
    ("mia", Some(Role::Member)),
    ("adam", Some(Role::Admin)),
    ("olga", Some(Role::Owner)),
    ("stranger", None),
];

/// Acme and another workspace, and a user of each role in acme. The stranger owns the other one.
async fn cast(h: &Harness) -> (Actor, Actor) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_workspace("other").await;
    for (user, role) in USERS {
        root.put_user(user).await;
        match role {
            Some(role) => root.put_membership("acme", user, role).await,
            None => root.put_membership("other", user, Role::Owner).await,
        }
    }
    (root, h.dashboard().await)
}

fn of_acme(acting_user: &str) -> BulkRevokeRequest {
    BulkRevokeRequest {
        workspace: "acme".to_owned(),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    }
}

async fn bulk(actor: &Actor, request: BulkRevokeRequest) -> Result<BulkRevokeResponse, Status> {
    actor.auth().bulk_revoke(request).await.map(tonic::Response::into_inner)
}

fn forbidden(reason: &str) -> (Code, String) {
    (Code::PermissionDenied, reason.to_owned())
}

async fn is_active(root: &Actor, token: &str) -> bool {
    root.introspect(token, "acme", &[]).await.active
}

async fn admins_and_owners_end_keys_of_their_workspace(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let admin = h.caller("system", &[Permission::CredentialsAdmin]).await;
    let elsewhere = root.create_key("other", &[Scope::Read]).await.token;
    let pat = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
    for caller in [&dashboard, &admin] {
        for (user, role) in USERS {
            let key = root.create_key("acme", &[Scope::Read]).await.token;
            let outcome = bulk(caller, of_acme(user)).await;
            let may = matches!(role, Some(Role::Admin | Role::Owner));
            match role {
                Some(Role::Admin | Role::Owner) => {
                    assert!(outcome.expect("they may").revoked_count > 0, "{user}");
                }
                Some(_) => assert_eq!(refused(outcome), forbidden("ROLE_TOO_LOW"), "{user}"),
                None => {
                    let hidden = (Code::NotFound, "WORKSPACE_NOT_FOUND".to_owned());
                    assert_eq!(refused(outcome), hidden, "{user}");
                }
            }
            assert_eq!(is_active(&root, &key).await, !may, "{user}");
        }
    }
    for token in [&elsewhere, &pat] {
        assert!(root.introspect(token, "", &[]).await.active, "it is none of their keys");
    }
    // Without an acting user only the system may.
    assert_eq!(refused(bulk(&dashboard, of_acme("")).await), forbidden("ACTING_USER_REQUIRED"));
    assert_eq!(refused(bulk(&h.gateway().await, of_acme("olga")).await).0, Code::PermissionDenied);
    let inactive = forbidden("ACTING_USER_NOT_ACTIVE");
    assert_eq!(refused(bulk(&admin, of_acme("ghost")).await), inactive);
    bulk(&admin, of_acme("")).await.expect("it may");
}

async fn a_user_ends_all_of_their_own_pats_and_no_others(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let of = |user: &str, acting_user: &str| BulkRevokeRequest {
        user: user.to_owned(),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    };
    let admin = h.caller("system", &[Permission::CredentialsAdmin]).await;
    for caller in [&dashboard, &admin] {
        let mias = root.create_pat("mia", &[Scope::Read], Role::Owner).await.token;
        let olgas = root.create_pat("olga", &[Scope::Read], Role::Owner).await.token;
        // An owner of all workspaces of a user does not end the user's tokens. Nor is told whether the user exists.
        for (user, acting_user) in [("mia", "olga"), ("olga", "mia"), ("nobody", "olga")] {
            assert_eq!(fields(bulk(caller, of(user, acting_user)).await), ["user"]);
        }
        assert!(is_active(&root, &mias).await && is_active(&root, &olgas).await);
        assert_eq!(bulk(caller, of("mia", "mia")).await.expect("they are hers").revoked_count, 1);
        assert!(!is_active(&root, &mias).await && is_active(&root, &olgas).await);
    }
}

async fn an_acting_user_names_a_workspace_or_themselves(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let made = root.create_key("acme", &[Scope::Read]).await;
    let family_id = made.credential.expect("it is given").id;
    let by_creator = BulkRevokeRequest {
        creator: "caller:root".to_owned(),
        acting_user: "olga".to_owned(),
        ..Default::default()
    };
    let by_family = BulkRevokeRequest { family_id, creator: String::new(), ..by_creator.clone() };
    let both = BulkRevokeRequest { user: "olga".to_owned(), ..of_acme("olga") };
    for (request, field) in
        [(by_creator, "workspace"), (by_family.clone(), "workspace"), (both, "user")]
    {
        assert_eq!(fields(bulk(&dashboard, request).await), [field]);
    }
    assert!(is_active(&root, &made.token).await);
    let within_acme = BulkRevokeRequest { workspace: "acme".to_owned(), ..by_family };
    assert_eq!(bulk(&dashboard, within_acme).await.expect("she may").revoked_count, 1);
}

async fn every_other_filter_restricts_within_the_workspace(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let by_mia = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: "adam".to_owned(),
        ..Default::default()
    };
    let leavers = dashboard.auth().create_key(by_mia).await.expect("he may").into_inner().token;
    let others = root.create_key("acme", &[Scope::Read]).await.token;
    let elsewhere = root.create_key("other", &[Scope::Read]).await.token;
    let request = BulkRevokeRequest { creator: "user:adam".to_owned(), ..of_acme("olga") };
    assert_eq!(bulk(&dashboard, request).await.expect("she may").revoked_count, 1);
    assert!(!is_active(&root, &leavers).await && is_active(&root, &others).await);
    let anybodys = BulkRevokeRequest { creator: "caller:root".to_owned(), ..of_acme("olga") };
    assert_eq!(bulk(&dashboard, anybodys).await.expect("she may").revoked_count, 1);
    assert!(root.introspect(&elsewhere, "other", &[]).await.active);
}

async fn a_dry_run_needs_the_same_right(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let key = root.create_key("acme", &[Scope::Read]).await.token;
    let dry = |user: &str| BulkRevokeRequest { dry_run: true, ..of_acme(user) };
    let counted = bulk(&dashboard, dry("adam")).await.expect("he may");
    assert_eq!((counted.revoked_count, counted.sample.len()), (1, 1));
    assert_eq!(refused(bulk(&dashboard, dry("mia")).await), forbidden("ROLE_TOO_LOW"));
    assert!(is_active(&root, &key).await);
}

/// The use case's request on behalf of this user.
fn request_of(user: &str, page_token: String) -> BulkRevoke {
    BulkRevoke {
        workspace: Some(WorkspaceName::parse("acme").expect("a name")),
        acting_user: UserId::parse(user).expect("an id").to_string(),
        page_token,
        ..Default::default()
    }
}

async fn a_continuation_is_authorised_again(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    for _ in 0..55 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let service = &h.running.service;
    let deadline = Some(tokio::time::Instant::now() + Duration::from_secs(10));
    let context = Context { deadline, ..Context::operator("test") };
    let slowly = |_| crate::waits::block("as a slow batch does", Duration::from_secs(5));
    let first = service.bulk_revoke(context, request_of("adam", String::new()), slowly).await;
    let first = first.expect("what it could");
    assert_eq!(first.count, 50);
    root.put_membership("acme", "adam", Role::Member).await;
    let going_on =
        |user: &str| BulkRevokeRequest { page_token: first.next_token.clone(), ..of_acme(user) };
    assert_eq!(refused(bulk(&dashboard, going_on("adam")).await), forbidden("ROLE_TOO_LOW"));
    assert_eq!(bulk(&dashboard, going_on("olga")).await.expect("she may").revoked_count, 5);
}

async fn a_continuation_does_not_follow_a_slug_to_another_workspace(h: Harness) {
    let (root, _) = cast(&h).await;
    root.put_workspace("globex").await;
    for _ in 0..55 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let spared = root.create_key("globex", &[Scope::Read]).await.token;
    let service = &h.running.service;
    let deadline = Some(tokio::time::Instant::now() + Duration::from_secs(10));
    let context = Context { deadline, ..Context::operator("test") };
    let slowly = |_| crate::waits::block("as a slow batch does", Duration::from_secs(5));
    let of_acme =
        |page_token| BulkRevoke { acting_user: String::new(), ..request_of("adam", page_token) };
    let first = service.bulk_revoke(context, of_acme(String::new()), slowly).await;
    let token = first.expect("what it could").next_token;
    super::put::swap_slugs(&root, "acme", "globex").await;
    let going_on = service.bulk_revoke(Context::operator("test"), of_acme(token), |_| ()).await;
    let refused = going_on.expect_err("it is another workspace");
    assert_eq!(refused.reason, Reason::ArgumentInvalid);
    assert_eq!(refused.violations[0].field, "page_token");
    assert!(root.introspect(&spared, "id-of-globex", &[]).await.active);
}

async fn a_demotion_stops_the_run_before_its_next_batch(h: Harness) {
    let (root, _) = cast(&h).await;
    for _ in 0..55 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let service = Arc::clone(&h.running.service);
    let runtime = tokio::runtime::Handle::current();
    let demoting = root.clone();
    // After the first batch, and before the second.
    let demote = move |_| {
        let demoting = demoting.clone();
        tokio::task::block_in_place(|| {
            runtime.block_on(async { demoting.put_membership("acme", "adam", Role::Member).await });
        });
    };
    let request = request_of("adam", String::new());
    let outcome = service.bulk_revoke(Context::operator("test"), request, demote);
    let refusal = within("it is refused", outcome).await.expect_err("he is demoted");
    assert_eq!(refusal.reason, Reason::RoleTooLow);
    let left = bulk(&root, BulkRevokeRequest { dry_run: true, ..of_acme("") }).await;
    assert_eq!(left.expect("a count").revoked_count, 5, "only the first batch was revoked");
    let runs = of_action(&root, "credential.bulk_revoke").await;
    let refusals: Vec<_> = runs.iter().map(|event| &*event.refusal).collect();
    assert_eq!(refusals, ["", "ROLE_TOO_LOW", ""]);
}

async fn unused_for_spares_what_is_young(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let made = root.create_key("acme", &[Scope::Read]).await;
        ids.push(made.credential.expect("it is given").id);
    }
    // They are 200 days old. The third one, which was never used, is new.
    let shift = if h.database.is_postgres() {
        "create_time = create_time - INTERVAL '200 days'"
    } else {
        "create_time = create_time - 200 * 86400 * 1000000"
    };
    raw::run(&h.database, &format!("UPDATE credentials SET {shift}")).await;
    root.create_key("acme", &[Scope::Read]).await;
    let day = Duration::from_hours(24);
    let ago = |days: u32| h.running.service.now().saturating_sub(day * days);
    // The first was used lately, the second long ago.
    let uses: Vec<_> = [ago(10), ago(100)]
        .into_iter()
        .zip(&ids)
        .map(|(time, id)| (CredentialId::parse(id).expect("an id"), LastUse { time, ip: None }))
        .collect();
    h.database.open().await.write_last_uses(&uses, &[]).await.expect("they are written");
    let unused = |days: i64| BulkRevokeRequest {
        unused_for: Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 }),
        ..of_acme("adam")
    };
    for (days, expected) in [(300, vec![]), (90, vec![&ids[1]]), (5, vec![&ids[0], &ids[1]])] {
        let request = BulkRevokeRequest { dry_run: true, ..unused(days) };
        let dry = bulk(&dashboard, request).await.expect("he may");
        let sample: Vec<_> = dry.sample.iter().map(|credential| &credential.id).collect();
        assert_eq!(sample, expected, "{days} days");
    }
    let last_used_before = Some(prost_types::Timestamp::default());
    let both = BulkRevokeRequest { last_used_before, ..unused(90) };
    assert_eq!(fields(bulk(&dashboard, both).await), ["unused_for"]);
    assert_eq!(fields(bulk(&dashboard, unused(0)).await), ["unused_for"]);
    assert_eq!(fields(bulk(&dashboard, unused(-1)).await), ["unused_for"]);
    assert_eq!(bulk(&dashboard, unused(90)).await.expect("he may").revoked_count, 1);
    let events = of_action(&root, "credential.bulk_revoke").await;
    let last = events.last().expect("an event");
    assert!(last.after.contains(r#""unused_for":"7776000s""#), "{last:?}");
}

async fn revoke(actor: &Actor, token: &str, acting_user: &str) -> Result<RevokeResponse, Status> {
    let request = RevokeRequest {
        credential: Some(revoke_request::Credential::Token(token.to_owned())),
        acting_user: acting_user.to_owned(),
        ..Default::default()
    };
    actor.auth().revoke(request).await.map(tonic::Response::into_inner)
}

async fn a_token_is_revoked_only_on_behalf_of_who_may_manage_it(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let admin = h.caller("system", &[Permission::CredentialsAdmin]).await;
    let gateway = h.gateway().await;
    for caller in [&dashboard, &admin, &gateway] {
        for (user, role) in USERS {
            let key = root.create_key("acme", &[Scope::Read]).await.token;
            let own = root.create_pat(user, &[Scope::Read], Role::Owner).await.token;
            let owner = if user == "olga" { "mia" } else { "olga" };
            let foreign = root.create_pat(owner, &[Scope::Read], Role::Owner).await.token;
            let manages = matches!(role, Some(Role::Admin | Role::Owner));
            for (token, may) in [(&key, manages), (&own, true), (&foreign, false)] {
                let ended = revoke(caller, token, user).await.expect("for any text");
                assert_eq!(ended.effective_time.is_some(), may, "{user}");
                assert_eq!(is_active(&root, token).await, !may, "{user}");
                // Its holder may end it.
                let ended = revoke(caller, token, "").await.expect("for any text");
                assert!(ended.effective_time.is_some() && !is_active(&root, token).await);
            }
        }
    }
}

async fn the_audit_log_alone_tells_a_hidden_token_from_an_unknown_text(h: Harness) {
    let (root, dashboard) = cast(&h).await;
    let request = CreatePatRequest {
        user: "olga".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    };
    let token = root.auth().create_pat(request).await.expect("it is made").into_inner().token;
    for text in [&*token, "nobody's"] {
        let answer = revoke(&dashboard, text, "adam").await.expect("for any text");
        assert_eq!(answer.effective_time, None);
    }
    let found = dashboard.auth().get_credential(by_token(&token, "olga")).await;
    assert!(found.expect("it is hers").into_inner().end.is_none(), "it is as before");
    let events = of_action(&root, "credential.revoke").await;
    let logged: Vec<_> = events
        .iter()
        .map(|event| (&*event.target_id, &*event.acting_user, &*event.after))
        .collect();
    assert_eq!(
        logged,
        [("", "adam", r#"{"real":true,"permitted":false}"#), ("", "adam", r#"{"real":false}"#)]
    );
}
