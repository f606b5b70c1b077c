//! The decision (`docs/decisions.md`): one pure function that all faces share. No clock, no I/O, no async, no
//! allocation.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use sophic_auth_protocol::{Denial, Lack};

use crate::model::{
    CredentialKind, FoundFacts, OwnerKind, PrincipalFacts, Role, Scope, ScopeSet, Timestamp,
};

/// The bound that set the effective role of a personal access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleCap {
    /// The membership's role, which is at most the downscope.
    Membership,
    /// The token's downscope, which is below the membership's role.
    Token,
}

impl RoleCap {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Token => "token",
        }
    }
}

/// The question of an introspection, besides the token.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The named workspace, by slug or id. It is not validated.
    pub workspace: Option<&'a str>,
    /// Scopes that are all required.
    pub required_scopes: ScopeSet,
    /// Address of the client, if it is known.
    pub client_ip: Option<IpAddr>,
}

/// The decision and its grounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Reason for the refusal. `None` if allowed.
    pub denial: Option<Denial>,
    /// Effective role and the bound that set it. `None` for a key, and for a personal access token outside the
    /// workspaces of its user.
    pub role: Option<(Role, RoleCap)>,
    /// The effective scopes.
    pub scopes: ScopeSet,
    /// The required scopes that are not in effect.
    pub missing_scopes: ScopeSet,
    /// Missing scopes that the token was not granted.
    pub token_lacks: ScopeSet,
    /// Missing scopes that the effective role may not exercise.
    pub role_lacks: ScopeSet,
    /// For [`Denial::InsufficientScope`]: what to change. If several things are lacking, the membership's role comes
    /// before the downscope, because no other token would help. The downscope comes before the grant.
    pub lack: Option<Lack>,
}

impl Decision {
    /// Creates a refusal without a role and without scopes, for a token that is unknown or not active.
    pub const fn refused(denial: Denial) -> Self {
        Self {
            denial: Some(denial),
            role: None,
            scopes: ScopeSet::NONE,
            missing_scopes: ScopeSet::NONE,
            token_lacks: ScopeSet::NONE,
            role_lacks: ScopeSet::NONE,
            lack: None,
        }
    }

    /// Returns the reason for people. Empty if allowed.
    pub fn explanation(&self) -> &'static str {
        let denied = self.denial.map_or("", Denial::explanation);
        self.lack.map_or(denied, Lack::explanation)
    }

    /// Whether the token belongs to an active credential with an active owner.
    pub fn is_active(&self) -> bool {
        self.denial.is_none_or(Denial::is_active)
    }

    /// Whether the request is allowed.
    pub const fn is_allowed(&self) -> bool {
        self.denial.is_none()
    }

    /// Returns the HTTP status to answer the client with.
    pub fn http_status(&self) -> u16 {
        self.denial.map_or(200, Denial::http_status)
    }
}

/// Returns the `WWW-Authenticate` header of a refusal. Empty if allowed. `required` are the scopes that the request
/// required.
pub fn www_authenticate(decision: &Decision, required: ScopeSet) -> &'static str {
    decision.denial.map_or("", |denial| denial.challenge(decision.lack, required))
}

/// Decides rows 3 to 12 of the table. Rows 1 and 2 apply where no credential was found.
pub fn decide(found: &FoundFacts, request: &Request<'_>, now: Timestamp) -> Decision {
    match refuse_inactive(found, now) {
        Some(denial) => Decision::refused(denial),
        None => decide_active(found, request),
    }
}

/// Decides rows 3 and 4. An owner of the wrong kind counts as missing. A credential whose owner is missing counts as
/// revoked.
fn refuse_inactive(found: &FoundFacts, now: Timestamp) -> Option<Denial> {
    let FoundFacts { credential, principal, .. } = found;
    let owned = match (credential.kind.owner_kind(), principal) {
        (OwnerKind::Workspace, PrincipalFacts::Workspace(_))
        | (OwnerKind::User, PrincipalFacts::User(_)) => true,
        (OwnerKind::Workspace, PrincipalFacts::User(_))
        | (OwnerKind::User, PrincipalFacts::Workspace(_)) => false,
    };
    let ended_with_owner =
        !owned || credential.generation < principal.generation() || principal.is_deleted();
    if credential.revoke_time.is_some() || ended_with_owner {
        Some(Denial::TokenRevoked)
    } else if credential.expire_time.is_some_and(|expire_time| now >= expire_time) {
        Some(Denial::TokenExpired)
    } else if credential.disable_time.is_some() {
        Some(Denial::TokenDisabled)
    } else if principal.is_disabled() {
        Some(Denial::PrincipalDisabled)
    } else {
        None
    }
}

