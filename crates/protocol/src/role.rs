//! Roles: a user's standing in a workspace, in ascending order.

use std::fmt;
use std::str::FromStr;

use crate::pb;
use crate::{Invalid, ScopeSet, listed};

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

    /// What it may exercise.
    pub const fn may_exercise(self) -> ScopeSet {
        match self {
            Self::Viewer => ScopeSet::READ,
            Self::Member => ScopeSet::READ.union(ScopeSet::CAPTURE),
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

    /// The names of all, for a sentence, with `last` before the last one: `viewer, member, admin or owner` with `" or "`.
    pub fn listed(last: &str) -> String {
        listed(&Self::ALL.map(Self::as_str), last)
    }

    /// As in messages.
    pub const fn to_proto(self) -> pb::Role {
        match self {
            Self::Viewer => pb::Role::Viewer,
            Self::Member => pb::Role::Member,
            Self::Admin => pb::Role::Admin,
            Self::Owner => pb::Role::Owner,
        }
    }

    /// From its number in messages; `None` for that of no role, and for one that this version does not know.
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.to_proto() as i32 == number)
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
        found.ok_or_else(|| Invalid(format!("must be one of {}", Self::listed(", "))))
    }
}
