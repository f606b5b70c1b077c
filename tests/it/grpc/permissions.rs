//! The table of permissions: each RPC is called by a caller with all permissions except those that it needs, and by
//! callers with a single permission, for each kind of message that permissions depend on.

use prost::Message;
use sophic_auth::grpc::DESCRIPTORS;
use sophic_auth::grpc::pb::{self, Role, Scope, revoke_request};
use sophic_auth::model::Permission;
use sophic_auth::service::Rpc;
use sophic_auth::service::grant::{Case, Rule};
use tonic::Code;

use super::refusal::{reason, refused};
use super::wire::{self, Frames};
use crate::harness::{Actor, Harness};
use crate::stores::on_every_store;

on_every_store! {
    every_rpc_is_refused_without_its_permission,
    a_caller_with_one_permission_may_do_exactly_what_the_table_says,
    the_introspect_permission_alone_revokes_nothing_by_id,
}

pub(super) fn paths() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors").file;
    let methods = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let names = service.method.iter();
            names.map(move |method| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            })
        })
    });
    methods.collect()
}

/// The rule of the RPC at this path.
pub(super) fn rule(path: &str) -> Rule {
    Rpc::from_path(path).expect("every RPC of the proto has a row").row().rule
}

async fn every_rpc_is_refused_without_its_permission(h: Harness) {
    let mut callers = Vec::new();
    let nobody = h.anonymous();
    for path in paths() {
        let needed = rule(&path).any_of();
        assert!(!needed.is_empty(), "{path} has no rule");
        let others: Vec<_> =
            Permission::ALL.into_iter().filter(|one| !needed.contains(*one)).collect();
        let name = format!("lacks-{}", callers.len());
        let lacking = h.caller(&name, &others).await;
        callers.push(name);
        // Bytes that are not a message. They are not decoded.
        let rejected = |token| Frames::of(&[b"\xff\xff\xff"]).with_authorization(token);
        let status = wire::status(&h, &path, rejected(lacking.authorization())).await;
        assert_eq!(
            refused::<()>(Err(status)),
            (Code::PermissionDenied, "PERMISSION_MISSING".to_owned()),
            "{path}"
        );
        let status = wire::status(&h, &path, rejected(nobody.authorization())).await;
        assert_eq!(
            refused::<()>(Err(status)),
            (Code::Unauthenticated, "CALLER_MISSING".to_owned()),
            "{path}"
        );
    }
    assert!(callers.len() >= 18, "{callers:?}");
}

/// Returns the id of a personal access token that has acted in acme.
async fn used_pat(h: &Harness, root: &Actor) -> String {
    let made = root.create_pat("olga", &[Scope::Read], Role::Owner).await;
    assert!(root.introspect(&made.token, "acme", &[Scope::Read]).await.allowed);
    h.running.service.flush_last_uses().await;
    made.credential.expect("it is given").id
}

