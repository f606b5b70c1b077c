//! The decision (`docs/decisions.md`): one pure function that all faces share. No clock, no I/O, no async, no
//! allocation. [`explain`] tells of each row what became of the request there.

mod explain;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use explain::{ExplainedRow, Explanation, PresentedText, RowFact, RowOutcome, explain};
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

/// Decides rows 3 to 13 of the table. Rows 1 and 2 apply where no credential was found.
pub fn decide(found: &FoundFacts, request: &Request<'_>, now: Timestamp) -> Decision {
    walk(found, request, now, &mut |_, _| {})
}

/// Walks the rows until one denies. This is the order of the table. `see` is called for each row that applies to this
/// kind of credential, with its denial and whether it denies: [`decide`] ignores that, and [`explain`] collects it.
#[inline]
fn walk(
    found: &FoundFacts,
    request: &Request<'_>,
    now: Timestamp,
    see: &mut impl FnMut(Denial, bool),
) -> Decision {
    match refuse_inactive(found, now, see) {
        Some(denial) => Decision::refused(denial),
        None => decide_active(found, request, see),
    }
}

/// Returns the effective role of a personal access token in the named workspace. `None` if rows 3, 4 or 8 to 10 deny it
/// there, whatever is required and wherever the request comes from.
pub fn effective_role(found: &FoundFacts, now: Timestamp) -> Option<Role> {
    match refuse_inactive(found, now, &mut |_, _| ()) {
        Some(_) => None,
        None => standing(found).ok().map(|(role, _)| role),
    }
}

/// Shows a row, and returns its denial if it denies.
#[inline]
fn row(see: &mut impl FnMut(Denial, bool), denial: Denial, denies: bool) -> Option<Denial> {
    see(denial, denies);
    denies.then_some(denial)
}

/// Decides rows 3 and 4. An owner of the wrong kind counts as missing. A credential whose owner is missing counts as
/// revoked.
#[inline]
fn refuse_inactive(
    found: &FoundFacts,
    now: Timestamp,
    see: &mut impl FnMut(Denial, bool),
) -> Option<Denial> {
    let FoundFacts { credential, principal, .. } = found;
    let owned = match (credential.kind.owner_kind(), principal) {
        (OwnerKind::Workspace, PrincipalFacts::Workspace(_))
        | (OwnerKind::User, PrincipalFacts::User(_)) => true,
        (OwnerKind::Workspace, PrincipalFacts::User(_))
        | (OwnerKind::User, PrincipalFacts::Workspace(_)) => false,
    };
    let ended_with_owner =
        !owned || credential.generation < principal.generation() || principal.is_deleted();
    let revoked = credential.revoke_time.is_some() || ended_with_owner;
    let expired = || credential.expire_time.is_some_and(|expire_time| now >= expire_time);
    row(see, Denial::TokenRevoked, revoked)
        .or_else(|| row(see, Denial::TokenExpired, expired()))
        .or_else(|| row(see, Denial::TokenDisabled, credential.disable_time.is_some()))
        .or_else(|| row(see, Denial::PrincipalDisabled, principal.is_disabled()))
}

/// Decides rows 5 to 13. The effective role and scopes come first, because refusals report them too.
#[inline]
fn decide_active(
    found: &FoundFacts,
    request: &Request<'_>,
    see: &mut impl FnMut(Denial, bool),
) -> Decision {
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
    decision.denial = refuse_address_or_workspace(found, request, standing.err(), see);
    if decision.denial.is_some() {
        return decision;
    }
    let missing = request.required_scopes.difference(scopes);
    let needs_a_user = match credential.kind {
        CredentialKind::Key => {
            let captures = request.required_scopes.contains(Scope::Capture);
            row(see, Denial::UserCredentialRequired, captures)
        }
        CredentialKind::Pat => None,
    };
    let insufficient = || row(see, Denial::InsufficientScope, !missing.is_empty());
    decision.denial = needs_a_user.or_else(insufficient);
    if decision.denial.is_none() {
        return decision;
    }
    decision.missing_scopes = missing;
    decision.token_lacks = missing.difference(credential.scopes);
    if let Some((role, _)) = role {
        decision.role_lacks = missing.difference(role.may_exercise());
    }
    if needs_a_user.is_none() {
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
    see: &mut impl FnMut(Denial, bool),
) -> Option<Denial> {
    let outside = !found.credential.ip_allowlist.allows(request.client_ip);
    if let Some(denial) = row(see, Denial::IpNotAllowed, outside) {
        return Some(denial);
    }
    match (found.credential.kind, request.workspace) {
        (CredentialKind::Key, named) => {
            let is_own = |named: &str| {
                matches!(
                    &found.principal,
                    PrincipalFacts::Workspace(own) if own.slug.as_str() == named || own.id.as_str() == named
                )
            };
            row(see, Denial::WorkspaceMismatch, !named.is_none_or(is_own))
        }
        (CredentialKind::Pat, named) => row(see, Denial::WorkspaceRequired, named.is_none())
            .or_else(|| refuse_standing(refused, see)),
    }
}

/// Shows rows 8 to 10, and returns `refused`, the denial of [`standing`].
#[inline]
fn refuse_standing(refused: Option<Denial>, see: &mut impl FnMut(Denial, bool)) -> Option<Denial> {
    for denial in [Denial::NotAMember, Denial::WorkspaceNotGranted, Denial::PatNotPermitted] {
        let denies = refused == Some(denial);
        see(denial, denies);
        if denies {
            break;
        }
    }
    refused
}

/// Returns the effective role in the named workspace: the lower of the membership's role and the downscope.
///
/// # Errors
/// The denial of rows 8 to 10. Rows 9 and 10 come after the membership, so that a denial says nothing about a workspace
/// of which the user is not a member. A key has no role: its workspace is decided by row 6.
fn standing(found: &FoundFacts) -> Result<(Role, RoleCap), Denial> {
    let (named, membership) = match found.credential.kind {
        CredentialKind::Key => return Err(Denial::NotAMember),
        CredentialKind::Pat => found.joined_workspace(),
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
