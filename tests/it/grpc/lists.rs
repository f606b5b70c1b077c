//! ListCredentials: filters, orders, and page tokens that are valid only for their list.

use prost_types::{Duration, Timestamp};
use sophic_auth::grpc::pb::{
    self, CredentialKind, CredentialOrder, CredentialState, ListCredentialsRequest, Role, Scope,
    create_key_request,
};
use tonic::Status;

use super::refusal::fields;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    each_filter_finds_exactly_its_credentials,
    each_order_holds_across_pages,
    a_page_fits_only_its_filter_and_order,
    a_page_of_expiring_credentials_stays_valid_as_time_passes,
    impossible_names_are_refused,
}

async fn list(
    actor: &Actor,
    request: ListCredentialsRequest,
) -> Result<pb::ListCredentialsResponse, Status> {
    actor.auth().list_credentials(request).await.map(tonic::Response::into_inner)
}

async fn names(actor: &Actor, request: ListCredentialsRequest) -> Vec<String> {
    let page = list(actor, request).await.expect("a page");
    page.credentials.into_iter().map(|one| one.name).collect()
}

async fn key(actor: &Actor, name: &str, scope: Scope, ttl: Option<i64>) {
    let request = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: name.to_owned(),
        scopes: vec![scope.into()],
        expiration: ttl
            .map(|seconds| create_key_request::Expiration::Ttl(Duration { seconds, nanos: 0 })),
        ..Default::default()
    };
    actor.auth().create_key(request).await.expect("it is made");
}

async fn filled(h: &Harness) -> Actor {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("ada").await;
    key(&root, "ci-late", Scope::Read, Some(9_000)).await;
    key(&root, "ci-never", Scope::Admin, None).await;
    key(&root, "cd-soon", Scope::Read, Some(600)).await;
    root.create_pat("ada", &[Scope::Read], Role::Member).await;
    root
}

fn all() -> ListCredentialsRequest {
    ListCredentialsRequest::default()
}

