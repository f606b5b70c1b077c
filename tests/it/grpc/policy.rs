//! The policies of the server and of a workspace, enforced when credentials are created and rotated.

use prost_types::Duration;
use sophic_auth::grpc::pb::{
    self, CreateKeyRequest, CreatePatRequest, GetWorkspaceRequest, ListWorkspacesRequest,
    PutWorkspaceRequest, Role, RotateRequest, Scope, WorkspacePolicy, create_key_request,
    create_pat_request,
};
use sophic_auth::policy::{CredentialLimits, Policy};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::refusal::{fields, reason};
use super::rotate;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    a_key_expires_within_the_lifetime_of_the_policy,
    pats_have_separate_limits,
    the_number_of_active_keys_is_bounded_under_races,
    overlaps_have_a_minimum_and_a_maximum,
    a_rotated_key_and_its_successor_count_once,
    a_successor_expires_within_the_lifetime_of_the_policy,
    a_workspace_may_be_stricter_and_never_laxer,
    a_put_changes_only_the_limits_that_it_names,
    limits_that_contradict_each_other_are_refused,
}

const DAY: i64 = 86_400;

fn span(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

fn days(days: u64) -> std::time::Duration {
    std::time::Duration::from_hours(24 * days)
}

async fn strict(h: &Harness, policy: Policy) -> (Harness, Actor) {
    let server = h.another(|config| config.options.policy = policy).await;
    let root = h.root().await.via(&server);
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    (server, root)
}

async fn key(actor: &Actor, ttl: Option<i64>) -> Result<pb::CreateKeyResponse, Status> {
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        expiration: ttl.map(|ttl| create_key_request::Expiration::Ttl(span(ttl))),
        ..Default::default()
    };
    actor.auth().create_key(request).await.map(tonic::Response::into_inner)
}

async fn pat(actor: &Actor, ttl: Option<i64>) -> Result<pb::CreatePatResponse, Status> {
    let request = CreatePatRequest {
        user: "ada".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![Scope::Read.into()],
        max_role: Role::Member.into(),
        expiration: ttl.map(|ttl| create_pat_request::Expiration::Ttl(span(ttl))),
        ..Default::default()
    };
    actor.auth().create_pat(request).await.map(tonic::Response::into_inner)
}

/// Asserts the invalid field, and that its description contains this.
fn refuses<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str, named: &str) {
    let status = outcome.expect_err("it is refused");
    assert!(status.message().contains(named), "{status:?}");
    assert_eq!(fields(Err::<(), _>(status)), [field]);
}

fn too_many<T: std::fmt::Debug>(outcome: Result<T, Status>, max: &str) {
    let status = outcome.expect_err("it is refused");
    let expected = (Code::FailedPrecondition, "CREDENTIALS_MAX_REACHED");
    assert_eq!((status.code(), &*reason(&status)), expected);
    let info = status.get_details_error_info().expect("details");
    assert_eq!(info.metadata.get("max").map(String::as_str), Some(max));
}

async fn a_key_expires_within_the_lifetime_of_the_policy(h: Harness) {
    let keys = CredentialLimits { lifetime_max: Some(days(90)), ..CredentialLimits::default() };
    let (_server, root) = strict(&h, Policy { keys, ..Policy::default() }).await;
    refuses(key(&root, Some(90 * DAY + 1)).await, "ttl", "90d");
    refuses(key(&root, None).await, "expiration", "90d");
    key(&root, Some(90 * DAY)).await.expect("as long as it may");
    pat(&root, None).await.expect("that was about keys");
    let late = prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 };
    let request = CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        expiration: Some(create_key_request::Expiration::ExpireTime(late)),
        ..Default::default()
    };
    refuses(root.auth().create_key(request).await, "expire_time", "90d");
}