/// A valid message for this case, about fixtures made for it, with or without an acting user.
async fn message(h: &Harness, root: &Actor, rpc: &str, names: &str, acting_user: &str) -> Vec<u8> {
    use revoke_request::Credential::{CredentialId, Token};
    let acting_user = acting_user.to_owned();
    let made = root.create_key("acme", &[Scope::Read]).await;
    let (id, token) = (made.credential.expect("it is given").id, made.token);
    let (name, scopes) = ("ci".to_owned(), vec![Scope::Read.into()]);
    match (rpc, names) {
        ("CreateKey", "") => {
            let workspace = "acme".to_owned();
            pb::CreateKeyRequest { workspace, name, scopes, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("CreatePat", "") => {
            let user = "olga".to_owned();
            pb::CreatePatRequest { user, name, scopes, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("UpdateCredential", "") => {
            let credential = Some(pb::Credential { id, name, ..Default::default() });
            let update_mask = Some(prost_types::FieldMask { paths: vec!["name".to_owned()] });
            pb::UpdateCredentialRequest { credential, update_mask, acting_user }.encode_to_vec()
        }
        ("Rotate", "") => {
            pb::RotateRequest { credential_id: id, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("Disable", "") => {
            pb::DisableRequest { credential_id: id, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("Enable", "") => {
            pb::EnableRequest { credential_id: id, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("GetCredential", "") => {
            pb::GetCredentialRequest { credential_id: id, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("Explain", "") => {
            let credential = Some(pb::explain_request::Credential::CredentialId(id));
            pb::ExplainRequest { credential, acting_user, ..Default::default() }.encode_to_vec()
        }
        ("BulkRevoke", "") => {
            let workspace = "acme".to_owned();
            pb::BulkRevokeRequest { workspace, acting_user, ..Default::default() }.encode_to_vec()
        }
        ("ListWorkspacePats", "") => {
            let workspace = "acme".to_owned();
            pb::ListWorkspacePatsRequest { workspace, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("BarPat", "") => {
            let (workspace, credential_id) = ("acme".to_owned(), used_pat(h, root).await);
            pb::BarPatRequest { workspace, credential_id, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("UnbarPat", "") => {
            let (workspace, credential_id) = ("acme".to_owned(), used_pat(h, root).await);
            pb::UnbarPatRequest { workspace, credential_id, acting_user, ..Default::default() }
                .encode_to_vec()
        }
        ("ListCredentials", "") => {
            pb::ListCredentialsRequest { acting_user, ..Default::default() }.encode_to_vec()
        }
        ("ListAuditEvents", "") => {
            pb::ListAuditEventsRequest { acting_user, ..Default::default() }.encode_to_vec()
        }
        ("Revoke", "token" | "credential_id") => {
            let credential = if names == "token" { Token(token) } else { CredentialId(id) };
            let credential = Some(credential);
            pb::RevokeRequest { credential, acting_user, ..Default::default() }.encode_to_vec()
        }
        _ => panic!("{rpc} with {names:?} has no message here"),
    }
}

/// Callers with one permission each, acme, and its owner.
async fn callers_of_one(h: &Harness) -> (Actor, Vec<(Permission, Actor)>) {
    let root = h.root().await;
    root.put_workspace("acme").await;
    root.put_user("olga").await;
    root.put_membership("acme", "olga", Role::Owner).await;
    let mut callers = Vec::new();
    for permission in Permission::ALL {
        callers.push((permission, h.caller(permission.as_str(), &[permission]).await));
    }
    (root, callers)
}

async fn a_caller_with_one_permission_may_do_exactly_what_the_table_says(h: Harness) {
    let (root, callers) = callers_of_one(&h).await;
    let store = h.database.open().await;
    let ask = async |caller: &Actor, path: &str, message: &[u8]| {
        let frames = Frames::of(&[message]).with_authorization(caller.authorization());
        let status = wire::status(&h, path, frames).await;
        if status.code() == Code::Ok { "OK".to_owned() } else { reason(&status) }
    };
    let mut asked = 0;
    for path in paths() {
        let rpc = path.rsplit('/').next().expect("a name");
        let any_of = rule(&path).any_of();
        for (permission, caller) in &callers {
            if !matches!(rule(&path), Rule::ByMessage(_)) || !any_of.contains(*permission) {
                // Bytes that are not a message. A caller with the permission gets that error.
                let expected =
                    if any_of.contains(*permission) { "MALFORMED" } else { "PERMISSION_MISSING" };
                let answer = ask(caller, &path, b"\xff\xff\xff").await;
                assert!(answer.ends_with(expected), "{rpc}, {permission}: {answer}");
                continue;
            }
            let Rule::ByMessage(cases) = rule(&path) else { unreachable!("as above") };
            for Case { names, grant } in cases {
                for (acting_user, may) in
                    [("", grant.without_acting_user), ("olga", grant.with_acting_user)]
                {
                    let message = message(&h, &root, rpc, names, acting_user).await;
                    let before = store.revision().await.expect("a revision");
                    let answer = ask(caller, &path, &message).await;
                    let after = store.revision().await.expect("a revision");
                    let said = format!("{rpc} of {names} for {acting_user:?}, {permission}");
                    asked += 1;
                    if may.contains(permission) {
                        assert_eq!(answer, "OK", "{said}");
                    } else if grant.with_acting_user.contains(permission) {
                        assert_eq!((&*answer, after), ("ACTING_USER_REQUIRED", before), "{said}");
                    } else {
                        assert_eq!((&*answer, after), ("PERMISSION_MISSING", before), "{said}");
                    }
                }
            }
        }
    }
    assert!(asked >= 40, "{asked}");
}

async fn the_introspect_permission_alone_revokes_nothing_by_id(h: Harness) {
    let (root, _) = callers_of_one(&h).await;
    let gateway = h.gateway().await;
    let made = root.create_key("acme", &[Scope::Read]).await;
    let id = made.credential.expect("it is given").id;
    for acting_user in ["", "olga", "ghost"] {
        let credential = Some(revoke_request::Credential::CredentialId(id.clone()));
        let acting_user = acting_user.to_owned();
        let revoke = pb::RevokeRequest { credential, acting_user, ..Default::default() };
        let missing = (Code::PermissionDenied, "PERMISSION_MISSING".to_owned());
        assert_eq!(refused(gateway.auth().revoke(revoke).await), missing);
    }
    assert!(root.introspect(&made.token, "acme", &[Scope::Read]).await.allowed);
}