async fn each_filter_finds_exactly_its_credentials(h: Harness) {
    let root = filled(&h).await;
    let everything = ["ci-late", "ci-never", "cd-soon", "laptop"];
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let at = |seconds: i64| {
        Some(Timestamp { seconds: i64::try_from(now).expect("soon") + seconds, nanos: 0 })
    };
    let within = |seconds| Some(Duration { seconds, nanos: 0 });
    let creator = "caller:root".to_owned();
    let cases: [(ListCredentialsRequest, &[&str]); 14] = [
        (all(), &everything),
        (ListCredentialsRequest { creator, ..all() }, &everything),
        (ListCredentialsRequest { creator: "user:ada".to_owned(), ..all() }, &[]),
        (ListCredentialsRequest { scope: Scope::Admin.into(), ..all() }, &["ci-never"]),
        (ListCredentialsRequest { expires_before: at(1_000), ..all() }, &["cd-soon"]),
        (ListCredentialsRequest { expiring_within: within(1_000), ..all() }, &["cd-soon"]),
        (
            ListCredentialsRequest { expiring_within: within(i64::MAX), ..all() },
            &["ci-late", "cd-soon"],
        ),
        (
            ListCredentialsRequest {
                expiring_within: within(10_000),
                expires_before: at(700),
                ..all()
            },
            &["cd-soon"],
        ),
        (ListCredentialsRequest { unused_since: at(0), ..all() }, &everything),
        (
            ListCredentialsRequest { name_prefix: "ci-".to_owned(), ..all() },
            &["ci-late", "ci-never"],
        ),
        (ListCredentialsRequest { name_prefix: "c%".to_owned(), ..all() }, &[]),
        (ListCredentialsRequest { kind: CredentialKind::Pat.into(), ..all() }, &["laptop"]),
        (ListCredentialsRequest { state: CredentialState::Disabled.into(), ..all() }, &[]),
        (
            ListCredentialsRequest {
                state: CredentialState::Active.into(),
                user: "ada".to_owned(),
                ..all()
            },
            &["laptop"],
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(names(&root, request.clone()).await, expected, "{request:?}");
    }
}

async fn each_order_holds_across_pages(h: Harness) {
    let root = filled(&h).await;
    let cases: [(CredentialOrder, &[&str]); 5] = [
        (CredentialOrder::Unspecified, &["ci-late", "ci-never", "cd-soon", "laptop"]),
        (CredentialOrder::CreateTime, &["ci-late", "ci-never", "cd-soon", "laptop"]),
        (CredentialOrder::CreateTimeDesc, &["laptop", "cd-soon", "ci-never", "ci-late"]),
        (CredentialOrder::LastUseTime, &["ci-late", "ci-never", "cd-soon", "laptop"]),
        (CredentialOrder::ExpireTime, &["cd-soon", "ci-late"]),
    ];
    for (order, expected) in cases {
        let mut request =
            ListCredentialsRequest { order: order.into(), page_size: 1, ..Default::default() };
        let mut found = Vec::new();
        within("the last page of credentials", async {
            loop {
                let page = list(&root, request.clone()).await.expect("a page");
                found.extend(page.credentials.into_iter().map(|one| one.name));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
        })
        .await;
        assert_eq!(found, expected, "{order:?}");
    }
}

async fn a_page_fits_only_its_filter_and_order(h: Harness) {
    let root = filled(&h).await;
    let first = ListCredentialsRequest { page_size: 1, ..all() };
    let page_token = list(&root, first.clone()).await.expect("a page").next_page_token;
    let next = ListCredentialsRequest { page_token, ..first };
    list(&root, next.clone()).await.expect("its own");
    let others = [
        ListCredentialsRequest { order: CredentialOrder::CreateTimeDesc.into(), ..next.clone() },
        ListCredentialsRequest { name_prefix: "ci".to_owned(), ..next.clone() },
        ListCredentialsRequest { scope: Scope::Read.into(), ..next.clone() },
        ListCredentialsRequest { creator: "caller:root".to_owned(), ..next.clone() },
        ListCredentialsRequest { expiring_within: Some(Duration::default()), ..next.clone() },
        ListCredentialsRequest { unused_since: Some(Timestamp::default()), ..next },
    ];
    for other in others {
        assert_eq!(fields(list(&root, other.clone()).await), ["page_token"], "{other:?}");
    }
}

async fn a_page_of_expiring_credentials_stays_valid_as_time_passes(h: Harness) {
    let root = filled(&h).await;
    let first = ListCredentialsRequest {
        expiring_within: Some(Duration { seconds: 10_000, nanos: 0 }),
        order: CredentialOrder::ExpireTime.into(),
        page_size: 1,
        ..all()
    };
    let page = list(&root, first.clone()).await.expect("a page");
    let next = ListCredentialsRequest { page_token: page.next_page_token, ..first };
    assert_eq!(names(&root, next).await, ["ci-late"]);
}

async fn impossible_names_are_refused(h: Harness) {
    let root = h.root().await;
    let cases = [
        (ListCredentialsRequest { name_prefix: "a\0".to_owned(), ..all() }, "name_prefix"),
        (ListCredentialsRequest { creator: "a\nb".to_owned(), ..all() }, "creator"),
        (ListCredentialsRequest { family_id: "1".to_owned(), ..all() }, "family_id"),
        (ListCredentialsRequest { order: 9, ..all() }, "order"),
        (ListCredentialsRequest { scope: 9, ..all() }, "scope"),
        (
            ListCredentialsRequest {
                expiring_within: Some(Duration { seconds: -1, nanos: 0 }),
                ..all()
            },
            "expiring_within",
        ),
        (
            ListCredentialsRequest {
                unused_since: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..all()
            },
            "unused_since",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(fields(list(&root, request.clone()).await), [field], "{request:?}");
    }
}
