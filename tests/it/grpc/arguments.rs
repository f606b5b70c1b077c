//! Invalid fields are refused by name, all at once, and their values are never repeated.

use std::collections::HashMap;

use prost_types::{Duration, Timestamp};
use sophic_auth::grpc::pb::create_key_request::Expiration;
use sophic_auth::grpc::pb::{
    BatchIntrospectRequest, CreateCallerRequest, CreateKeyRequest, CreatePatRequest,
    GetCredentialRequest, GetMembershipRequest, GetUserRequest, GetWorkspaceRequest,
    IntrospectRequest, ListCredentialsRequest, ListMembershipsRequest, PutMembershipRequest,
    PutUserRequest, PutWorkspaceRequest, RevokeRequest, Scope, User, Workspace, revoke_request,
};
use tonic::{Code, Status};

use super::refusal::{fields, reason};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    names_that_deceive_or_do_not_fit_are_refused,
    ordinary_names_are_kept_unchanged,
    unknown_scopes_are_refused,
    of_very_many_mistakes_some_are_named,
    unknown_roles_are_refused,
    invalid_times_are_refused,
    times_at_the_edge_are_kept,
    invalid_allowlists_and_annotations_are_refused,
    malformed_ids_are_refused,
    all_invalid_fields_are_named_at_once_and_no_value_is_repeated,
    introspect_refuses_mistakes_of_its_caller,
    invalid_pages_are_refused,
    invalid_callers_are_refused,
}

fn key() -> CreateKeyRequest {
    CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        ..Default::default()
    }
}

async fn acme(h: &Harness) -> Actor {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    root
}

async fn create(root: &Actor, request: CreateKeyRequest) -> Result<String, Status> {
    let response = root.auth().create_key(request).await?.into_inner();
    Ok(response.credential.expect("it is given").name)
}

async fn names_that_deceive_or_do_not_fit_are_refused(h: Harness) {
    let root = acme(&h).await;
    let long = "é".repeat(257);
    let names = [
        "",
        " ci",
        "ci\n",
        "a\u{0}b",
        "a\u{1b}[31mb",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{feff}b",
        "a\r\nb",
        &long,
    ];
    for name in names {
        let outcome = create(&root, CreateKeyRequest { name: name.to_owned(), ..key() }).await;
        assert_eq!(fields(outcome), ["name"], "{name:?}");
        let user =
            User { id: "eve".to_owned(), display_name: name.to_owned(), ..Default::default() };
        let outcome = root.directory().put_user(PutUserRequest { user: Some(user) }).await;
        assert_eq!(fields(outcome), ["user.display_name"], "{name:?}");
    }
}

async fn ordinary_names_are_kept_unchanged(h: Harness) {
    let root = acme(&h).await;
    let family = "👨‍👩‍👧‍👦".repeat(256);
    let names = [
        "O'Brien; DROP TABLE credentials --",
        "100% _sure_ \\ \"quoted\"",
        "नमस्ते",
        "ﾊﾝｶｸ",
        "e\u{301}",
        "é",
        "x",
        &family,
    ];
    for name in names {
        let kept = create(&root, CreateKeyRequest { name: name.to_owned(), ..key() }).await;
        assert_eq!(kept.expect("it is made"), name);
    }
}

async fn unknown_scopes_are_refused(h: Harness) {
    let root = acme(&h).await;
    for scopes in [vec![], vec![0], vec![4], vec![-1], vec![i32::MAX], vec![1; 10_000]] {
        let count = scopes.len();
        let outcome = create(&root, CreateKeyRequest { scopes, ..key() }).await;
        assert!(fields(outcome).iter().all(|field| field == "scopes"), "{count}");
    }
    let request = IntrospectRequest { required_scopes: vec![9], ..Default::default() };
    assert_eq!(fields(root.auth().introspect(request).await), ["required_scopes"]);
    let request = IntrospectRequest { required_scopes: vec![1; 10_000], ..Default::default() };
    assert_eq!(fields(root.auth().introspect(request).await), ["required_scopes"]);
}

