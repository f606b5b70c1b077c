//! Access of acting users, for each role.

use super::{
    AccessOutcome, access_to_credential, access_to_user_pats, access_to_workspace_audit,
    access_to_workspace_keys, access_to_workspace_pats,
};
use crate::model::tests::samples;
use crate::model::{Credential, Owner, Role, Scope, ScopeSet, UserId, WorkspaceId};

fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a well-formed id")
}

fn owned_by(owner: Owner) -> Credential {
    Credential { scopes: ScopeSet::from_scopes(&[Scope::Read]), ..samples::credential(owner) }
}

#[test]
fn keys_are_managed_by_admins_and_owners() {
    assert_eq!(access_to_workspace_keys(Some(Role::Owner)), AccessOutcome::Allowed);
    assert_eq!(access_to_workspace_keys(Some(Role::Admin)), AccessOutcome::Allowed);
    assert_eq!(access_to_workspace_keys(Some(Role::Member)), AccessOutcome::Forbidden);
    assert_eq!(access_to_workspace_keys(Some(Role::Viewer)), AccessOutcome::Forbidden);
    assert_eq!(access_to_workspace_keys(None), AccessOutcome::Hidden);
}

#[test]
fn the_audit_log_of_a_workspace_is_read_by_its_owners() {
    assert_eq!(access_to_workspace_audit(Some(Role::Owner)), AccessOutcome::Allowed);
    for role in [Role::Admin, Role::Member, Role::Viewer] {
        assert_eq!(access_to_workspace_audit(Some(role)), AccessOutcome::Forbidden);
    }
    assert_eq!(access_to_workspace_audit(None), AccessOutcome::Hidden);
}

#[test]
fn pats_are_managed_by_their_own_user_and_nobody_else() {
    assert_eq!(access_to_user_pats(&user("ada"), &user("ada")), AccessOutcome::Allowed);
    assert_eq!(access_to_user_pats(&user("bob"), &user("ada")), AccessOutcome::Hidden);
}

#[test]
fn a_key_that_the_acting_user_may_not_manage_is_hidden() {
    let key = owned_by(Owner::Workspace(WorkspaceId::parse("w").expect("a well-formed id")));
    for role in [Role::Admin, Role::Owner] {
        assert_eq!(access_to_credential(&user("ada"), &key, Some(role), 0), AccessOutcome::Allowed);
    }
    for role in [None, Some(Role::Viewer), Some(Role::Member)] {
        assert_eq!(access_to_credential(&user("ada"), &key, role, 0), AccessOutcome::Hidden);
    }
}

#[test]
fn no_role_gives_access_to_the_pat_of_another_user() {
    let pat = owned_by(Owner::User { id: user("ada"), max_role: Role::Owner });
    assert_eq!(access_to_credential(&user("ada"), &pat, None, 0), AccessOutcome::Allowed);
    for role in Role::ALL {
        assert_eq!(access_to_credential(&user("bob"), &pat, Some(role), 0), AccessOutcome::Hidden);
    }
}

#[test]
fn owners_see_the_pats_that_act_in_their_workspace_and_nobody_else_does() {
    assert_eq!(access_to_workspace_pats(Some(Role::Owner)), AccessOutcome::Allowed);
    for role in [Role::Viewer, Role::Member, Role::Admin] {
        assert_eq!(access_to_workspace_pats(Some(role)), AccessOutcome::Forbidden);
    }
    assert_eq!(access_to_workspace_pats(None), AccessOutcome::Hidden);
}

#[test]
fn the_credentials_of_an_earlier_owner_with_the_same_id_are_hidden() {
    let key = owned_by(Owner::Workspace(WorkspaceId::parse("w").expect("a well-formed id")));
    let pat = owned_by(Owner::User { id: user("ada"), max_role: Role::Owner });
    for credential in [key, pat] {
        let access = |generation| {
            access_to_credential(&user("ada"), &credential, Some(Role::Owner), generation)
        };
        assert_eq!(access(credential.generation), AccessOutcome::Allowed);
        assert_eq!(access(credential.generation + 1), AccessOutcome::Hidden);
    }
}