async fn pats_have_separate_limits(h: Harness) {
    let pats = CredentialLimits {
        expiry_required: true,
        live_max: Some(2),
        ..CredentialLimits::default()
    };
    let (_server, root) = strict(&h, Policy { pats, ..Policy::default() }).await;
    refuses(pat(&root, None).await, "expiration", "policy");
    pat(&root, Some(1_000 * DAY)).await.expect("one");
    let second = pat(&root, Some(DAY)).await.expect("two");
    too_many(pat(&root, Some(DAY)).await, "2");
    key(&root, None).await.expect("that was about personal access tokens");
    // Revoked and expired keys do not count.
    let credential = Some(pb::revoke_request::Credential::Token(second.token));
    let revoke = pb::RevokeRequest { credential, ..Default::default() };
    root.auth().revoke(revoke).await.expect("it is revoked");
    pat(&root, Some(DAY)).await.expect("there is room");
}

async fn the_number_of_active_keys_is_bounded_under_races(h: Harness) {
    let keys = CredentialLimits { live_max: Some(5), ..CredentialLimits::default() };
    let (_server, root) = strict(&h, Policy { keys, ..Policy::default() }).await;
    let pats = CredentialLimits { live_max: Some(3), ..CredentialLimits::default() };
    let policy = Policy { pats, ..Policy::default() };
    let another = h.another(|config| config.options.policy = policy).await;
    let other = root.via(&another);
    let mut racing = Vec::new();
    for _ in 0..30 {
        let (one, two) = (root.clone(), other.clone());
        racing.push(tokio::spawn(async move {
            (key(&one, None).await.is_ok(), pat(&two, None).await.is_ok())
        }));
    }
    let mut made = (0, 0);
    for task in racing {
        let (key, pat) = task.await.expect("it ends");
        made = (made.0 + u32::from(key), made.1 + u32::from(pat));
    }
    assert_eq!(made, (5, 3));
}

async fn overlaps_have_a_minimum_and_a_maximum(h: Harness) {
    let policy = Policy { overlap_min: days(1), overlap_max: Some(days(7)), ..Policy::default() };
    let (_server, root) = strict(&h, policy).await;
    let id = key(&root, None).await.expect("a key").credential.expect("it is given").id;
    let with = |seconds: i64| RotateRequest { overlap: Some(span(seconds)), ..rotate::of(&id) };
    refuses(rotate::rotate(&root, with(0)).await, "overlap", "from 1d to 7d");
    refuses(rotate::rotate(&root, with(7 * DAY + 1)).await, "overlap", "from 1d to 7d");
    rotate::rotate(&root, with(7 * DAY)).await.expect("as long as it may");
    // The default overlap is the minimum, and a retry finds it unchanged.
    let id = key(&root, None).await.expect("a key").credential.expect("it is given").id;
    let request_id = "0f6f3f1c-7a55-4c0b-9d2e-3a1f5c2b7d10".to_owned();
    let request = RotateRequest { request_id, ..rotate::of(&id) };
    for _ in 0..2 {
        let rotated = rotate::rotate(&root, request.clone()).await.expect("it is rotated");
        let (old, new) = (rotated.predecessor.expect("given"), rotated.credential.expect("given"));
        assert_eq!(old.revoke_time, None);
        let (end, made) = (old.expire_time.expect("an end"), new.create_time.expect("a time"));
        assert_eq!(end.seconds - made.seconds, DAY);
    }
    let other = RotateRequest { overlap: Some(span(0)), ..request };
    let status = rotate::rotate(&root, other).await.expect_err("it is another request");
    assert_eq!(fields(Err::<(), _>(status)), ["request_id"]);
}

async fn a_rotated_key_and_its_successor_count_once(h: Harness) {
    let keys = CredentialLimits { live_max: Some(1), ..CredentialLimits::default() };
    let (_server, root) = strict(&h, Policy { keys, ..Policy::default() }).await;
    let id = key(&root, None).await.expect("a key").credential.expect("it is given").id;
    let overlapping = |id: &str| RotateRequest { overlap: Some(span(60)), ..rotate::of(id) };
    let rotated = rotate::rotate(&root, overlapping(&id)).await.expect("it is rotated");
    // But not to a second successor, since two are active already.
    let successor = rotated.credential.expect("the successor").id;
    too_many(rotate::rotate(&root, overlapping(&successor)).await, "1");
    rotate::rotate(&root, rotate::of(&successor)).await.expect("one for one");
    too_many(key(&root, None).await, "1");
}

