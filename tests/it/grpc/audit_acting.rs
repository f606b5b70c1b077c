//! Reading the audit log on behalf of a user: an owner reads their workspace, a user their own credentials, and nobody
//! anything else.

use std::collections::BTreeSet;

use sophic_auth::grpc::pb::{self, AuditEvent, AuditOrder, ListAuditEventsRequest, Role, Scope};
use sophic_auth::model::Permission;
use tonic::{Code, Status};

use super::audit::events;
use super::refusal::refused;
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    an_owner_reads_what_is_about_their_workspace,
    every_role_and_stranger_reads_what_the_table_says,
    a_user_reads_what_is_about_their_own_pats,
    refused_attempts_and_addresses_of_others_are_not_shown,
    the_caller_needs_a_permission_and_an_acting_user,
    the_log_of_a_deleted_workspace_is_not_that_of_its_next_owner,
}

struct Scene {
    root: Actor,
    dashboard: Actor,
    /// Key of acme, made by its owner.
    key: String,
    /// Key of other.
    others_key: String,
    /// Personal access tokens of olga and of adam.
    pats: [String; 2],
}

/// acme with olga (owner), adam (admin), mia (member) and vera (viewer); other with olaf (owner); and nora, nowhere.
async fn scene(h: &Harness) -> Scene {
    let (root, dashboard) = (h.root().await, h.dashboard().await);
    root.put_workspace("acme").await;
    root.put_workspace("other").await;
    for user in ["olga", "adam", "mia", "vera", "olaf", "nora"] {
        root.put_user(user).await;
    }
    for (user, role) in [
        ("olga", Role::Owner),
        ("adam", Role::Admin),
        ("mia", Role::Member),
        ("vera", Role::Viewer),
    ] {
        root.put_membership("acme", user, role).await;
    }
    root.put_membership("other", "olaf", Role::Owner).await;
    let request = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: "olga".to_owned(),
        ..Default::default()
    };
    let key = dashboard.auth().create_key(request).await.expect("a key").into_inner();
    let id = |credential: Option<pb::Credential>| credential.expect("a credential").id;
    let others_key = id(root.create_key("other", &[Scope::Read]).await.credential);
    let mut pats = Vec::new();
    for user in ["olga", "adam"] {
        let pat = root.create_pat(user, &[Scope::Read], Role::Owner).await;
        pats.push(id(pat.credential));
    }
    let pats = pats.try_into().expect("two");
    Scene { root, dashboard, key: id(key.credential), others_key, pats }
}

fn on_behalf(user: &str, workspace: &str) -> ListAuditEventsRequest {
    ListAuditEventsRequest {
        acting_user: user.to_owned(),
        workspace: workspace.to_owned(),
        ..Default::default()
    }
}

async fn ask(reader: &Actor, request: ListAuditEventsRequest) -> Result<Vec<AuditEvent>, Status> {
    Ok(reader.admin().list_audit_events(request).await?.into_inner().events)
}

fn seen(events: &[AuditEvent]) -> BTreeSet<(&str, &str)> {
    events.iter().map(|event| (&*event.action, &*event.target_id)).collect()
}

async fn an_owner_reads_what_is_about_their_workspace(h: Harness) {
    let s = scene(&h).await;
    let expected: BTreeSet<_> = [
        ("workspace.put", "id-of-acme"),
        ("membership.put", "id-of-acme/olga"),
        ("membership.put", "id-of-acme/adam"),
        ("membership.put", "id-of-acme/mia"),
        ("membership.put", "id-of-acme/vera"),
        ("key.create", &*s.key),
    ]
    .into();
    for workspace in ["acme", "id-of-acme"] {
        for order in [AuditOrder::Unspecified, AuditOrder::NewestFirst, AuditOrder::Commit] {
            let order = order.into();
            let request = ListAuditEventsRequest { order, ..on_behalf("olga", workspace) };
            let found = events(&s.dashboard, request).await;
            assert_eq!((seen(&found), found.len()), (expected.clone(), 6), "{order}");
        }
    }
    // The same filter without an acting user, for those who may.
    let filter = ListAuditEventsRequest { workspace: "acme".to_owned(), ..Default::default() };
    assert_eq!(seen(&events(&s.root, filter).await), expected);
    // Filters restrict it further, and widen nothing.
    let targets = [&*s.key, &*s.others_key, &*s.pats[0]];
    let mut lengths = Vec::new();
    for target in targets {
        let target_id = target.to_owned();
        let request = ListAuditEventsRequest { target_id, ..on_behalf("olga", "acme") };
        lengths.push(ask(&s.dashboard, request).await.expect("a page").len());
    }
    assert_eq!(lengths, [1, 0, 0]);
}

