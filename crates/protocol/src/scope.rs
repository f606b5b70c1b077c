//! Scopes: what a credential may be used for. No scope implies another.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use crate::pb;
use crate::{Invalid, Role, join_names};

/// The declaration of the scopes, which is passed to the macro `$then`. All other code about scopes is derived from it.
///
/// A row has the variant, which is also that of the protocol's enum; the constant of the set with only this scope; its
/// bit in [`ScopeSet`]; its name; and the lowest role that may exercise it. The store keeps the bit, so never reuse
/// one. A new scope also needs its number in `credential.proto`, without which the row does not compile, nor the number
/// without the row; and a migration of the `CHECK` on each store's column.
macro_rules! for_scopes {
    ($then:ident) => {
        $then! {
            /// Read endpoints: documents, search, grep.
            Read, READ, 1, "read", Viewer;
            /// Capture endpoints, which also need a user.
            Capture, CAPTURE, 2, "capture", Member;
            /// Administration of the workspace.
            Admin, ADMIN, 4, "admin", Admin;
        }
    };
}
pub(crate) use for_scopes;

macro_rules! declare {
    ($(#[$doc:meta] $variant:ident, $constant:ident, $bit:literal, $name:literal, $role:ident;)+) => {
        /// One scope. The number is its bit in [`ScopeSet`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Scope {
            $(#[$doc] $variant = $bit,)+
        }

        impl Scope {
            /// All scopes, in ascending order.
            pub const ALL: [Self; [$($bit),+].len()] = [$(Self::$variant),+];

            /// Name of the scope.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Value in the proto.
            pub const fn to_proto(self) -> pb::Scope {
                match self { $(Self::$variant => pb::Scope::$variant,)+ }
            }

            /// Converts the number in a message. `None` for `SCOPE_UNSPECIFIED` and for unknown numbers.
            pub fn from_proto(number: i32) -> Option<Self> {
                // Each value of the proto must have a row, or this does not compile.
                match pb::Scope::try_from(number).ok()? {
                    pb::Scope::Unspecified => None,
                    $(pb::Scope::$variant => Some(Self::$variant),)+
                }
            }
        }

        impl ScopeSet {
            $(#[$doc] pub const $constant: Self = Self($bit);)+
        }

        impl Role {
            /// The scopes that the role may exercise: those whose lowest role is not above it.
            pub const fn may_exercise(self) -> ScopeSet {
                ScopeSet(0 $(| if Self::$role as u8 <= self as u8 { $bit } else { 0 })+)
            }
        }
    };
}
for_scopes!(declare);

impl Scope {
    /// Joins all names for a sentence, with `last` before the last one.
    pub fn join_names(last: &str) -> String {
        join_names(&Self::ALL.map(Self::as_str), last)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| Invalid(format!("must be one of {}", Self::join_names(", "))))
    }
}

/// A set of scopes, in one byte; written as `ScopeSet::READ | ScopeSet::CAPTURE`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope. As required scopes: the request needs only the identity.
    pub const NONE: Self = Self(0);
    /// All scopes.
    pub const ALL: Self = Self::from_scopes(&Scope::ALL);

    /// The set of these scopes.
    pub const fn from_scopes(scopes: &[Scope]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < scopes.len() {
            bits |= scopes[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// Converts the store's number. `None` if it has an unknown bit.
    pub fn from_bits(bits: i64) -> Option<Self> {
        u8::try_from(bits).ok().filter(|bits| bits & !Self::ALL.0 == 0).map(Self)
    }

    /// Number in the store.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Converts the numbers in a message. Unknown ones are left out, since no request of this version can require them.
    pub fn from_proto(numbers: &[i32]) -> Self {
        numbers.iter().filter_map(|number| Scope::from_proto(*number)).collect()
    }

    /// Numbers for a message, in ascending order.
    pub fn to_proto(self) -> Vec<i32> {
        self.iter().map(|scope| scope.to_proto().into()).collect()
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the set, or an error if it is empty.
    pub fn require_non_empty(self) -> Result<Self, Invalid> {
        if self.is_empty() {
            return Err(Invalid(format!("must name at least one of {}", Scope::join_names(", "))));
        }
        Ok(self)
    }

    /// Whether the set contains this scope, or all of these.
    pub fn contains(self, scopes: impl Into<Self>) -> bool {
        let scopes = scopes.into();
        self.0 & scopes.0 == scopes.0
    }

    /// The scopes in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The scopes in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Iterates over the scopes, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// Iterates over the names, in ascending order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.iter().map(Scope::as_str)
    }
}

impl From<Scope> for ScopeSet {
    fn from(scope: Scope) -> Self {
        Self(scope as u8)
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope as u8))
    }
}

impl BitOr for ScopeSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            f.write_str(if i == 0 { "" } else { " " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}