async fn a_successor_expires_within_the_lifetime_of_the_policy(h: Harness) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    let id = key(&root, None).await.expect("a key").credential.expect("it is given").id;
    let keys = CredentialLimits { lifetime_max: Some(days(30)), ..CredentialLimits::default() };
    let config = Policy { keys, ..Policy::default() };
    let server = h.another(|options| options.options.policy = config).await;
    let root = root.via(&server);
    let ttl = pb::rotate_request::Expiration::Ttl(span(31 * DAY));
    let too_long = RotateRequest { expiration: Some(ttl), ..rotate::of(&id) };
    refuses(rotate::rotate(&root, too_long).await, "ttl", "30d");
    let rotated = rotate::rotate(&root, rotate::of(&id)).await.expect("it is rotated");
    let new = rotated.credential.expect("the successor");
    let (made, end) = (new.create_time.expect("a time"), new.expire_time.expect("an end"));
    assert_eq!(end.seconds - made.seconds, 30 * DAY);
}

async fn put(actor: &Actor, policy: Option<WorkspacePolicy>) -> Result<pb::Workspace, Status> {
    let workspace = pb::Workspace {
        id: "id-of-acme".to_owned(),
        slug: "acme".to_owned(),
        display_name: "Acme".to_owned(),
        policy,
        ..Default::default()
    };
    let request = PutWorkspaceRequest { workspace: Some(workspace) };
    let response = actor.directory().put_workspace(request).await?.into_inner();
    Ok(response.workspace.expect("it is given"))
}

async fn a_workspace_may_be_stricter_and_never_laxer(h: Harness) {
    let keys = CredentialLimits {
        lifetime_max: Some(days(90)),
        live_max: Some(9),
        ..CredentialLimits::default()
    };
    let (_server, root) = strict(&h, Policy { keys, ..Policy::default() }).await;
    let laxer = WorkspacePolicy {
        key_lifetime_max: Some(span(91 * DAY)),
        keys_max: Some(10),
        ..Default::default()
    };
    let wrong = ["workspace.policy.key_lifetime_max", "workspace.policy.keys_max"];
    assert_eq!(fields(put(&root, Some(laxer)).await), wrong);
    let stricter = WorkspacePolicy {
        key_lifetime_max: Some(span(7 * DAY)),
        keys_max: Some(1),
        overlap_max: Some(span(60)),
        ..Default::default()
    };
    put(&root, Some(stricter)).await.expect("it is put");
    refuses(key(&root, Some(8 * DAY)).await, "ttl", "7d");
    let id = key(&root, Some(7 * DAY)).await.expect("a key").credential.expect("given").id;
    too_many(key(&root, Some(DAY)).await, "1");
    let overlap = Some(span(61));
    let outcome = rotate::rotate(&root, RotateRequest { overlap, ..rotate::of(&id) }).await;
    refuses(outcome, "overlap", "1m");
    // A limit that was put under a laxer server policy is capped by the new one.
    let easy = root.via(&h);
    put(&easy, Some(laxer)).await.expect("that server has no policy");
    refuses(key(&root, Some(90 * DAY + 1)).await, "ttl", "90d");
    put(&root, Some(laxer)).await.expect("it is no change");
}

type Change = fn(&mut WorkspacePolicy);

