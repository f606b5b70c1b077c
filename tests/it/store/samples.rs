//! Sample data. Each field has a value that a careless store would lose.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use sophic_auth::model::{
    Annotations, AuditEvent, Caller, CallerId, CallerIdentity, CallerName, CertificateSan,
    Credential, CredentialId, CredentialKind, Digest, DisplayName, EventId, IpAllowlist,
    Membership, Owner, Permission, Revision, Role, Scope, Slug, Timestamp, User, UserId, Workspace,
    WorkspaceId,
};
use sophic_auth::store::{Store, WriteTx};

/// Returns a time this many seconds, and some microseconds, after the beginning of 2026.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_767_225_600_000_000 + seconds * 1_000_000 + 123_457)
        .expect("a time of this century")
}

pub(super) fn name(text: &str) -> DisplayName {
    DisplayName::parse(text).expect("a name")
}

pub(super) fn workspace_id(text: &str) -> WorkspaceId {
    WorkspaceId::parse(text).expect("an id")
}

pub(super) fn user_id(text: &str) -> UserId {
    UserId::parse(text).expect("an id")
}

pub(super) fn slug(text: &str) -> Slug {
    Slug::parse(text).expect("a slug")
}

/// Returns the digest of a token that belongs to this number only.
pub(super) fn digest(number: u32) -> Digest {
    Digest::of(&format!("token {number}"))
}

/// Returns a workspace whose id is `id-of-<slug>`.
pub(super) fn workspace(text: &str) -> Workspace {
    Workspace {
        id: workspace_id(&format!("id-of-{text}")),
        slug: slug(text),
        display_name: name("Größe & Söhne 🧿"),
        disabled: false,
        pat_policy: sophic_auth::model::PatPolicy::default(),
        generation: 0,
        generation_time: None,
        create_time: at(1),
        update_time: at(2),
        delete_time: None,
    }
}

pub(super) fn user(id: &str) -> User {
    User {
        id: user_id(id),
        display_name: name("Ada 'Countess' Lovelace"),
        disabled: false,
        generation: 0,
        generation_time: None,
        create_time: at(3),
        update_time: at(4),
        delete_time: None,
    }
}

pub(super) fn membership(workspace: &Workspace, user: &User, role: Role) -> Membership {
    Membership {
        workspace_id: workspace.id.clone(),
        user_id: user.id.clone(),
        role,
        create_time: at(5),
        update_time: at(6),
    }
}

/// Returns the number-th key of this workspace. Higher numbers are created later.
pub(super) fn key(workspace: &Workspace, number: u32) -> Credential {
    let owner = Owner::Workspace(workspace.id.clone());
    credential(CredentialKind::Key, owner, workspace.generation, number)
}

/// Returns the number-th personal access token of this user.
pub(super) fn pat(user: &User, number: u32) -> Credential {
    let owner = Owner::User { id: user.id.clone(), max_role: Role::Admin };
    credential(CredentialKind::Pat, owner, user.generation, number)
}

fn credential(kind: CredentialKind, owner: Owner, generation: i64, number: u32) -> Credential {
    let annotations = [("team/core", "Größe \"1\"\n"), ("a.b", "")];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    let id = credential_id(number);
    Credential {
        id,
        kind,
        owner,
        generation,
        name: name("ci 🚀"),
        hint: "sophic_key_...abcd".to_owned(),
        scopes: [Scope::Read, Scope::Admin].into_iter().collect(),
        ip_allowlist: IpAllowlist::parse(["192.0.2.0/24", "2001:db8::/32"]).expect("CIDRs"),
        end_at_once: false,
        granted_workspaces: None,
        barred_workspaces: sophic_auth::model::WorkspaceSet::default(),
        annotations: Annotations::parse(BTreeMap::from(annotations)).expect("annotations"),
        create_time: at(i64::from(number)),
        expire_time: None,
        disable_time: None,
        revoke_time: None,
        last_use: None,
        creator: "user:ada".to_owned(),
        predecessor_id: None,
        family_id: id,
        version: 1,
    }
}

pub(super) fn credential_id(number: u32) -> CredentialId {
    CredentialId::new(at(i64::from(number)), [7; 10])
}

/// Returns a caller with a service token.
pub(super) fn caller(text: &str, number: u32) -> Caller {
    Caller {
        id: CallerId::new(at(i64::from(number)), [9; 10]),
        name: CallerName::parse(text).expect("a name"),
        permissions: [Permission::Introspect, Permission::CallersAdmin].into_iter().collect(),
        identity: CallerIdentity::Token(digest(number)),
        hint: "sophic_svc_...wxyz".to_owned(),
        create_time: at(i64::from(number)),
        revoke_time: None,
        previous: None,
        rotation: None,
        expire_time: None,
        last_use: None,
        creator: "operator:root".to_owned(),
        version: 1,
    }
}

/// Returns a caller that is identified by a certificate.
pub(super) fn caller_with_certificate(text: &str, number: u32, san: &str) -> Caller {
    let san = CertificateSan::parse(san).expect("a name in a certificate");
    Caller {
        identity: CallerIdentity::Certificate(san),
        hint: String::new(),
        ..caller(text, number)
    }
}

/// Returns an event later than all previous ones.
pub(super) fn event() -> AuditEvent {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    AuditEvent {
        id: EventId::new(at(0), random),
        time: at(7),
        action: "key.create".to_owned(),
        caller: "dashboard".to_owned(),
        acting_user: None,
        target_kind: "credential".to_owned(),
        target_id: "0195f2d4-7c1e-7b3a-9d58-0242ac120002".to_owned(),
        remote_address: None,
        before: None,
        after: None,
        reason: None,
        refusal: None,
    }
}

/// Runs `work` in a transaction, and commits it.
pub(super) async fn write(store: &dyn Store, work: impl AsyncFnOnce(&mut dyn WriteTx)) -> Revision {
    let mut tx = store.begin("test").await.expect("a transaction");
    work(&mut *tx).await;
    tx.commit(&event()).await.expect("it commits")
}

/// Creates a workspace and a user with this role in it.
pub(super) async fn acme_and_ada(store: &dyn Store, role: Role) -> (Workspace, User) {
    let (acme, ada) = (workspace("acme"), user("ada"));
    write(store, async |tx| {
        tx.put_workspace(&acme).await.expect("a workspace");
        tx.put_user(&ada).await.expect("a user");
        tx.put_membership(&membership(&acme, &ada, role)).await.expect("a membership");
    })
    .await;
    (acme, ada)
}