async fn of_very_many_mistakes_some_are_named(h: Harness) {
    let root = h.root().await;
    let wrong = IntrospectRequest { required_scopes: vec![77; 32], ..Default::default() };
    let request = BatchIntrospectRequest { requests: vec![wrong; 1_000] };
    let refused = root.auth().batch_introspect(request).await.map(drop);
    assert!(refused.as_ref().is_err_and(|status| status.details().len() < 8_192), "{refused:?}");
    let named = fields(refused);
    assert_eq!((named.len(), named[0].as_str()), (33, "requests[0].required_scopes"));
}

async fn unknown_roles_are_refused(h: Harness) {
    let root = acme(&h).await;
    for role in [0, 5, -1, i32::MAX] {
        let request =
            PutMembershipRequest { workspace: "acme".to_owned(), user: "ada".to_owned(), role };
        let outcome = root.directory().put_membership(request).await;
        assert_eq!(fields(outcome), ["role"], "{role}");
    }
    let request = CreatePatRequest {
        user: "ada".to_owned(),
        name: "laptop".to_owned(),
        scopes: vec![1],
        max_role: 7,
        ..Default::default()
    };
    assert_eq!(fields(root.auth().create_pat(request).await), ["max_role"]);
}

async fn invalid_times_are_refused(h: Harness) {
    let root = acme(&h).await;
    let ttl = |seconds, nanos| Expiration::Ttl(Duration { seconds, nanos });
    let at = |seconds, nanos| Expiration::ExpireTime(Timestamp { seconds, nanos });
    let ttls = [
        ttl(0, 0),
        ttl(-1, 0),
        ttl(0, -1),
        ttl(1, -1),
        ttl(0, 1_000_000_000),
        ttl(0, 999),
        ttl(i64::MAX, 999_999_999),
        ttl(i64::MIN, 0),
        // Ends after the year 9999.
        ttl(315_576_000_000, 0),
    ];
    for expiration in ttls {
        let request = CreateKeyRequest { expiration: Some(expiration), ..key() };
        assert_eq!(fields(create(&root, request).await), ["ttl"], "{expiration:?}");
    }
    let times = [
        // The past, the year 0, the year 10000, and numbers that overflow.
        at(1, 0),
        at(-62_135_596_801, 0),
        at(253_402_300_800, 0),
        at(i64::MAX, 0),
        at(i64::MIN, 0),
        at(4_102_444_800, -1),
        at(4_102_444_800, 1_000_000_000),
    ];
    for expiration in times {
        let request = CreateKeyRequest { expiration: Some(expiration), ..key() };
        assert_eq!(fields(create(&root, request).await), ["expire_time"], "{expiration:?}");
    }
}

async fn times_at_the_edge_are_kept(h: Harness) {
    let root = acme(&h).await;
    let last = Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 };
    let request = CreateKeyRequest { expiration: Some(Expiration::ExpireTime(last)), ..key() };
    let made = root.auth().create_key(request).await.expect("it is made").into_inner();
    let kept = made.credential.expect("it is given").expire_time.expect("a time");
    assert_eq!((kept.seconds, kept.nanos), (last.seconds, 999_999_000));
    let answer = root.introspect(&made.token, "acme", &[]).await;
    assert_eq!(answer.credential.expect("which").expire_time, Some(kept));
    let brief = Expiration::Ttl(Duration { seconds: 0, nanos: 1_000 });
    create(&root, CreateKeyRequest { expiration: Some(brief), ..key() }).await.expect("made");
}

