//! The decision (DESIGN §3): one pure function that every face speaks through. No clock, no I/O, no async, no allocation.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use sophic_auth_protocol::{Denial, Lack};

use crate::model::{
    CredentialKind, FoundFacts, OwnerKind, PrincipalFacts, Role, Scope, ScopeSet, Timestamp,
};

/// Which of the two bounds of a personal access token set its effective role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleCap {
    /// The membership's role, which is not above the downscope.
    Membership,
    /// The token's downscope, which is below the membership's role.
    Token,
}

impl RoleCap {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Token => "token",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The workspace named, by slug or id; as it came, whatever it is.
    pub workspace: Option<&'a str>,
    /// All the scopes that are needed.
    pub required_scopes: ScopeSet,
    /// Where the client is.
    pub client_ip: Option<IpAddr>,
}

/// The verdict, and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Why not; nothing when allowed.
    pub denial: Option<Denial>,
    /// The effective role, and which bound set it; of a personal access token in a workspace of its user's.
    pub role: Option<(Role, RoleCap)>,
    /// The effective scopes.
    pub scopes: ScopeSet,
    /// The required scopes that are not in effect.
    pub missing_scopes: ScopeSet,
    /// Those of the missing scopes that the token was never granted.
    pub token_lacks: ScopeSet,
    /// Those of the missing scopes that the effective role may not exercise.
    pub role_lacks: ScopeSet,
    /// With [`Denial::InsufficientScope`]: what stands in the way. Where several do, it is the role, which no other token
    /// would mend, before the downscope, and that before the grant.
    pub lack: Option<Lack>,
}

impl Decision {
    /// A refusal that no credential stands behind, or a dead one.
    pub const fn refused(denial: Denial) -> Self {
        Self {
            denial: Some(denial),
            role: None,
            scopes: ScopeSet::EMPTY,
            missing_scopes: ScopeSet::EMPTY,
            token_lacks: ScopeSet::EMPTY,
            role_lacks: ScopeSet::EMPTY,
            lack: None,
        }
    }

    /// Why not, for people; empty when allowed.
    pub fn explanation(&self) -> &'static str {
        let denied = self.denial.map_or("", Denial::explanation);
        self.lack.map_or(denied, Lack::explanation)
    }

    /// Whether the token is that of a live credential with a live owner.
    pub fn is_active(&self) -> bool {
        self.denial.is_none_or(Denial::is_active)
    }

    /// Whether what was asked may be done.
    pub const fn is_allowed(&self) -> bool {
        self.denial.is_none()
    }

    /// What to answer the client with.
    pub fn http_status(&self) -> u16 {
        self.denial.map_or(200, Denial::http_status)
    }
}

/// The `WWW-Authenticate` header to send with the refusal, empty when allowed; `required` are the scopes that were asked for.
pub fn www_authenticate(decision: &Decision, required: ScopeSet) -> &'static str {
    decision.denial.map_or("", |denial| denial.challenge(decision.lack, required))
}

/// Decides rows 3 to 11 of the table; rows 1 and 2 are those in which there is no credential to decide about.
pub fn decide(found: &FoundFacts, request: &Request<'_>, now: Timestamp) -> Decision {
    match refuse_dead(found, now) {
        Some(denial) => Decision::refused(denial),
        None => decide_live(found, request),
    }
}

/// Rows 3 and 4. An owner that is not of the kind's sort counts as one that is not there, and that as one that revoked
/// everything: unknown is denied.
fn refuse_dead(found: &FoundFacts, now: Timestamp) -> Option<Denial> {
    let FoundFacts { credential, principal, .. } = found;
    let owned = match (credential.kind.owned_by(), principal) {
        (OwnerKind::Workspace, PrincipalFacts::Workspace(_))
        | (OwnerKind::User, PrincipalFacts::User(_)) => true,
        (OwnerKind::Workspace, PrincipalFacts::User(_))
        | (OwnerKind::User, PrincipalFacts::Workspace(_)) => false,
    };
    let outlived =
        !owned || credential.generation < principal.generation() || principal.is_deleted();
    if credential.revoke_time.is_some() || outlived {
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

/// Rows 5 to 11. What is in effect is worked out first, since a refusal reports it too.
fn decide_live(found: &FoundFacts, request: &Request<'_>) -> Decision {
    let credential = &*found.credential;
    let role = effective_role(found);
    let scopes = match (credential.kind, role) {
        (CredentialKind::Key, _) => credential.scopes.difference(ScopeSet::CAPTURE),
        (CredentialKind::Pat, Some((role, _))) => {
            credential.scopes.intersection(role.may_exercise())
        }
        (CredentialKind::Pat, None) => ScopeSet::EMPTY,
    };
    let mut decision = Decision { role, scopes, ..Decision::refused(Denial::InsufficientScope) };
    decision.denial = refuse_place(found, request, role);
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
    let for_users = match credential.kind {
        CredentialKind::Key => request.required_scopes.contains(Scope::Capture),
        CredentialKind::Pat => false,
    };
    if for_users {
        decision.denial = Some(Denial::UserCredentialRequired);
    } else {
        decision.denial = Some(Denial::InsufficientScope);
        decision.lack = Some(lack(found, decision));
    }
    decision
}

/// Who is to be asked for what is missing.
fn lack(found: &FoundFacts, decision: Decision) -> Lack {
    // Only a credential that acts in a role can lack by it.
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

/// Rows 5 to 8: from where, and in which workspace.
fn refuse_place(
    found: &FoundFacts,
    request: &Request<'_>,
    role: Option<(Role, RoleCap)>,
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
        (CredentialKind::Pat, Some(_)) => role.is_none().then_some(Denial::NotAMember),
    }
}

/// The lower of the membership's role and the downscope; none without a live workspace and a membership of it.
fn effective_role(found: &FoundFacts) -> Option<(Role, RoleCap)> {
    match found.credential.kind {
        CredentialKind::Key => return None,
        CredentialKind::Pat => {}
    }
    let named = found.named_workspace.as_deref()?;
    if named.disabled || named.delete_time.is_some() {
        return None;
    }
    let (max_role, membership) = (found.credential.max_role, found.membership()?);
    Some(if max_role < membership {
        (max_role, RoleCap::Token)
    } else {
        (membership, RoleCap::Membership)
    })
}
