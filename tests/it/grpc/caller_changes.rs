//! What a caller shows of itself, and changes of it that only some may make: etags, certificates, permissions that only
//! a newer server knows, and last uses.

use std::sync::Arc;

use sophic_auth::grpc::pb::{
    self, Caller, CreateCallerRequest, IntrospectRequest, ListCallersRequest, RotateCallerRequest,
    UpdateCallerRequest, WatchRequest,
};
use sophic_auth::model::Permission;
use sophic_auth::service::{
    Context, CreateCaller, ExpiryChange, PageRequest, Reason, Requester, RotateCaller, UpdateCaller,
};
use sophic_auth::store::AuditFilter;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::refusal::{fields, reason, refused};
use crate::faces::wire::Call;
use crate::harness::{Actor, Harness};
use crate::store::raw;
use crate::stores::on_every_store;
use crate::waits::{eventually_some, within};

on_every_store! {
    a_caller_says_who_created_it_and_its_state,
    an_update_or_rotation_with_an_old_etag_is_aborted,
    a_retry_of_a_rotation_does_not_check_its_etag_again,
    a_change_by_an_earlier_release_changes_the_etag,
    only_who_holds_all_of_a_callers_permissions_changes_its_certificate,
    a_certificate_is_changed_only_to_a_free_name,
    permissions_of_a_newer_server_are_kept_and_named_by_number,
    what_a_caller_has_lost_while_its_call_waited_counts,
    callers_that_change_each_other_at_once_do_not_wait_for_each_other_for_ever,
    a_use_of_a_caller_is_written_with_its_address,
    a_watch_is_a_use_for_as_long_as_it_lasts,
    a_use_of_a_caller_changes_neither_etag_nor_revision_nor_log,
}

fn aborted() -> (Code, String) {
    (Code::Aborted, "ETAG_MISMATCH".to_owned())
}

