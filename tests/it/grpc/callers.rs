//! Callers with service tokens. `tls.rs` has those with certificates.

use sophic_auth::grpc::pb::{
    Caller, CreateCallerRequest, CreateCallerResponse, IntrospectRequest, ListCallersRequest,
    RevokeCallerRequest,
};
use sophic_auth::model::Permission;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::refusal::{reason, refused};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;
use crate::waits::within;

on_every_store! {
    a_new_caller_gets_its_token_once_and_may_call,
    a_revoked_caller_may_no_longer_call,
    a_caller_grants_no_permission_that_it_does_not_hold,
    names_and_certificates_of_active_callers_are_unique,
    callers_are_listed_oldest_first_page_by_page,
    a_caller_that_is_not_there_is_not_found,
}

async fn create(
    admin: &Actor,
    name: &str,
    permissions: &[&str],
    certificate_san: &str,
) -> Result<CreateCallerResponse, Status> {
    let request = CreateCallerRequest {
        name: name.to_owned(),
        permissions: permissions.iter().map(|&permission| permission.to_owned()).collect(),
        certificate_san: certificate_san.to_owned(),
        ..Default::default()
    };
    admin.admin().create_caller(request).await.map(tonic::Response::into_inner)
}

async fn revoke(admin: &Actor, caller: &str) -> Result<Caller, Status> {
    let request = RevokeCallerRequest { caller: caller.to_owned() };
    let response = admin.admin().revoke_caller(request).await?;
    Ok(response.into_inner().caller.expect("it is given"))
}

async fn calls(h: &Harness, token: &str) -> Result<(), Status> {
    h.with_token(token).auth().introspect(IntrospectRequest::default()).await.map(drop)
}

async fn a_new_caller_gets_its_token_once_and_may_call(h: Harness) {
    let root = h.root().await;
    let made = create(&root, "gateway", &["introspect", "audit.read", "introspect"], "").await;
    let made = made.expect("it is made");
    let caller = made.caller.expect("it is given");
    assert_eq!(caller.permissions, ["introspect", "audit.read"]);
    assert!(made.token.starts_with("sophic_svc_"));
    assert!(caller.hint.ends_with(&made.token[39..43]), "{}", caller.hint);
    assert_eq!((caller.certificate_san.as_str(), caller.revoke_time), ("", None));
    calls(&h, &made.token).await.expect("it may call");
    let known = create(&root, "mesh", &["introspect"], "spiffe://sophic/mesh").await;
    let known = known.expect("it is made");
    assert_eq!(known.token, "");
    let caller = known.caller.expect("it is given");
    assert_eq!(
        (caller.hint.as_str(), caller.certificate_san.as_str()),
        ("", "spiffe://sophic/mesh")
    );
}

async fn a_revoked_caller_may_no_longer_call(h: Harness) {
    let root = h.root().await;
    let made = create(&root, "gateway", &["introspect"], "").await.expect("it is made");
    let id = made.caller.expect("it is given").id;
    calls(&h, &made.token).await.expect("it may call");
    let ended = revoke(&root, "gateway").await.expect("by name");
    assert_eq!(ended.id, id);
    let unknown = (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned());
    assert_eq!(refused(calls(&h, &made.token).await), unknown);
    // By id the call can be repeated.
    let again = revoke(&root, &id).await.expect("by id");
    assert_eq!(again.revoke_time, ended.revoke_time);
    // A new caller of the same name is another caller.
    let second = create(&root, "gateway", &["introspect"], "").await.expect("the name is free");
    calls(&h, &second.token).await.expect("it may call");
    assert_eq!(refused(calls(&h, &made.token).await), unknown);
}

async fn a_caller_grants_no_permission_that_it_does_not_hold(h: Harness) {
    let admin = h.caller("admin", &[Permission::CallersAdmin, Permission::Introspect]).await;
    create(&admin, "a", &["introspect", "callers.admin"], "").await.expect("both are its own");
    let status = create(&admin, "b", &["introspect", "audit.read", "credentials.admin"], "").await;
    let status = status.expect_err("it holds neither");
    assert_eq!((status.code(), &*reason(&status)), (Code::PermissionDenied, "PERMISSION_NOT_HELD"));
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(info.metadata["permission"], "credentials.admin, audit.read");
    assert_eq!(refused(revoke(&admin, "b").await).0, Code::NotFound);
}

async fn names_and_certificates_of_active_callers_are_unique(h: Harness) {
    let root = h.root().await;
    create(&root, "a", &["introspect"], "").await.expect("it is made");
    create(&root, "b", &["introspect"], "san.internal").await.expect("it is made");
    let taken = refused(create(&root, "a", &["introspect"], "").await);
    assert_eq!(taken, (Code::AlreadyExists, "CALLER_NAME_TAKEN".to_owned()));
    let taken = refused(create(&root, "c", &["introspect"], "san.internal").await);
    assert_eq!(taken, (Code::AlreadyExists, "CERTIFICATE_TAKEN".to_owned()));
    revoke(&root, "b").await.expect("it is revoked");
    create(&root, "b", &["introspect"], "san.internal").await.expect("both are free");
}

async fn callers_are_listed_oldest_first_page_by_page(h: Harness) {
    let root = h.root().await;
    for number in 0..5 {
        create(&root, &format!("c{number}"), &["introspect"], "").await.expect("it is made");
    }
    revoke(&root, "c2").await.expect("it is revoked");
    let mut names = Vec::new();
    let mut page_token = String::new();
    within("the last page of callers", async {
        loop {
            let request = ListCallersRequest { page_size: 2, page_token };
            let page = root.admin().list_callers(request).await.expect("a page").into_inner();
            assert!(page.callers.len() <= 2);
            for caller in page.callers {
                assert_eq!(caller.revoke_time.is_some(), caller.name == "c2");
                names.push(caller.name);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    })
    .await;
    names.sort();
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "root"]);
}

async fn a_caller_that_is_not_there_is_not_found(h: Harness) {
    let root = h.root().await;
    let absent = (Code::NotFound, "CALLER_NOT_FOUND".to_owned());
    for name in ["nobody", "", "0195f2d4-7c1e-7b3a-9d58-0242ac120002", "No Name"] {
        assert_eq!(refused(revoke(&root, name).await), absent, "{name}");
    }
}
