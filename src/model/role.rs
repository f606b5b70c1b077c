//! Roles: a user's standing in a workspace, in ascending order.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, Scope, ScopeSet};

/// A role. The number is the store's too: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// May exercise read.
    Viewer = 1,
    /// May exercise read and capture.
    Member = 2,
    /// May exercise every scope, and manage the workspace's keys.
    Admin = 3,
    /// As admin.
    Owner = 4,
}

impl Role {
    /// All of them, in ascending order.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// What it may exercise (DESIGN §1).
    pub const fn may_exercise(self) -> ScopeSet {
        match self {
            Self::Viewer => ScopeSet::of(&[Scope::Read]),
            Self::Member => ScopeSet::of(&[Scope::Read, Scope::Capture]),
            Self::Admin | Self::Owner => ScopeSet::ALL,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// From the store's number.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|role| i64::from(role.number()) == number)
    }

    /// The store's number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| Invalid::new("must be one of viewer, member, admin, owner"))
    }
}
