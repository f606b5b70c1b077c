//! The decision (DESIGN §3): one pure function that every face speaks through. No clock, no I/O, no async, no allocation.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use sophic_auth_protocol::{Denial, Lack};

use crate::model::{IpAllowlist, Role, Scope, ScopeSet, Timestamp, User, Workspace};

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

/// A presented credential and what it is decided by, all of one revision.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The credential.
    pub credential: Grant<'a>,
    /// Whose it is. An owner that is not there counts as one that revoked everything: unknown is denied.
    pub principal: Option<Principal<'a>>,
    /// The workspace that the request names, if there is one of that name.
    pub named_workspace: Option<&'a Workspace>,
    /// The user's role in that workspace, if they are a member.
    pub membership: Option<Role>,
}

/// What of a credential is decided by: what it was granted, to whom, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// A personal access token's downscope: the effective role is never higher. Nothing: a key.
    pub max_role: Option<Role>,
    /// What it was granted.
    pub scopes: ScopeSet,
    /// The owner's watermark when it was made: below the owner's of today, it is revoked.
    pub generation: i64,
    /// When it was revoked, if it is.
    pub revoke_time: Option<Timestamp>,
    /// The first instant at which it is dead.
    pub expire_time: Option<Timestamp>,
    /// When it was disabled, if it is.
    pub disable_time: Option<Timestamp>,
    /// Where it may be presented from.
    pub ip_allowlist: &'a IpAllowlist,
}

/// Whose a credential is.
#[derive(Debug, Clone, Copy)]
pub enum Principal<'a> {
    /// A workspace's.
    Workspace(&'a Workspace),
    /// A user's.
    User(&'a User),
}

impl Principal<'_> {
    const fn generation(&self) -> i64 {
        match self {
            Self::Workspace(workspace) => workspace.generation,
            Self::User(user) => user.generation,
        }
    }

    const fn is_gone(&self) -> bool {
        match self {
            Self::Workspace(workspace) => workspace.delete_time.is_some(),
            Self::User(user) => user.delete_time.is_some(),
        }
    }

    const fn is_disabled(&self) -> bool {
        match self {
            Self::Workspace(workspace) => workspace.disabled,
            Self::User(user) => user.disabled,
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
pub fn decide(snapshot: &Snapshot<'_>, request: &Request<'_>, now: Timestamp) -> Decision {
    match refuse_dead(snapshot, now) {
        Some(denial) => Decision::refused(denial),
        None => decide_live(snapshot, request),
    }
}

/// Rows 3 and 4.
fn refuse_dead(snapshot: &Snapshot<'_>, now: Timestamp) -> Option<Denial> {
    let credential = snapshot.credential;
    let outlived = snapshot.principal.is_none_or(|principal| {
        credential.generation < principal.generation() || principal.is_gone()
    });
    if credential.revoke_time.is_some() || outlived {
        Some(Denial::TokenRevoked)
    } else if credential.expire_time.is_some_and(|expire_time| now >= expire_time) {
        Some(Denial::TokenExpired)
    } else if credential.disable_time.is_some() {
        Some(Denial::TokenDisabled)
    } else if snapshot.principal.is_none_or(|principal| principal.is_disabled()) {
        Some(Denial::PrincipalDisabled)
    } else {
        None
    }
}

/// Rows 5 to 11. What is in effect is worked out first, since a refusal reports it too.
fn decide_live(snapshot: &Snapshot<'_>, request: &Request<'_>) -> Decision {
    let credential = snapshot.credential;
    let role = effective_role(snapshot);
    let scopes = match (credential.max_role, role) {
        (None, _) => credential.scopes.difference(ScopeSet::CAPTURE),
        (Some(_), Some((role, _))) => credential.scopes.intersection(role.may_exercise()),
        (Some(_), None) => ScopeSet::EMPTY,
    };
    let mut decision = Decision { role, scopes, ..Decision::refused(Denial::InsufficientScope) };
    decision.denial = refuse_place(snapshot, request, role);
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
    let key = credential.max_role.is_none();
    if key && request.required_scopes.contains(Scope::Capture) {
        decision.denial = Some(Denial::UserCredentialRequired);
    } else {
        decision.denial = Some(Denial::InsufficientScope);
        decision.lack = Some(lack(snapshot, decision));
    }
    decision
}

/// Who is to be asked for what is missing.
fn lack(snapshot: &Snapshot<'_>, decision: Decision) -> Lack {
    // A key has no role.
    let role = decision.role.and(snapshot.membership);
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
    snapshot: &Snapshot<'_>,
    request: &Request<'_>,
    role: Option<(Role, RoleCap)>,
) -> Option<Denial> {
    if !snapshot.credential.ip_allowlist.allows(request.client_ip) {
        return Some(Denial::IpNotAllowed);
    }
    match (snapshot.credential.max_role, request.workspace) {
        (None, None) => None,
        (None, Some(named)) => {
            let own = matches!(
                snapshot.principal,
                Some(Principal::Workspace(own)) if own.slug.as_str() == named || own.id.as_str() == named
            );
            (!own).then_some(Denial::WorkspaceMismatch)
        }
        (Some(_), None) => Some(Denial::WorkspaceRequired),
        (Some(_), Some(_)) => role.is_none().then_some(Denial::NotAMember),
    }
}

/// The lower of the membership's role and the downscope; none without a live workspace and a membership of it.
fn effective_role(snapshot: &Snapshot<'_>) -> Option<(Role, RoleCap)> {
    let max_role = snapshot.credential.max_role?;
    let live = |workspace: &&Workspace| !workspace.disabled && workspace.delete_time.is_none();
    snapshot.named_workspace.filter(live)?;
    let membership = snapshot.membership?;
    Some(if max_role < membership {
        (max_role, RoleCap::Token)
    } else {
        (membership, RoleCap::Membership)
    })
}
