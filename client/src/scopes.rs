//! Sets of scopes.

use std::fmt;
use std::ops::BitOr;

use crate::pb::Scope;

/// A set of scopes, written as `Scopes::READ | Scopes::CAPTURE`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope: only the identity is asked for.
    pub const NONE: Self = Self(0);
    /// Read endpoints: documents, search, grep.
    pub const READ: Self = Self(1);
    /// Capture endpoints, which also need a user.
    pub const CAPTURE: Self = Self(2);
    /// Administration of the workspace.
    pub const ADMIN: Self = Self(4);

    /// Whether all of `others` are in this set.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// The names, in ascending order: `read`, `capture`, `admin`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(Self::READ, "read"), (Self::CAPTURE, "capture"), (Self::ADMIN, "admin")];
        all.into_iter().filter(move |(scope, _)| self.contains(*scope)).map(|(_, name)| name)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn to_numbers(self) -> Vec<i32> {
        let all = [
            (Self::READ, Scope::Read),
            (Self::CAPTURE, Scope::Capture),
            (Self::ADMIN, Scope::Admin),
        ];
        all.into_iter()
            .filter(|(set, _)| self.contains(*set))
            .map(|(_, scope)| scope.into())
            .collect()
    }

    /// Scopes that this version does not know of are left out: nobody can ask for them either.
    pub(crate) fn from_numbers(numbers: &[i32]) -> Self {
        numbers.iter().fold(Self::NONE, |set, number| match Scope::try_from(*number) {
            Ok(Scope::Read) => set | Self::READ,
            Ok(Scope::Capture) => set | Self::CAPTURE,
            Ok(Scope::Admin) => set | Self::ADMIN,
            Ok(Scope::Unspecified) | Err(_) => set,
        })
    }
}

impl BitOr for Scopes {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        self.and(others)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
