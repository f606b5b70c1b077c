//! Kinds, states and etags of credentials, digests, and audit targets.

use super::super::*;
use super::{micros, samples};

const NOW: i64 = 1_800_000_000_000_000;

fn pat() -> Credential {
    let id = CredentialId::new(micros(NOW - 9), [7; 10]);
    let user = UserId::parse("usr_ada").expect("a good id");
    let owner = Owner::User { id: user, max_role: Role::Owner };
    Credential { id, family_id: id, create_time: micros(NOW - 9), ..samples::credential(owner) }
}

#[test]
fn the_kind_determines_the_kind_of_owner() {
    let key = CredentialKind::Key.owner_kind();
    assert_eq!((key, pat().kind.owner_kind()), (OwnerKind::Workspace, OwnerKind::User));
    assert_eq!((CredentialKind::Key.number(), CredentialKind::Pat.number()), (1, 2));
    assert_eq!(CredentialKind::Key.to_string(), "key");
    assert_eq!(CredentialKind::Pat.to_string(), "pat");
}

#[test]
fn every_kind_is_listed_and_read_back_from_its_number() {
    // A new kind does not compile until it is listed here.
    let place = |kind| match kind {
        CredentialKind::Key => 0,
        CredentialKind::Pat => 1,
    };
    for (at, kind) in CredentialKind::ALL.into_iter().enumerate() {
        assert_eq!(place(kind), at);
        assert_eq!(CredentialKind::from_number(kind.number().into()), Some(kind));
    }
    assert_eq!([0, 3, 257].map(CredentialKind::from_number), [None; 3]);
}

#[test]
fn a_credential_is_revoked_before_expired_before_disabled() {
    let now = micros(NOW);
    let mut credential = pat();
    assert_eq!(credential.state(now), CredentialState::Active);
    credential.disable_time = Some(micros(NOW - 1));
    assert_eq!(credential.state(now), CredentialState::Disabled);
    credential.expire_time = Some(micros(NOW - 1));
    assert_eq!(credential.state(now), CredentialState::Expired);
    credential.revoke_time = Some(micros(NOW - 1));
    assert_eq!(credential.state(now), CredentialState::Revoked);
}

#[test]
fn a_credential_is_expired_from_the_instant_of_its_expiry() {
    let credential = Credential { expire_time: Some(micros(NOW)), ..pat() };
    assert_eq!(credential.state(micros(NOW - 1)), CredentialState::Active);
    assert_eq!(credential.state(micros(NOW)), CredentialState::Expired);
}

#[test]
fn the_etag_changes_with_each_change_but_that_of_the_last_use() {
    let etags: Vec<String> =
        [1, 2, 10, 16, i64::MAX].map(|version| Credential { version, ..pat() }.etag()).to_vec();
    let mut different = etags.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), etags.len());
    let used = LastUse { time: micros(NOW), ip: None };
    assert_eq!(Credential { last_use: Some(used), ..pat() }.etag(), pat().etag());
}

#[test]
fn an_etag_is_quoted_as_rfc_9110_requires() {
    let etag = Credential { version: 255, ..pat() }.etag();
    let inside = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    assert!(
        inside.is_some_and(|tag| tag.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        "{etag}"
    );
}

#[test]
fn a_digest_is_sha_256() {
    // FIPS 180-4, appendix B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let bytes = hex::decode(abc).expect("hexadecimal");
    let digest = Digest::of("abc");
    assert_eq!(digest.as_bytes().as_slice(), bytes);
    assert_eq!(Digest::from_bytes(&bytes), Some(digest));
    assert!(digest.equals(&Digest::of("abc")));
    assert!(!digest.equals(&Digest::of("abd")));
}

#[test]
fn a_digest_has_32_bytes() {
    for length in [0, 31, 33, 64] {
        assert_eq!(Digest::from_bytes(&vec![0; length]), None, "{length} bytes");
    }
}

#[test]
fn debug_shows_only_the_start_of_a_digest() {
    assert_eq!(format!("{:?}", Digest::of("abc")), "Digest(ba78…)");
}

#[test]
fn an_audit_target_has_a_kind_and_an_id() {
    let workspace = WorkspaceId::parse("ws_1").expect("a good id");
    let user = UserId::parse("usr_ada").expect("a good id");
    let id = "0195f2d4-7c1e-7b3a-9d58-0242ac120002";
    let credential = CredentialId::parse(id).expect("a UUID");
    let caller = CallerId::parse(id).expect("a UUID");
    for (target, kind, id) in [
        (AuditTarget::Credential(credential), "credential", id),
        (AuditTarget::Workspace(workspace.clone()), "workspace", "ws_1"),
        (AuditTarget::User(user.clone()), "user", "usr_ada"),
        (AuditTarget::Membership(workspace, user), "membership", "ws_1/usr_ada"),
        (AuditTarget::Caller(caller), "caller", id),
    ] {
        assert_eq!(target.kind_and_id(), (kind, id.to_owned()));
    }
}
