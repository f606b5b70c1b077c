//! Roles of users in workspaces.

use std::fmt;
use std::str::FromStr;

use crate::pb;
use crate::{Invalid, join_names};

/// A user's role in a workspace, in ascending order. The store keeps the number, so never reuse one. The rows of
/// `scope.rs` say which scopes it may exercise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// The lowest role.
    Viewer = 1,
    /// Works in the workspace.
    Member = 2,
    /// Also manages the workspace's keys.
    Admin = 3,
    /// Also sees and bars the personal access tokens that act in the workspace, and reads its audit log.
    Owner = 4,
}

impl Role {
    /// All roles, in ascending order.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// Name of the role.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Joins all names for a sentence, with `last` before the last one: `viewer, member, admin or owner` with `" or "`.
    pub fn join_names(last: &str) -> String {
        join_names(&Self::ALL.map(Self::as_str), last)
    }

    /// Value in the proto.
    pub const fn to_proto(self) -> pb::Role {
        match self {
            Self::Viewer => pb::Role::Viewer,
            Self::Member => pb::Role::Member,
            Self::Admin => pb::Role::Admin,
            Self::Owner => pb::Role::Owner,
        }
    }

    /// Converts the number in a message. `None` for `ROLE_UNSPECIFIED` and for unknown numbers.
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.to_proto() as i32 == number)
    }

    /// Converts the store's number. `None` for unknown numbers.
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|role| i64::from(role.number()) == number)
    }

    /// Number in the store.
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
        found.ok_or_else(|| Invalid(format!("must be one of {}", Self::join_names(", "))))
    }
}
