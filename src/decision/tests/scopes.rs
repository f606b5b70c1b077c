//! Rows 9 to 11: the effective role and scopes, and which are missing.

use super::super::*;
use super::{ADMIN, CAPTURE, CAPTURE_ADMIN, Case, READ, READ_ADMIN, READ_CAPTURE, THREE};
use super::{acme, key, pat};

#[test]
fn row_9_a_key_never_captures_even_if_it_was_granted_that() {
    for required in [CAPTURE, READ_CAPTURE, THREE] {
        let decision = Case { required, ..Case::key() }.decide();
        assert_eq!(decision.denial, Some(Denial::UserCredentialRequired));
        assert_eq!(decision.scopes, READ_ADMIN);
        assert_eq!(decision.missing_scopes, CAPTURE);
        assert_eq!(decision.role, None);
    }
}

#[test]
fn row_9_comes_before_row_10() {
    let mut case = Case { required: CAPTURE_ADMIN, ..Case::key() };
    case.credential.scopes = READ;
    let decision = case.decide();
    assert_eq!(decision.denial, Some(Denial::UserCredentialRequired));
    assert_eq!(decision.missing_scopes, CAPTURE_ADMIN);
}

#[test]
fn row_9_does_not_apply_to_pats() {
    let mut case = Case { required: CAPTURE, ..Case::pat() };
    assert_eq!(case.denial(), None);
    case.credential.scopes = READ;
    assert_eq!(case.denial(), Some(Denial::InsufficientScope));
}

/// Returns the missing scopes, those that the token lacks and those that the role lacks, of row 10.
fn lacking(case: &Case) -> (ScopeSet, ScopeSet, ScopeSet) {
    let decision = case.decide();
    assert_eq!(decision.denial, Some(Denial::InsufficientScope));
    (decision.missing_scopes, decision.token_lacks, decision.role_lacks)
}

#[test]
fn row_10_says_what_is_missing_and_whether_the_token_or_the_role_lacks_it() {
    let none = ScopeSet::NONE;
    for (granted, membership, required, expected) in [
        (READ, Role::Owner, READ_ADMIN, (ADMIN, ADMIN, none)),
        (THREE, Role::Viewer, READ_CAPTURE, (CAPTURE, none, CAPTURE)),
        (READ, Role::Viewer, THREE, (CAPTURE_ADMIN, CAPTURE_ADMIN, CAPTURE_ADMIN)),
        (READ, Role::Member, THREE, (CAPTURE_ADMIN, CAPTURE_ADMIN, ADMIN)),
        (ADMIN, Role::Member, READ_ADMIN, (READ_ADMIN, READ, ADMIN)),
        (none, Role::Owner, READ, (READ, READ, none)),
    ] {
        let mut case = Case { membership: Some(membership), required, ..Case::pat() };
        case.credential.scopes = granted;
        assert_eq!(lacking(&case), expected, "{granted} as {membership}, wanting {required}");
    }
}

#[test]
fn row_10_the_downscope_limits_as_the_membership_does() {
    let mut case = Case { required: READ_ADMIN, ..Case::pat() };
    case.credential = pat(THREE, Role::Member);
    assert_eq!(lacking(&case), (ADMIN, ScopeSet::NONE, ADMIN));
}

/// A user who reads that the token lacks a scope creates another token, so the text says so only where that helps.
#[test]
fn row_10_names_the_role_before_the_downscope_and_that_before_the_grant() {
    for (granted, max_role, membership, expected) in [
        (THREE, Role::Owner, Role::Member, Lack::Role),
        (READ, Role::Owner, Role::Member, Lack::Role),
        (THREE, Role::Viewer, Role::Member, Lack::Role),
        (THREE, Role::Viewer, Role::Admin, Lack::MaxRole),
        (READ, Role::Member, Role::Admin, Lack::MaxRole),
        (READ, Role::Owner, Role::Admin, Lack::Token),
    ] {
        let mut case = Case { membership: Some(membership), required: READ_ADMIN, ..Case::pat() };
        case.credential = pat(granted, max_role);
        let decision = case.decide();
        assert_eq!(decision.lack, Some(expected), "{granted}, {max_role} as {membership}");
        assert_eq!(decision.explanation(), expected.explanation());
    }
    let case = Case { required: ADMIN, credential: key(READ), ..Case::key() };
    assert_eq!(case.decide().lack, Some(Lack::Token));
}

#[test]
fn row_10_a_key_has_no_role_that_could_lack_anything() {
    let mut case = Case { required: READ_ADMIN, ..Case::key() };
    case.credential.scopes = CAPTURE;
    assert_eq!(lacking(&case), (READ_ADMIN, READ_ADMIN, ScopeSet::NONE));
}

#[test]
fn row_10_no_scope_implies_another() {
    for (granted, required) in
        [(ADMIN, READ), (ADMIN, CAPTURE), (CAPTURE, READ), (CAPTURE, ADMIN), (READ, ADMIN)]
    {
        let mut case = Case { required, ..Case::pat() };
        case.credential.scopes = granted;
        assert_eq!(lacking(&case), (required, required, ScopeSet::NONE));
    }
}

#[test]
fn row_11_an_allowed_request_lacks_no_scope() {
    for mut case in Case::both() {
        for required in [ScopeSet::NONE, READ, ADMIN, READ_ADMIN] {
            case.required = required;
            let decision = case.decide();
            assert!(decision.is_allowed() && decision.is_active());
            assert_eq!(decision.http_status(), 200);
            assert_eq!(decision.missing_scopes, ScopeSet::NONE);
            assert_eq!((decision.token_lacks, decision.role_lacks), Default::default());
        }
    }
}

#[test]
fn row_11_without_required_scopes_only_the_identity_is_asked_for() {
    for mut case in Case::both() {
        case.required = ScopeSet::NONE;
        case.credential.scopes = ScopeSet::NONE;
        let decision = case.decide();
        assert!(decision.is_allowed());
        assert_eq!(decision.scopes, ScopeSet::NONE);
    }
}

#[test]
fn the_lower_of_membership_and_downscope_is_in_effect_and_is_named() {
    use Role::{Admin, Member, Owner, Viewer};
    for (membership, max_role, role, cap) in [
        (Viewer, Owner, Viewer, RoleCap::Membership),
        (Member, Admin, Member, RoleCap::Membership),
        (Owner, Admin, Admin, RoleCap::Token),
        (Admin, Viewer, Viewer, RoleCap::Token),
        // If both are equal, the token is not what bounds the role.
        (Viewer, Viewer, Viewer, RoleCap::Membership),
        (Owner, Owner, Owner, RoleCap::Membership),
    ] {
        let mut case = Case { membership: Some(membership), ..Case::pat() };
        case.credential = pat(ScopeSet::ALL, max_role);
        let decision = case.decide();
        assert_eq!(decision.role, Some((role, cap)), "{membership} under {max_role}");
        assert_eq!(decision.scopes, role.may_exercise());
    }
}

#[test]
fn a_key_has_no_role_even_in_a_workspace_with_a_membership() {
    let case = Case {
        named: Some("acme"),
        found: Some(acme()),
        membership: Some(Role::Owner),
        ..Case::key()
    };
    let decision = case.decide();
    assert_eq!((decision.denial, decision.role), (None, None));
    assert_eq!(decision.scopes, READ_ADMIN);
}
