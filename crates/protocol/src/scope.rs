//! Scopes: what a credential may be used for. Independent of each other.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use crate::pb;
use crate::{Invalid, listed};

/// The declaration of the scopes, passed on to the macro `$then`. Everything else that knows of scopes follows from it.
///
/// A row has the variant, of the protocol's enum too, the constant of the set that has this scope alone, its bit in
/// [`ScopeSet`], and its name. The store keeps the bit: never reuse one. A new scope also needs its number in
/// `credential.proto`, a migration of the `CHECK` on each store's column, and a decision on which [`Role`](crate::Role) may
/// exercise it.
macro_rules! for_scopes {
    ($then:ident) => {
        $then! {
            /// Read endpoints: documents, search, grep.
            Read, READ, 1, "read";
            /// Capture endpoints, which also need a user.
            Capture, CAPTURE, 2, "capture";
            /// Administration of the workspace.
            Admin, ADMIN, 4, "admin";
        }
    };
}
pub(crate) use for_scopes;

macro_rules! declare {
    ($(#[$doc:meta] $variant:ident, $constant:ident, $bit:literal, $name:literal;)+) => {
        /// One scope. The number is its bit in [`ScopeSet`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Scope {
            $(#[$doc] $variant = $bit,)+
        }

        impl Scope {
            /// All of them, in ascending order.
            pub const ALL: [Self; [$($bit),+].len()] = [$(Self::$variant),+];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// As in messages.
            pub const fn to_proto(self) -> pb::Scope {
                match self { $(Self::$variant => pb::Scope::$variant,)+ }
            }
        }

        impl ScopeSet {
            $(#[$doc] pub const $constant: Self = Self($bit);)+
        }
    };
}
for_scopes!(declare);

impl Scope {
    /// The names of all, for a sentence, with `last` before the last one: `read, capture or admin` with `" or "`.
    pub fn listed(last: &str) -> String {
        listed(&Self::ALL.map(Self::as_str), last)
    }

    /// From its number in messages; `None` for that of no scope, and for one that this version does not know.
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.to_proto() as i32 == number)
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
        found.ok_or_else(|| Invalid(format!("must be one of {}", Self::listed(", "))))
    }
}

/// A set of scopes, in one byte; written as `ScopeSet::READ | ScopeSet::CAPTURE`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// No scope: only the identity is asked for.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self::of(&Scope::ALL);

    /// These.
    pub const fn of(scopes: &[Scope]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < scopes.len() {
            bits |= scopes[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// From the store's number; `None` if it has a bit of no scope.
    pub fn from_bits(bits: i64) -> Option<Self> {
        u8::try_from(bits).ok().filter(|bits| bits & !Self::ALL.0 == 0).map(Self)
    }

    /// The store's number.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From the numbers in a message. What is no scope that this version knows is left out: nobody can ask for it either.
    pub fn from_proto(numbers: &[i32]) -> Self {
        numbers.iter().filter_map(|number| Scope::from_proto(*number)).collect()
    }

    /// The numbers in a message.
    pub fn to_proto(self) -> Vec<i32> {
        self.iter().map(|scope| scope.to_proto().into()).collect()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Itself, unless there is none.
    pub fn not_empty(self) -> Result<Self, Invalid> {
        if self.is_empty() {
            return Err(Invalid(format!("must name at least one of {}", Scope::listed(", "))));
        }
        Ok(self)
    }

    /// Whether this scope, or all of these, are among them.
    pub fn contains(self, scopes: impl Into<Self>) -> bool {
        let scopes = scopes.into();
        self.0 & scopes.0 == scopes.0
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// The names, in ascending order.
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