async fn every_role_and_stranger_reads_what_the_table_says(h: Harness) {
    let s = scene(&h).await;
    let too_low = || (Code::PermissionDenied, "ROLE_TOO_LOW".to_owned());
    let hidden = || (Code::NotFound, "WORKSPACE_NOT_FOUND".to_owned());
    let table = [
        ("olga", "acme", None),
        ("adam", "acme", Some(too_low())),
        ("mia", "acme", Some(too_low())),
        ("vera", "acme", Some(too_low())),
        ("olaf", "acme", Some(hidden())),
        ("nora", "acme", Some(hidden())),
        ("olga", "other", Some(hidden())),
        ("adam", "other", Some(hidden())),
        ("olaf", "other", None),
        ("olga", "nowhere", Some(hidden())),
    ];
    for (user, workspace, expected) in table {
        for order in [AuditOrder::Unspecified, AuditOrder::Commit] {
            let order = order.into();
            let request = ListAuditEventsRequest { order, ..on_behalf(user, workspace) };
            let outcome = ask(&s.dashboard, request).await;
            match &expected {
                None => assert!(!outcome.expect("a page").is_empty(), "{user} {workspace}"),
                Some(expected) => assert_eq!(&refused(outcome), expected, "{user} {workspace}"),
            }
        }
    }
    let inactive = (Code::PermissionDenied, "ACTING_USER_NOT_ACTIVE".to_owned());
    s.root.delete_user("nora").await;
    for user in ["ghost", "nora"] {
        for workspace in ["", "acme"] {
            assert_eq!(refused(ask(&s.dashboard, on_behalf(user, workspace)).await), inactive);
        }
    }
    // An owner who is no longer one.
    s.root.put_membership("acme", "olga", Role::Admin).await;
    assert_eq!(refused(ask(&s.dashboard, on_behalf("olga", "acme")).await), too_low());
}

async fn a_user_reads_what_is_about_their_own_pats(h: Harness) {
    let s = scene(&h).await;
    let revoke = pb::RevokeRequest {
        credential: Some(pb::revoke_request::Credential::CredentialId(s.pats[1].clone())),
        acting_user: "adam".to_owned(),
        ..Default::default()
    };
    s.dashboard.auth().revoke(revoke).await.expect("it is his");
    let olga = events(&s.dashboard, on_behalf("olga", "")).await;
    assert_eq!(seen(&olga), [("pat.create", &*s.pats[0])].into());
    let adam = events(&s.dashboard, on_behalf("adam", "")).await;
    let expected = [("pat.create", &*s.pats[1]), ("credential.revoke", &*s.pats[1])];
    assert_eq!(seen(&adam), expected.into());
    for user in ["mia", "olaf"] {
        assert_eq!(events(&s.dashboard, on_behalf(user, "")).await, []);
    }
    let kind = |target_kind: &str| ListAuditEventsRequest {
        target_kind: target_kind.to_owned(),
        ..on_behalf("olga", "")
    };
    assert_eq!(events(&s.dashboard, kind("credential")).await, olga);
    for other in ["user", "caller", "audit", "membership"] {
        assert_eq!(events(&s.dashboard, kind(other)).await, [], "{other}");
    }
    let target_id = s.pats[1].clone();
    let others = ListAuditEventsRequest { target_id, ..on_behalf("olga", "") };
    assert_eq!(events(&s.dashboard, others).await, []);
}

async fn refused_attempts_and_addresses_of_others_are_not_shown(h: Harness) {
    let s = scene(&h).await;
    let attempt = async |user: &str, id: &str| {
        let revoke = pb::RevokeRequest {
            credential: Some(pb::revoke_request::Credential::CredentialId(id.to_owned())),
            acting_user: user.to_owned(),
            ..Default::default()
        };
        s.dashboard.auth().revoke(revoke).await.expect_err("it is not theirs");
    };
    attempt("adam", &s.pats[0]).await;
    attempt("olaf", &s.key).await;
    let create = pb::CreateKeyRequest {
        workspace: "acme".to_owned(),
        name: "ci".to_owned(),
        scopes: vec![Scope::Read.into()],
        acting_user: "mia".to_owned(),
        ..Default::default()
    };
    s.dashboard.auth().create_key(create).await.expect_err("she may not");
    let nobodys = pb::PutMembershipRequest {
        workspace: "acme".to_owned(),
        user: "ghost".to_owned(),
        role: Role::Owner.into(),
    };
    s.root.directory().put_membership(nobodys).await.expect_err("no such user");
    for user in ["olga", "adam", "olaf", "mia"] {
        for workspace in ["", "acme", "other"] {
            let Ok(found) = ask(&s.dashboard, on_behalf(user, workspace)).await else { continue };
            for event in found {
                assert_eq!(event.refusal, "", "{user} {workspace}: {event:?}");
                let own = event.acting_user == user;
                let shown = if own { "127.0.0.1" } else { "" };
                assert_eq!(event.remote_address, shown, "{user} {workspace}: {event:?}");
            }
        }
    }
    let own = events(&s.dashboard, on_behalf("olga", "acme")).await;
    assert!(own.iter().any(|event| event.remote_address == "127.0.0.1"), "her own call");
}