async fn a_put_changes_only_the_limits_that_it_names(h: Harness) {
    let root = h.root().await;
    let policy = WorkspacePolicy {
        key_lifetime_max: Some(Duration { seconds: DAY, nanos: 500_000_000 }),
        key_expiry_required: Some(true),
        keys_max: Some(3),
        overlap_min: Some(span(1)),
        overlap_max: Some(span(2)),
    };
    assert_eq!(put(&root, Some(policy)).await.expect("it is put").policy, Some(policy));
    assert_eq!(put(&root, None).await.expect("it is put").policy, Some(policy));
    let none = WorkspacePolicy::default();
    assert_eq!(put(&root, Some(none)).await.expect("it is put").policy, Some(policy));
    root.put_workspace("other").await;
    let get = GetWorkspaceRequest { workspace: "acme".to_owned() };
    let got = root.directory().get_workspace(get).await.expect("it is there").into_inner();
    assert_eq!(got.workspace.expect("it is given").policy, Some(policy));
    let listed = root.directory().list_workspaces(ListWorkspacesRequest::default()).await;
    let listed = listed.expect("a page").into_inner().workspaces;
    let policies: Vec<_> = listed.iter().map(|workspace| workspace.policy).collect();
    assert_eq!(policies, [Some(policy), None]);
    // Each field alone: another value, then none. In a batch as in a single call.
    let mut kept = policy;
    let nought = (Some(span(0)), Some(0), Some(false));
    let steps: [(WorkspacePolicy, Change); 6] = [
        (WorkspacePolicy { keys_max: Some(9), ..none }, |kept| kept.keys_max = Some(9)),
        (WorkspacePolicy { keys_max: nought.1, ..none }, |kept| kept.keys_max = None),
        (WorkspacePolicy { key_lifetime_max: nought.0, ..none }, |kept| {
            kept.key_lifetime_max = None
        }),
        (WorkspacePolicy { overlap_min: nought.0, ..none }, |kept| kept.overlap_min = None),
        (WorkspacePolicy { overlap_max: nought.0, ..none }, |kept| kept.overlap_max = None),
        (WorkspacePolicy { key_expiry_required: nought.2, ..none }, |_| {}),
    ];
    for (named, change) in steps {
        change(&mut kept);
        let put = put(&root, Some(named)).await.expect("it is put").policy;
        // Removing the last limit removes the policy.
        let expected = (named.key_expiry_required.is_none()).then_some(kept);
        assert_eq!(put, expected, "{named:?}");
    }
    let workspace = |policy| {
        let workspace = pb::Workspace {
            id: "id-of-acme".to_owned(),
            policy: Some(policy),
            ..Default::default()
        };
        pb::BatchPutWorkspacesRequest {
            requests: vec![PutWorkspaceRequest { workspace: Some(workspace) }],
        }
    };
    root.directory().batch_put_workspaces(workspace(policy)).await.expect("it is put");
    let named = WorkspacePolicy { keys_max: Some(9), ..none };
    let put_all = root.directory().batch_put_workspaces(workspace(named)).await;
    let workspaces = put_all.expect("it is put").into_inner().workspaces;
    assert_eq!(workspaces[0].policy, Some(WorkspacePolicy { keys_max: Some(9), ..policy }));
    let wrong = WorkspacePolicy {
        key_lifetime_max: Some(Duration { seconds: 0, nanos: 999 }),
        overlap_min: Some(span(-1)),
        ..none
    };
    let fields = fields(put(&root, Some(wrong)).await);
    assert_eq!(fields, ["workspace.policy.key_lifetime_max", "workspace.policy.overlap_min"]);
    // A workspace that is deleted and created again has no policy.
    root.delete_workspace("acme").await;
    assert_eq!(put(&root, None).await.expect("it is put").policy, None);
}

async fn limits_that_contradict_each_other_are_refused(h: Harness) {
    let server = Policy { overlap_min: days(2), ..Policy::default() };
    let (_server, root) = strict(&h, server).await;
    let none = WorkspacePolicy::default();
    for (policy, named) in [
        (
            WorkspacePolicy {
                overlap_min: Some(span(10 * DAY)),
                key_lifetime_max: Some(span(3 * DAY)),
                ..none
            },
            &["overlap_min", "key_lifetime_max"][..],
        ),
        (WorkspacePolicy { key_lifetime_max: Some(span(DAY)), ..none }, &["key_lifetime_max"]),
        (WorkspacePolicy { overlap_max: Some(span(DAY)), ..none }, &["overlap_max"]),
    ] {
        let named: Vec<_> = named.iter().map(|name| format!("workspace.policy.{name}")).collect();
        assert_eq!(fields(put(&root, Some(policy)).await), named);
    }
}
