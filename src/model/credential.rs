//! Credentials, without their secret.

use std::fmt;
use std::net::IpAddr;

use super::{
    Annotations, CredentialId, DisplayName, IpAllowlist, Role, ScopeSet, Timestamp, UserId,
    WorkspaceId,
};

/// What a credential is: which rules it is decided by, and what its tokens begin with. The number is the store's too: never
/// reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CredentialKind {
    /// An API key: of exactly one workspace.
    Key = 1,
    /// A personal access token: of exactly one user.
    Pat = 2,
}

/// Whose the credentials of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// A workspace's.
    Workspace,
    /// A user's.
    User,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Key, Self::Pat];

    /// Whose credentials of this kind are.
    pub const fn owned_by(self) -> OwnerKind {
        match self {
            Self::Key => OwnerKind::Workspace,
            Self::Pat => OwnerKind::User,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Pat => "pat",
        }
    }

    /// From the store's number.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(kind.number()) == number)
    }

    /// The store's number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Alive, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialState {
    /// May be presented.
    Active,
    /// Switched off.
    Disabled,
    /// Past its `expire_time`.
    Expired,
    /// Ended for good.
    Revoked,
}

impl CredentialState {
    /// Its name.
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

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A workspace's.
    Workspace(WorkspaceId),
    /// A user's.
    User {
        /// The user.
        id: UserId,
        /// The downscope: the effective role is never higher.
        max_role: Role,
    },
}

/// When and from where a credential was last presented and found active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub time: Timestamp,
    /// From where, if the caller said.
    pub ip: Option<IpAddr>,
}

/// A key or a personal access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// UUIDv7.
    pub id: CredentialId,
    /// What it is.
    pub kind: CredentialKind,
    /// Whose it is, which is as the kind says ([`CredentialKind::owned_by`]).
    pub owner: Owner,
    /// The owner's watermark when it was made: below the owner's of today, it is revoked.
    pub generation: i64,
    /// What its maker called it.
    pub name: DisplayName,
    /// The prefix and the last four characters of the token's body.
    pub hint: String,
    /// What it was granted.
    pub scopes: ScopeSet,
    /// Where it may be presented from.
    pub ip_allowlist: IpAllowlist,
    /// Free text of the maker's own.
    pub annotations: Annotations,
    /// When it was made.
    pub create_time: Timestamp,
    /// The first instant at which it is dead.
    pub expire_time: Option<Timestamp>,
    /// When it was disabled, if it is.
    pub disable_time: Option<Timestamp>,
    /// When it was revoked, by itself or with all that its owner had.
    pub revoke_time: Option<Timestamp>,
    /// When and from where it was last used.
    pub last_use: Option<LastUse>,
    /// `user:<id>`, `caller:<name>` or `operator:<name>`.
    pub creator: String,
    /// What it succeeded by rotation.
    pub predecessor_id: Option<CredentialId>,
    /// The first of its chain of rotations.
    pub family_id: CredentialId,
    /// Counts its changes; the etag is made of it.
    pub version: i64,
}

impl Credential {
    /// Alive or why not at `now`; the order is that of the decision (DESIGN §3, row 3).
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

    /// Opaque text that changes with every change but that of the last use (AIP-154).
    pub fn etag(&self) -> String {
        format!("\"{:x}\"", self.version)
    }
}
