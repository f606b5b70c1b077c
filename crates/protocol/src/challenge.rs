//! The `WWW-Authenticate` header (RFC 6750 §3) of each refusal: constant text, so that no answer formats any.

use crate::{Denial, Lack, ScopeSet, scope::for_scopes};

/// A challenge: with an error code and its description, if there are any, and a last parameter, if there is one.
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

/// The challenge of a request that names no workspace that could be read: [`workspace`](crate::headers::workspace).
pub(crate) const WORKSPACE_MALFORMED: &str =
    challenge!("invalid_request", "send x-sophic-workspace once");

impl Denial {
    /// The `WWW-Authenticate` header of the refusal. `lack` and the scopes that were asked for count only where it is
    /// [`Self::InsufficientScope`].
    pub fn challenge(self, lack: Option<Lack>, required: ScopeSet) -> &'static str {
        if self != Self::InsufficientScope {
            // RFC 6750 §3.1 wants no error code where no token was presented, and has none for most others: the token is
            // good, and no other token of its kind would help; or nothing is known of it.
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

/// What a lack is called, as literal text.
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

/// One challenge. Where no scope was required none can be lacking; RFC 6750 has no empty list, so none is written.
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

/// A challenge for every set of scopes, by its bits: each scope doubles the sets before it.
macro_rules! every_set {
    ($lack:ident [$([$($in:literal)*])*]) => {
        [$(insufficient_scope!($lack $($in)*)),*]
    };
    ($lack:ident [$([$($in:literal)*])*] $next:literal $($rest:literal)*) => {
        every_set!($lack [$([$($in)*])* $([$($in)* $next])*] $($rest)*)
    };
}

macro_rules! tables {
    ($(#[$doc:meta] $variant:ident, $constant:ident, $bit:literal, $name:literal;)+) => {
        const TOKEN_LACKS: Table = every_set!(Token [[]] $($name)+);
        const MAX_ROLE_LACKS: Table = every_set!(MaxRole [[]] $($name)+);
        const ROLE_LACKS: Table = every_set!(Role [[]] $($name)+);
    };
}

type Table = [&'static str; ScopeSet::ALL.bits() as usize + 1];
for_scopes!(tables);