async fn invalid_allowlists_and_annotations_are_refused(h: Harness) {
    let root = acme(&h).await;
    let lists = ["", "10.0.0.0/33", "10.0.0.256", "010.0.0.1", "example.org", "10.0.0.1:80", "*"];
    for entry in lists {
        let request = CreateKeyRequest { ip_allowlist: vec![entry.to_owned()], ..key() };
        assert_eq!(fields(create(&root, request).await), ["ip_allowlist"], "{entry}");
    }
    let many = (0..65).map(|number| format!("10.0.0.{number}")).collect();
    let request = CreateKeyRequest { ip_allowlist: many, ..key() };
    assert_eq!(fields(create(&root, request).await), ["ip_allowlist"]);
    let one = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let many = (0..33).map(|number| (format!("k{number}"), String::new())).collect();
    let maps = [
        one("", "v"),
        one("Team", "v"),
        one("a b", "v"),
        one(&"k".repeat(64), "v"),
        one("k", &"v".repeat(1_025)),
        one("k", "a\u{0}b"),
        many,
    ];
    for annotations in maps {
        let request = CreateKeyRequest { annotations, ..key() };
        assert_eq!(fields(create(&root, request).await), ["annotations"]);
    }
}

async fn malformed_ids_are_refused(h: Harness) {
    let root = acme(&h).await;
    let ids = [
        "",
        "0195F2D4-7C1E-7B3A-9D58-0242AC120002",
        "0195f2d47c1e7b3a9d580242ac120002",
        "{0195f2d4-7c1e-7b3a-9d58-0242ac120002}",
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "0195f2d4-7c1e-7b3a-9d58-0242ac12000",
        "1",
    ];
    for id in ids {
        let request = GetCredentialRequest { credential_id: id.to_owned(), ..Default::default() };
        assert_eq!(fields(root.auth().get_credential(request).await), ["credential_id"], "{id}");
        let credential = Some(revoke_request::Credential::CredentialId(id.to_owned()));
        let request = RevokeRequest { credential, ..Default::default() };
        assert_eq!(fields(root.auth().revoke(request).await), ["credential_id"], "{id}");
    }
    assert_eq!(fields(root.auth().revoke(RevokeRequest::default()).await), ["credential"]);
    let long = "a".repeat(65);
    for name in ["", "a b", "a/b", "é", "a\u{0}", &long] {
        let request = GetWorkspaceRequest { workspace: name.to_owned() };
        assert_eq!(fields(root.directory().get_workspace(request).await), ["workspace"], "{name}");
        let request = GetUserRequest { user: name.to_owned() };
        assert_eq!(fields(root.directory().get_user(request).await), ["user"], "{name}");
        let request = GetMembershipRequest { workspace: name.to_owned(), user: name.to_owned() };
        let both = fields(root.directory().get_membership(request).await);
        assert_eq!(both, ["workspace", "user"], "{name}");
        let request = CreateKeyRequest { workspace: name.to_owned(), ..key() };
        assert_eq!(fields(create(&root, request).await), ["workspace"], "{name}");
    }
    for slug in ["", "ab", "Acme", "-acme", "acme-", "ac--me", "a_b", "é-é", &long] {
        let workspace = Workspace {
            id: "x".to_owned(),
            slug: slug.to_owned(),
            display_name: "X".to_owned(),
            ..Default::default()
        };
        let request = PutWorkspaceRequest { workspace: Some(workspace) };
        let outcome = root.directory().put_workspace(request).await;
        assert_eq!(fields(outcome), ["workspace.slug"], "{slug}");
    }
}

async fn all_invalid_fields_are_named_at_once_and_no_value_is_repeated(h: Harness) {
    let root = acme(&h).await;
    let outcome = root.directory().put_workspace(PutWorkspaceRequest::default()).await;
    let all = ["workspace.id", "workspace.slug", "workspace.display_name"];
    assert_eq!(fields(outcome), all);
    let request = CreateKeyRequest {
        name: "hunter2\u{1}".to_owned(),
        ip_allowlist: vec!["hunter2".to_owned()],
        annotations: HashMap::from([("hunter2!".to_owned(), String::new())]),
        ..key()
    };
    let status = root.auth().create_key(request).await.expect_err("it is refused");
    assert!(!format!("{status:?}").contains("hunter2"), "{status:?}");
    assert_eq!(fields::<()>(Err(status)), ["name", "ip_allowlist", "annotations"]);
}

