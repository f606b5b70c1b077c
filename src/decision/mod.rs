//! The decision (DESIGN §3): one pure function that every face speaks through. No clock, no I/O, no async, no allocation.

mod challenge;

#[cfg(test)]
mod tests;

pub use challenge::www_authenticate;

use std::net::IpAddr;

use crate::model::{
    CredentialKind, FoundFacts, OwnerKind, PrincipalFacts, Role, Scope, ScopeSet, Timestamp,
};

/// Why a presented token may not do what was asked; the first row of the table that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Row 1: no token was presented.
    TokenMissing,
    /// Row 2: malformed, wrong check characters, or not known: one answer for all three.
    TokenUnknown,
    /// Row 3: revoked, by itself or with all that its owner had.
    TokenRevoked,
    /// Row 3: past its expiry.
    TokenExpired,
    /// Row 3: switched off.
    TokenDisabled,
    /// Row 4: the personal access token's user, or the key's workspace, is disabled.
    PrincipalDisabled,
    /// Row 5: the client's address is absent or outside the allowlist.
    IpNotAllowed,
    /// Row 6: a key, and another workspace is named.
    WorkspaceMismatch,
    /// Row 7: a personal access token, and no workspace is named.
    WorkspaceRequired,
    /// Row 8: the workspace is unknown or disabled, or the user is no member: one answer for all three.
    NotAMember,
    /// Row 9: capture is required, and a key is no user.
    UserCredentialRequired,
    /// Row 10: a required scope is not in effect.
    InsufficientScope,
    /// No row: it was not looked up, since there were too many before it that are nobody's. It says nothing of the token, and
    /// is never given but in a batch, where the others have their answers: alone such a call fails.
    UnknownTokensTooMany,
}

impl Denial {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 13] = [
        Self::TokenMissing,
        Self::TokenUnknown,
        Self::TokenRevoked,
        Self::TokenExpired,
        Self::TokenDisabled,
        Self::PrincipalDisabled,
        Self::IpNotAllowed,
        Self::WorkspaceMismatch,
        Self::WorkspaceRequired,
        Self::NotAMember,
        Self::UserCredentialRequired,
        Self::InsufficientScope,
        Self::UnknownTokensTooMany,
    ];

    /// Whether the token is good for something all the same.
    pub const fn is_active(self) -> bool {
        !matches!(
            self,
            Self::TokenMissing
                | Self::TokenUnknown
                | Self::TokenRevoked
                | Self::TokenExpired
                | Self::TokenDisabled
                | Self::PrincipalDisabled
                | Self::UnknownTokensTooMany
        )
    }

    /// What to answer the client with.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::TokenMissing
            | Self::TokenUnknown
            | Self::TokenRevoked
            | Self::TokenExpired
            | Self::TokenDisabled
            | Self::PrincipalDisabled => 401,
            Self::WorkspaceRequired => 400,
            Self::IpNotAllowed
            | Self::WorkspaceMismatch
            | Self::NotAMember
            | Self::UserCredentialRequired
            | Self::InsufficientScope => 403,
            Self::UnknownTokensTooMany => 429,
        }
    }

    /// Its name, as in the proto without the prefix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenMissing => "TOKEN_MISSING",
            Self::TokenUnknown => "TOKEN_UNKNOWN",
            Self::TokenRevoked => "TOKEN_REVOKED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::TokenDisabled => "TOKEN_DISABLED",
            Self::PrincipalDisabled => "PRINCIPAL_DISABLED",
            Self::IpNotAllowed => "IP_NOT_ALLOWED",
            Self::WorkspaceMismatch => "WORKSPACE_MISMATCH",
            Self::WorkspaceRequired => "WORKSPACE_REQUIRED",
            Self::NotAMember => "NOT_A_MEMBER",
            Self::UserCredentialRequired => "USER_CREDENTIAL_REQUIRED",
            Self::InsufficientScope => "INSUFFICIENT_SCOPE",
            Self::UnknownTokensTooMany => "UNKNOWN_TOKENS_TOO_MANY",
        }
    }

    /// Why, for people. Of a scope that is not in effect only the whole decision can say who lacks it.
    const fn explanation(self) -> &'static str {
        match self {
            Self::TokenMissing => "no token was presented",
            Self::TokenUnknown => "the token is not known",
            Self::TokenRevoked => "the token was revoked",
            Self::TokenExpired => "the token has expired",
            Self::TokenDisabled => "the token is disabled",
            Self::PrincipalDisabled => "the token's user or workspace is disabled",
            Self::IpNotAllowed => "the token may not be used from this address",
            Self::WorkspaceMismatch => "the key belongs to another workspace",
            Self::WorkspaceRequired => {
                "a personal access token needs a workspace: send x-sophic-workspace"
            }
            Self::NotAMember => "the user is not a member of this workspace",
            Self::UserCredentialRequired => {
                "this needs a user: use a personal access token, not a key"
            }
            Self::InsufficientScope => "a required scope is not in effect",
            Self::UnknownTokensTooMany => "it was not looked up: too many before it were unknown",
        }
    }
}

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

/// What keeps a required scope from being in effect: what would have to be another for it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The token was not granted it.
    Token,
    /// The token's downscope may not exercise it.
    MaxRole,
    /// The user's role in the workspace may not: no token of theirs would help.
    Role,
}

impl Lack {
    /// In words, for people.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Token => "the token lacks a required scope",
            Self::MaxRole => "the token's max_role does not allow a required scope",
            Self::Role => "the user's role in this workspace does not allow a required scope",
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
        (CredentialKind::Key, _) => credential.scopes.difference(ScopeSet::of(&[Scope::Capture])),
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
