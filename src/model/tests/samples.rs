//! Sample values for the unit tests of all rooms. A test changes the one or two fields that it is about.

use super::super::*;
use super::micros;

/// An active credential of this owner, with every scope.
pub(crate) fn credential(owner: Owner) -> Credential {
    let id = CredentialId(uuid::Uuid::nil());
    let kind = match owner {
        Owner::Workspace(_) => CredentialKind::Key,
        Owner::User { .. } => CredentialKind::Pat,
    };
    Credential {
        id,
        kind,
        owner,
        generation: 0,
        name: DisplayName::parse("ci").expect("a good name"),
        hint: "sophic_…abcd".to_owned(),
        scopes: ScopeSet::ALL,
        ip_allowlist: IpAllowlist::default(),
        granted_workspaces: None,
        barred_workspaces: WorkspaceSet::default(),
        annotations: Annotations::default(),
        create_time: micros(0),
        expire_time: None,
        disable_time: None,
        revoke_time: None,
        last_use: None,
        end_at_once: false,
        creator: "user:usr_ada".to_owned(),
        predecessor_id: None,
        family_id: id,
        version: 1,
    }
}