/// Decides rows 5 to 12. The effective role and scopes come first, because refusals report them too.
fn decide_active(found: &FoundFacts, request: &Request<'_>) -> Decision {
    let credential = &*found.credential;
    let standing = standing(found);
    let role = standing.ok();
    let scopes = match (credential.kind, role) {
        (CredentialKind::Key, _) => credential.scopes.difference(ScopeSet::CAPTURE),
        (CredentialKind::Pat, Some((role, _))) => {
            credential.scopes.intersection(role.may_exercise())
        }
        (CredentialKind::Pat, None) => ScopeSet::NONE,
    };
    let mut decision = Decision { role, scopes, ..Decision::refused(Denial::InsufficientScope) };
    decision.denial = refuse_address_or_workspace(found, request, standing.err());
    if decision.denial.is_some() {
        return decision;
    }
    let missing = request.required_scopes.difference(scopes);
    if missing.is_empty() {
        return decision;
    }
    decision.missing_scopes = missing;
    decision.token_lacks = missing.difference(credential.scopes);
    if let Some((role, _)) = role {
        decision.role_lacks = missing.difference(role.may_exercise());
    }
    let needs_a_user = match credential.kind {
        CredentialKind::Key => request.required_scopes.contains(Scope::Capture),
        CredentialKind::Pat => false,
    };
    if needs_a_user {
        decision.denial = Some(Denial::UserCredentialRequired);
    } else {
        decision.denial = Some(Denial::InsufficientScope);
        decision.lack = Some(find_lack(found, decision));
    }
    decision
}

/// Returns what has to change for the missing scopes to be in effect.
fn find_lack(found: &FoundFacts, decision: Decision) -> Lack {
    // A credential without a role cannot lack scopes because of its role.
    let role = decision.role.and_then(|_| found.membership());
    let withheld = |role: Role| !decision.missing_scopes.difference(role.may_exercise()).is_empty();
    if role.is_some_and(withheld) {
        Lack::Role
    } else if !decision.role_lacks.is_empty() {
        Lack::MaxRole
    } else {
        Lack::Token
    }
}

/// Decides rows 5 to 10: the client's address and the workspace. `refused` is the result of [`standing`].
fn refuse_address_or_workspace(
    found: &FoundFacts,
    request: &Request<'_>,
    refused: Option<Denial>,
) -> Option<Denial> {
    if !found.credential.ip_allowlist.allows(request.client_ip) {
        return Some(Denial::IpNotAllowed);
    }
    match (found.credential.kind, request.workspace) {
        (CredentialKind::Key, None) => None,
        (CredentialKind::Key, Some(named)) => {
            let own = matches!(
                &found.principal,
                PrincipalFacts::Workspace(own) if own.slug.as_str() == named || own.id.as_str() == named
            );
            (!own).then_some(Denial::WorkspaceMismatch)
        }
        (CredentialKind::Pat, None) => Some(Denial::WorkspaceRequired),
        (CredentialKind::Pat, Some(_)) => refused,
    }
}

/// Returns the effective role in the named workspace: the lower of the membership's role and the downscope.
///
/// # Errors
/// The denial of rows 8 to 10. Rows 9 and 10 come after the membership, so that a denial says nothing about a workspace
/// of which the user is not a member. A key has no role: its workspace is decided by row 6.
fn standing(found: &FoundFacts) -> Result<(Role, RoleCap), Denial> {
    let (named, membership) = match found.credential.kind {
        CredentialKind::Key => return Err(Denial::NotAMember),
        CredentialKind::Pat => found.joined_workspace().zip(found.membership()),
    }
    .ok_or(Denial::NotAMember)?;
    let credential = &*found.credential;
    if !credential.is_granted(named) {
        return Err(Denial::WorkspaceNotGranted);
    }
    let permitted = named.pat_policy.permits(credential.create_time, credential.expire_time);
    if !permitted || credential.is_barred(named) {
        return Err(Denial::PatNotPermitted);
    }
    let max_role = credential.max_role;
    Ok(if max_role < membership {
        (max_role, RoleCap::Token)
    } else {
        (membership, RoleCap::Membership)
    })
}
