//! Credentials, without their secret.

use std::fmt;
use std::net::IpAddr;

use super::{
    Annotations, CredentialId, DisplayName, IpAllowlist, Role, ScopeSet, Timestamp, UserId,
    WorkspaceId, WorkspaceSet,
};

/// The kind of a credential, which selects its rules and the prefix of its tokens. The number is also stored, so it
/// must never be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CredentialKind {
    /// An API key, which belongs to one workspace.
    Key = 1,
    /// A personal access token, which belongs to one user.
    Pat = 2,
}

/// The kind of owner that credentials of a kind have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// A workspace.
    Workspace,
    /// A user.
    User,
}

impl CredentialKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Key, Self::Pat];

    /// Returns the kind of owner that credentials of this kind have.
    pub const fn owner_kind(self) -> OwnerKind {
        match self {
            Self::Key => OwnerKind::Workspace,
            Self::Pat => OwnerKind::User,
        }
    }

    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Pat => "pat",
        }
    }

    /// Returns the kind with this number in the store.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.number()) == number)
    }

    /// Returns its number in the store.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a credential is active, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialState {
    /// It may be presented.
    Active,
    /// It was disabled, and can be enabled again.
    Disabled,
    /// Its `expire_time` has passed.
    Expired,
    /// It was revoked, which is final.
    Revoked,
}

impl CredentialState {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for CredentialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Owner of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A workspace.
    Workspace(WorkspaceId),
    /// A user.
    User {
        /// The user.
        id: UserId,
        /// Downscope: upper bound of the effective role.
        max_role: Role,
    },
}

/// The last time that a credential was presented and found active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// Time of use.
    pub time: Timestamp,
    /// Address of the client, if the caller passed it on.
    pub ip: Option<IpAddr>,
}

/// An API key or a personal access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// UUIDv7.
    pub id: CredentialId,
    /// Its kind.
    pub kind: CredentialKind,
    /// Its owner, of the kind that [`CredentialKind::owner_kind`] returns.
    pub owner: Owner,
    /// Generation of the owner when the credential was created. The credential is revoked if the owner's generation is
    /// now higher.
    pub generation: i64,
    /// Name that its creator chose.
    pub name: DisplayName,
    /// Prefix, and last four characters of the token's body.
    pub hint: String,
    /// The granted scopes.
    pub scopes: ScopeSet,
    /// Addresses from which it may be presented.
    pub ip_allowlist: IpAllowlist,
    /// The workspaces in which it may act, for a personal access token that is limited to some. `None` if it may act in
    /// every workspace of its user. The empty set, which only a deletion can leave, permits none.
    pub granted_workspaces: Option<WorkspaceSet>,
    /// Workspaces from which their owners have barred it.
    pub barred_workspaces: WorkspaceSet,
    /// Free text by key.
    pub annotations: Annotations,
    /// When it was created.
    pub create_time: Timestamp,
    /// First instant at which it is expired. `None` if it does not expire.
    pub expire_time: Option<Timestamp>,
    /// When it was disabled. `None` if it is enabled.
    pub disable_time: Option<Timestamp>,
    /// When it was revoked, individually or with all credentials of its owner.
    pub revoke_time: Option<Timestamp>,
    /// Its last use.
    pub last_use: Option<LastUse>,
    /// Whether a rotation has decided to revoke it at once. Until it is revoked, that rotation is between its two steps.
    pub end_at_once: bool,
    /// `user:<id>`, `caller:<name>` or `operator:<name>`.
    pub creator: String,
    /// The credential that its creation rotated.
    pub predecessor_id: Option<CredentialId>,
    /// First credential of its chain of rotations.
    pub family_id: CredentialId,
    /// Number of its changes, from which the etag is made.
    pub version: i64,
}

impl Credential {
    /// Returns its state at `now`. The order of the checks is that of row 3 of the decision table.
    pub fn state(&self, now: Timestamp) -> CredentialState {
        if self.revoke_time.is_some() {
            CredentialState::Revoked
        } else if self.expire_time.is_some_and(|expire_time| now >= expire_time) {
            CredentialState::Expired
        } else if self.disable_time.is_some() {
            CredentialState::Disabled
        } else {
            CredentialState::Active
        }
    }

    /// Returns its etag (AIP-154): opaque text that changes with every change except a use.
    pub fn etag(&self) -> String {
        format!("\"{:x}\"", self.version)
    }
}