async fn the_caller_needs_a_permission_and_an_acting_user(h: Harness) {
    let s = scene(&h).await;
    let required = (Code::PermissionDenied, "ACTING_USER_REQUIRED".to_owned());
    let missing = (Code::PermissionDenied, "PERMISSION_MISSING".to_owned());
    for (permission, alone, acting) in [
        (Permission::AuditRead, None, None),
        (Permission::CredentialsRead, Some(&required), None),
        (Permission::CredentialsWrite, Some(&required), None),
        (Permission::CredentialsAdmin, Some(&required), None),
        (Permission::Introspect, Some(&missing), Some(&missing)),
        (Permission::DirectoryRead, Some(&missing), Some(&missing)),
        (Permission::DirectoryWrite, Some(&missing), Some(&missing)),
        (Permission::CallersAdmin, Some(&missing), Some(&missing)),
    ] {
        let caller = h.caller(permission.as_str(), &[permission]).await;
        // A filter is no acting user.
        let filter = ListAuditEventsRequest {
            filter_acting_user: "olga".to_owned(),
            workspace: "acme".to_owned(),
            ..Default::default()
        };
        for (request, expected) in
            [(filter, alone), (on_behalf("olga", "acme"), acting), (on_behalf("olga", ""), acting)]
        {
            let outcome = ask(&caller, request).await;
            match expected {
                None => drop(outcome.unwrap_or_else(|error| panic!("{permission}: {error}"))),
                Some(expected) => assert_eq!(&refused(outcome), expected, "{permission}"),
            }
        }
    }
    let action = "audit.list".to_owned();
    let filter = ListAuditEventsRequest { action, ..Default::default() };
    let logged = events(&s.root, filter).await;
    assert!(logged.iter().any(|event| event.acting_user == "olga"), "{logged:?}");
}

async fn the_log_of_a_deleted_workspace_is_not_that_of_its_next_owner(h: Harness) {
    let s = scene(&h).await;
    s.root.delete_workspace("acme").await;
    s.root.put_workspace("acme").await;
    s.root.put_membership("acme", "olaf", Role::Owner).await;
    let found = events(&s.dashboard, on_behalf("olaf", "acme")).await;
    let expected = [("workspace.put", "id-of-acme"), ("membership.put", "id-of-acme/olaf")];
    assert_eq!((seen(&found), found.len()), (expected.into(), 2));
    assert_eq!(refused(ask(&s.dashboard, on_behalf("olga", "acme")).await).0, Code::NotFound);
    // A token that is older than the workspace is a guest there, and its bar is an event of the present owners.
    s.root.put_membership("acme", "mia", Role::Member).await;
    let pat = s.root.create_pat("mia", &[Scope::Read], Role::Owner).await;
    let id = pat.credential.expect("it is given").id;
    s.root.delete_workspace("acme").await;
    s.root.put_workspace("acme").await;
    s.root.put_membership("acme", "olaf", Role::Owner).await;
    s.root.put_membership("acme", "mia", Role::Member).await;
    assert!(s.root.introspect(&pat.token, "acme", &[Scope::Read]).await.allowed);
    h.running.service.flush_last_uses().await;
    let bar = pb::BarPatRequest {
        workspace: "acme".to_owned(),
        credential_id: id.clone(),
        ..Default::default()
    };
    s.root.auth().bar_pat(bar).await.expect("it is barred");
    let found = events(&s.dashboard, on_behalf("olaf", "acme")).await;
    assert!(seen(&found).contains(&("pat.bar", id.as_str())), "{found:?}");
    // A user who is created again, too.
    s.root.delete_user("olga").await;
    s.root.put_user("olga").await;
    assert_eq!(events(&s.dashboard, on_behalf("olga", "")).await, []);
}
