//! The `WWW-Authenticate` header (RFC 6750 §3) of each denial. All are constants, so that no answer has to format one.

use crate::{Denial, Lack, ScopeSet, scope::for_scopes};

/// Builds a challenge: bare, or with an error code and its description, and optionally one more parameter.
macro_rules! challenge {
    () => {
        r#"Bearer realm="sophic""#
    };
    ($error:literal, $description:expr $(, $scope:expr)?) => {
        concat!(
            r#"Bearer realm="sophic", error=""#,
            $error,
            r#"", error_description=""#,
            $description,
            '"'
            $(, $scope)?
        )
    };
}
pub(crate) use challenge;

/// The challenge of a request whose workspace header is malformed: [`workspace`](crate::headers::workspace).
pub(crate) const WORKSPACE_MALFORMED: &str =
    challenge!("invalid_request", "send x-sophic-workspace once");

impl Denial {
    /// Returns the `WWW-Authenticate` header. `lack` and `required` are used only for [`Self::InsufficientScope`].
    pub fn challenge(self, lack: Option<Lack>, required: ScopeSet) -> &'static str {
        if self != Self::InsufficientScope {
            // RFC 6750 §3.1 allows no error code if no token was presented. For most other denials it has no fitting
            // code: the token is valid and another of its kind would not help, or the token was not looked up.
            return self.plain_challenge();
        }
        let texts = match lack {
            None | Some(Lack::Token) => &TOKEN_LACKS,
            Some(Lack::MaxRole) => &MAX_ROLE_LACKS,
            Some(Lack::Role) => &ROLE_LACKS,
        };
        texts[usize::from(required.bits() & ScopeSet::ALL.bits())]
    }
}

/// The explanation of a lack, as a literal.
macro_rules! lack_text {
    (Token) => {
        "the token lacks a required scope"
    };
    (MaxRole) => {
        "the token's max_role does not allow a required scope"
    };
    (Role) => {
        "the user's role in this workspace does not allow a required scope"
    };
}
pub(crate) use lack_text;

/// Builds one challenge. Without required scopes there is no `scope` parameter, since RFC 6750 has no empty list.
macro_rules! insufficient_scope {
    ($lack:ident) => {
        challenge!("insufficient_scope", lack_text!($lack))
    };
    ($lack:ident $first:literal $($name:literal)*) => {
        challenge!(
            "insufficient_scope",
            lack_text!($lack),
            concat!(r#", scope=""#, $first, $(" ", $name,)* '"')
        )
    };
}

/// Builds the challenges for all sets of scopes, indexed by the bits of the set. Each scope doubles the number of sets.
macro_rules! every_set {
    ($lack:ident [$([$($in:literal)*])*]) => {
        [$(insufficient_scope!($lack $($in)*)),*]
    };
    ($lack:ident [$([$($in:literal)*])*] $next:literal $($rest:literal)*) => {
        every_set!($lack [$([$($in)*])* $([$($in)* $next])*] $($rest)*)
    };
}

macro_rules! tables {
    ($(#[$doc:meta] $variant:ident, $constant:ident, $bit:literal, $name:literal, $role:ident;)+) => {
        const TOKEN_LACKS: Table = every_set!(Token [[]] $($name)+);
        const MAX_ROLE_LACKS: Table = every_set!(MaxRole [[]] $($name)+);
        const ROLE_LACKS: Table = every_set!(Role [[]] $($name)+);
    };
}

type Table = [&'static str; ScopeSet::ALL.bits() as usize + 1];
for_scopes!(tables);
