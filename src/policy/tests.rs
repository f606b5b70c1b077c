//! The rules for an acting user, role by role.

use super::{Access, credential, keys_of_workspace, pats_of_user};
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
    assert_eq!(keys_of_workspace(Some(Role::Owner)), Access::Allowed);
    assert_eq!(keys_of_workspace(Some(Role::Admin)), Access::Allowed);
    assert_eq!(keys_of_workspace(Some(Role::Member)), Access::Forbidden);
    assert_eq!(keys_of_workspace(Some(Role::Viewer)), Access::Forbidden);
    assert_eq!(keys_of_workspace(None), Access::Hidden);
}

#[test]
fn pats_are_managed_by_their_own_user_and_nobody_else() {
    assert_eq!(pats_of_user(&user("ada"), &user("ada")), Access::Allowed);
    assert_eq!(pats_of_user(&user("bob"), &user("ada")), Access::Hidden);
}

#[test]
fn a_key_that_one_may_not_manage_is_not_there() {
    let key = owned_by(Owner::Workspace(WorkspaceId::parse("w").expect("a well-formed id")));
    for role in [Role::Admin, Role::Owner] {
        assert_eq!(credential(&user("ada"), &key, Some(role)), Access::Allowed);
    }
    for role in [None, Some(Role::Viewer), Some(Role::Member)] {
        assert_eq!(credential(&user("ada"), &key, role), Access::Hidden);
    }
}

#[test]
fn no_role_opens_the_pat_of_another() {
    let pat = owned_by(Owner::User { id: user("ada"), max_role: Role::Owner });
    assert_eq!(credential(&user("ada"), &pat, None), Access::Allowed);
    for role in Role::ALL {
        assert_eq!(credential(&user("bob"), &pat, Some(role)), Access::Hidden);
    }
}