async fn create(by: &Actor, name: &str, permissions: &[&str], san: &str) -> Caller {
    let request = CreateCallerRequest {
        name: name.to_owned(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        certificate_san: san.to_owned(),
        ..Default::default()
    };
    let made = by.admin().create_caller(request).await.expect("it is made").into_inner();
    made.caller.expect("it is given")
}

async fn update(by: &Actor, request: UpdateCallerRequest) -> Result<Caller, Status> {
    let updated = by.admin().update_caller(request).await?.into_inner();
    Ok(updated.caller.expect("it is given"))
}

fn named(caller: &str) -> UpdateCallerRequest {
    UpdateCallerRequest { caller: caller.to_owned(), ..Default::default() }
}

fn rotation(caller: &str) -> RotateCallerRequest {
    RotateCallerRequest { caller: caller.to_owned(), ..Default::default() }
}

async fn find(root: &Actor, name: &str) -> Caller {
    let page = root.admin().list_callers(ListCallersRequest::default()).await.expect("a page");
    let mut callers = page.into_inner().callers.into_iter();
    callers.find(|caller| caller.name == name).expect("it is listed")
}

async fn calls(actor: &Actor) -> Result<(), Status> {
    actor.auth().introspect(IntrospectRequest::default()).await.map(drop)
}

async fn a_caller_says_who_created_it_and_its_state(h: Harness) {
    let root = h.root().await;
    let made = create(&root, "gateway", &["introspect"], "").await;
    assert_eq!((&*made.creator, made.state()), ("caller:root", pb::CredentialState::Active));
    assert_eq!(find(&root, "root").await.creator, "operator:harness");
    let revoke = pb::RevokeCallerRequest { caller: "gateway".to_owned() };
    let revoked = root.admin().revoke_caller(revoke).await.expect("it is revoked").into_inner();
    let revoked = revoked.caller.expect("it is given");
    assert_eq!(revoked.state(), pb::CredentialState::Revoked);
    assert_ne!(revoked.etag, made.etag);
    assert_eq!(find(&root, "gateway").await, revoked);
}

async fn an_update_or_rotation_with_an_old_etag_is_aborted(h: Harness) {
    let root = h.root().await;
    let made = create(&root, "gateway", &["introspect"], "").await;
    let rename =
        UpdateCallerRequest { name: "edge".to_owned(), etag: made.etag.clone(), ..named(&made.id) };
    let renamed = update(&root, rename.clone()).await.expect("it is the present one");
    assert_eq!(refused(update(&root, rename).await), aborted());
    let rotate = RotateCallerRequest { etag: made.etag, ..rotation(&made.id) };
    assert_eq!(refused(root.admin().rotate_caller(rotate).await), aborted());
    let same = UpdateCallerRequest {
        name: "edge".to_owned(),
        etag: renamed.etag.clone(),
        ..named(&made.id)
    };
    assert_eq!(update(&root, same).await.expect("nothing changes").etag, renamed.etag);
    let rotate = RotateCallerRequest { etag: renamed.etag.clone(), ..rotation(&made.id) };
    let rotated = root.admin().rotate_caller(rotate).await.expect("it is the present one");
    assert_ne!(rotated.into_inner().caller.expect("it is given").etag, renamed.etag);
}

async fn a_retry_of_a_rotation_does_not_check_its_etag_again(h: Harness) {
    let root = h.root().await;
    let made = create(&root, "gateway", &["introspect"], "").await;
    let request_id = uuid::Uuid::from_u128(1).to_string();
    let rotate = RotateCallerRequest { request_id, etag: made.etag, ..rotation(&made.id) };
    let first = root.admin().rotate_caller(rotate.clone()).await.expect("it is rotated");
    let again = root.admin().rotate_caller(rotate.clone()).await.expect("the answer was lost");
    assert_ne!(first.into_inner().token, again.into_inner().token);
    // With another etag it is another request.
    let other = RotateCallerRequest { etag: String::new(), ..rotate };
    assert_eq!(fields(root.admin().rotate_caller(other).await), ["request_id"]);
}

async fn a_change_by_an_earlier_release_changes_the_etag(h: Harness) {
    let root = h.root().await;
    let made = create(&root, "gateway", &["introspect"], "").await;
    // The statement of 0.1.
    let change = "UPDATE callers SET name = name, permissions = 65, digest = digest, hint = hint \
                  WHERE name = 'gateway'";
    raw::run(&h.database, change).await;
    let found = find(&root, "gateway").await;
    assert_eq!(found.permissions, ["introspect", "audit.read"]);
    assert_ne!(found.etag, made.etag);
    raw::run(&h.database, change).await;
    assert_eq!(find(&root, "gateway").await.etag, found.etag, "nothing has changed");
}

async fn only_who_holds_all_of_a_callers_permissions_changes_its_certificate(h: Harness) {
    let root = h.root().await;
    let admin = h.caller("admin", &[Permission::CallersAdmin, Permission::Introspect]).await;
    create(&root, "mesh", &["introspect", "audit.read"], "mesh.internal").await;
    create(&root, "gateway", &["introspect"], "").await;
    let take_over =
        |san: &str| UpdateCallerRequest { certificate_san: san.to_owned(), ..named("mesh") };
    let fewer = UpdateCallerRequest {
        permissions: vec!["introspect".to_owned()],
        ..take_over("mine.internal")
    };
    // Not even to the present name, nor with the permissions that it lacks taken away.
    for request in [take_over("mine.internal"), take_over("mesh.internal"), fewer.clone()] {
        let status = update(&admin, request).await.expect_err("it holds less");
        let found = (status.code(), reason(&status));
        assert_eq!(found, (Code::PermissionDenied, "PERMISSION_NOT_HELD".to_owned()));
        let info = status.get_details_error_info().expect("a reason");
        assert_eq!(info.metadata["permission"], "audit.read");
    }
    let changed = update(&root, fewer).await.expect("root holds everything");
    assert_eq!((&*changed.certificate_san, changed.permissions.len()), ("mine.internal", 1));
    update(&admin, take_over("theirs.internal")).await.expect("now it holds as much");
    let request =
        UpdateCallerRequest { certificate_san: "a.internal".to_owned(), ..named("gateway") };
    let expected = (Code::FailedPrecondition, "CALLER_HAS_NO_CERTIFICATE".to_owned());
    assert_eq!(refused(update(&root, request).await), expected);
}

async fn a_certificate_is_changed_only_to_a_free_name(h: Harness) {
    let root = h.root().await;
    create(&root, "a", &["introspect"], "a.internal").await;
    create(&root, "b", &["introspect"], "b.internal").await;
    let change = |san: &str| UpdateCallerRequest { certificate_san: san.to_owned(), ..named("a") };
    let taken = (Code::AlreadyExists, "CERTIFICATE_TAKEN".to_owned());
    assert_eq!(refused(update(&root, change("b.internal")).await), taken);
    assert_eq!(fields(update(&root, change("not a name")).await), ["certificate_san"]);
    assert_eq!(fields(update(&root, named("a")).await), ["name"], "something must change");
    update(&root, change("c.internal")).await.expect("it is free");
    create(&root, "d", &["introspect"], "a.internal").await;
}

async fn permissions_of_a_newer_server_are_kept_and_named_by_number(h: Harness) {
    let root = h.root().await;
    create(&root, "gateway", &["introspect"], "").await;
    let newer = "UPDATE callers SET permissions = 1 + 8192 + 16384 WHERE name = 'gateway'";
    raw::run(&h.database, newer).await;
    let found = ["introspect", "8192", "16384"];
    assert_eq!(find(&root, "gateway").await.permissions, found);
    // They are kept if the permissions stay, and are not dropped unseen if they change.
    let rename = UpdateCallerRequest { name: "edge".to_owned(), ..named("gateway") };
    assert_eq!(update(&root, rename).await.expect("it is renamed").permissions, found);
    let fewer = UpdateCallerRequest { permissions: vec!["introspect".to_owned()], ..named("edge") };
    let status = update(&root, fewer).await.expect_err("it is refused");
    let reason = reason(&status);
    assert_eq!((status.code(), &*reason), (Code::FailedPrecondition, "PERMISSIONS_UNKNOWN"));
    let metadata = status.get_details_error_info().expect("a reason").metadata;
    assert_eq!(metadata["permission"], "8192, 16384");
    // Nobody holds them, so nobody gets a token with them.
    let status = root.admin().rotate_caller(rotation("edge")).await.expect_err("it is refused");
    let metadata = status.get_details_error_info().expect("a reason").metadata;
    assert_eq!(metadata["permission"], "8192, 16384");
    let by_number = UpdateCallerRequest { permissions: vec!["8192".to_owned()], ..named("root") };
    assert_eq!(fields(update(&root, by_number).await), ["permissions"]);
}

/// The context of a call that was admitted for this caller some time ago.
async fn admitted(h: &Harness, name: &str) -> Context {
    let page = PageRequest { size: 1_000, token: String::new() };
    let callers = h.running.service.list_callers(&page).await.expect("a page").items;
    let caller = callers.into_iter().find(|caller| caller.name.as_str() == name);
    let requester = Requester::Caller(Arc::new(caller.expect("it is listed")));
    Context { requester, ..Context::operator("test") }
}

async fn what_a_caller_has_lost_while_its_call_waited_counts(h: Harness) {
    let root = h.root().await;
    let both = ["introspect", "callers.admin"];
    create(&root, "target", &["introspect"], "").await;
    for name in ["demoted", "weakened", "shortened", "revoked"] {
        create(&root, name, &both, "").await;
    }
    let mut contexts = Vec::new();
    for name in ["demoted", "weakened", "shortened", "revoked"] {
        contexts.push((name, admitted(&h, name).await));
    }
    let fewer = |permission: &str, caller: &str| UpdateCallerRequest {
        permissions: vec![permission.to_owned()],
        ..named(caller)
    };
    update(&root, fewer("introspect", "demoted")).await.expect("it is demoted");
    update(&root, fewer("callers.admin", "weakened")).await.expect("it is weakened");
    let ttl = prost_types::Duration { seconds: 3_600, nanos: 0 };
    let expiration = Some(pb::update_caller_request::Expiration::Ttl(ttl));
    update(&root, UpdateCallerRequest { expiration, ..named("shortened") }).await.expect("it is");
    let request = pb::RevokeCallerRequest { caller: "revoked".to_owned() };
    root.admin().revoke_caller(request).await.expect("it is revoked");
    let service = &h.running.service;
    for (name, context) in contexts {
        let expected = match name {
            "demoted" => Reason::PermissionMissing,
            "weakened" => Reason::PermissionNotHeld,
            "shortened" => Reason::LifetimeNotHeld,
            _ => Reason::CallerUnknown,
        };
        let permissions = both.map(str::to_owned).to_vec();
        // It gives itself back what it had.
        let back = UpdateCaller {
            caller: name.to_owned(),
            permissions: permissions.clone(),
            expiry: Some(ExpiryChange::Remove),
            ..UpdateCaller::default()
        };
        let refused = service.update_caller(context.clone(), back).await.expect_err(name);
        // A revoked caller has no name any more.
        let gone = if name == "revoked" { Reason::CallerNotFound } else { expected };
        assert_eq!(refused.reason, gone, "{name}");
        let back_door =
            CreateCaller { name: "door".to_owned(), permissions, ..CreateCaller::default() };
        let refused = service.create_caller(context.clone(), back_door).await.expect_err(name);
        assert_eq!(refused.reason, expected, "{name}");
        if ["demoted", "revoked"].contains(&name) {
            let target = "target".to_owned();
            let refused = service.revoke_caller(context.clone(), target.clone()).await;
            assert_eq!(refused.expect_err(name).reason, expected);
            let rotate = RotateCaller {
                caller: target,
                overlap: None,
                request_id: String::new(),
                etag: String::new(),
            };
            let refused = service.rotate_caller(context, rotate).await;
            assert_eq!(refused.expect_err(name).reason, expected);
        }
    }
}

async fn callers_that_change_each_other_at_once_do_not_wait_for_each_other_for_ever(h: Harness) {
    let root = h.root().await;
    let permissions = ["callers.admin", "introspect"].map(str::to_owned).to_vec();
    let mut made = Vec::new();
    for name in ["one", "other"] {
        let request = CreateCallerRequest {
            name: name.to_owned(),
            permissions: permissions.clone(),
            ..Default::default()
        };
        let created = root.admin().create_caller(request).await.expect("it is made").into_inner();
        made.push((h.with_token(&created.token), created.caller.expect("it is given")));
    }
    let (one, other) = (&made[0], &made[1]);
    let request = |(_, target): &(Actor, Caller), by_name: bool| {
        let mut request = named(if by_name { &target.name } else { &target.id });
        request.permissions.clone_from(&permissions);
        request
    };
    for round in 0..20 {
        let by_name = round % 2 == 0;
        let (first, second, third) = tokio::join!(
            update(&one.0, request(other, by_name)),
            update(&other.0, request(one, by_name)),
            update(&one.0, request(one, by_name)),
        );
        for outcome in [first, second, third] {
            outcome.expect("it changes nothing");
        }
    }
}

async fn a_use_of_a_caller_is_written_with_its_address(h: Harness) {
    let (root, gateway) = (h.root().await, h.gateway().await);
    assert_eq!(find(&root, "gateway").await.last_use_time, None);
    calls(&gateway).await.expect("it may call");
    h.running.service.flush_caller_uses().await;
    let used = find(&root, "gateway").await;
    let first = used.last_use_time.expect("it is written");
    assert_eq!(used.last_use_ip, "127.0.0.1");
    // A call on the same connection is noted too, and one over HTTP.
    let authorization = gateway.authorization().expect("a token");
    let http = async || {
        let call = Call::form("/oauth2/introspect", &[("token", "x")]);
        let reply = call.header("authorization", &authorization).send(h.running.http).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    calls(&gateway).await.expect("it may call");
    h.running.service.flush_caller_uses().await;
    let second = find(&root, "gateway").await.last_use_time.expect("it is written");
    http().await;
    h.running.service.flush_caller_uses().await;
    let third = find(&root, "gateway").await.last_use_time.expect("it is written");
    let order = [first, second, third].map(|time| (time.seconds, time.nanos));
    assert!(order[0] < order[1] && order[1] < order[2], "{order:?}");
    // A refused token is no use of anybody.
    calls(&h.with_token("sophic_svc_nonsense")).await.expect_err("it is refused");
    h.running.service.flush_caller_uses().await;
    assert_eq!(find(&root, "gateway").await.last_use_time, Some(third));
}

async fn a_watch_is_a_use_for_as_long_as_it_lasts(h: Harness) {
    let (root, gateway) = (h.root().await, h.gateway().await);
    let stream = gateway.auth().watch(WatchRequest::default()).await.expect("it may listen");
    let mut stream = stream.into_inner();
    let mut last = None;
    for _ in 0..2 {
        let later = eventually_some("a checkpoint is a use", async || {
            within("a checkpoint", stream.message()).await.expect("it goes on");
            h.running.service.flush_caller_uses().await;
            let used = find(&root, "gateway").await;
            let time = used.last_use_time.filter(|time| last != Some(*time));
            time.inspect(|_| assert_eq!(used.last_use_ip, "127.0.0.1"))
        })
        .await;
        last = Some(later);
    }
}

async fn a_use_of_a_caller_changes_neither_etag_nor_revision_nor_log(h: Harness) {
    let (root, gateway) = (h.root().await, h.gateway().await);
    let before = find(&root, "gateway").await;
    let store = h.database.open().await;
    let events = async || {
        store.list_audit_events(&AuditFilter::default(), None, 100).await.expect("events").len()
    };
    let (revision, logged) = (store.revision().await.expect("a revision"), events().await);
    calls(&gateway).await.expect("it may call");
    assert!(h.running.service.flush_caller_uses().await >= 1);
    let after = find(&root, "gateway").await;
    assert!(after.last_use_time.is_some());
    assert_eq!((after.etag, store.revision().await.ok()), (before.etag, Some(revision)));
    assert_eq!(events().await, logged);
}