async fn introspect_refuses_mistakes_of_its_caller(h: Harness) {
    let root = acme(&h).await;
    let request = IntrospectRequest { at_least_revision: u64::MAX, ..Default::default() };
    let outcome = root.auth().introspect(request).await;
    assert_eq!(fields(outcome), ["at_least_revision"]);
    // A future revision does not arrive in time.
    let token = root.create_key("acme", &[Scope::Read]).await.token;
    let request = IntrospectRequest { token, at_least_revision: 1_000_000, ..Default::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(std::time::Duration::from_millis(500));
    let status = root.auth().introspect(request).await.expect_err("it is not reached");
    assert!(matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{status:?}");
}

async fn invalid_pages_are_refused(h: Harness) {
    let root = acme(&h).await;
    for _ in 0..3 {
        root.create_key("acme", &[Scope::Read]).await;
    }
    let list = async |page_size, page_token: &str, workspace: &str| {
        let request = ListCredentialsRequest {
            page_size,
            page_token: page_token.to_owned(),
            workspace: workspace.to_owned(),
            ..Default::default()
        };
        root.auth().list_credentials(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(fields(list(-1, "", "").await), ["page_size"]);
    let token = list(1, "", "").await.expect("a page").next_page_token;
    let cut = &token[..token.len() - 2];
    let changed = format!("{}AAAA", &token[..token.len() - 4]);
    let long = "A".repeat(10_000);
    for bad in ["x", "%%%", "AAAA", cut, &changed, &long, "é"] {
        assert_eq!(fields(list(1, bad, "").await), ["page_token"], "{bad:.40}");
    }
    // Page tokens of another filter, and of another list.
    assert_eq!(fields(list(1, &token, "acme").await), ["page_token"]);
    let request = ListMembershipsRequest {
        workspace: "acme".to_owned(),
        page_token: token.clone(),
        ..Default::default()
    };
    assert_eq!(fields(root.directory().list_memberships(request).await), ["page_token"]);
    assert_eq!(list(1, &token, "").await.expect("a page").credentials.len(), 1);
    assert_eq!(list(i32::MAX, "", "").await.expect("a page").credentials.len(), 3);
    let outcome = root.directory().list_memberships(ListMembershipsRequest::default()).await;
    assert_eq!(fields(outcome), ["workspace"]);
    let request = ListCredentialsRequest { kind: 9, state: 9, ..Default::default() };
    assert_eq!(fields(root.auth().list_credentials(request).await), ["kind", "state"]);
    let request = ListCredentialsRequest { workspace: "nowhere".to_owned(), ..Default::default() };
    let status = root.auth().list_credentials(request).await.expect_err("there is none");
    assert_eq!((status.code(), &*reason(&status)), (Code::NotFound, "WORKSPACE_NOT_FOUND"));
}

async fn invalid_callers_are_refused(h: Harness) {
    let root = acme(&h).await;
    let create = async |name: &str, permissions: &[&str], san: &str| {
        let request = CreateCallerRequest {
            name: name.to_owned(),
            permissions: permissions.iter().map(|&permission| permission.to_owned()).collect(),
            certificate_san: san.to_owned(),
            ..Default::default()
        };
        root.admin().create_caller(request).await
    };
    let long = "a".repeat(64);
    for name in ["", "Gateway", "-a", "a-", "a_b", "a b", &long] {
        assert_eq!(fields(create(name, &["introspect"], "").await), ["name"], "{name}");
    }
    for permissions in
        [&[][..], &["everything"], &["*"], &["introspect", "admin:*"], &["Introspect"]]
    {
        let outcome = create("a", permissions, "").await;
        assert_eq!(fields(outcome), ["permissions"], "{permissions:?}");
    }
    for san in ["a b", "é", "a\u{0}"] {
        assert_eq!(fields(create("a", &["introspect"], san).await), ["certificate_san"], "{san}");
    }
    let all = fields(create("", &["x", "y"], "a b").await);
    assert!(all.contains(&"name".to_owned()) && all.contains(&"certificate_san".to_owned()));
}
