//! What a server can answer now. The server finds it out, and the faces report it.

/// The kinds of requests that a server can answer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Introspections, from the store or from memory.
    pub introspection: bool,
    /// Management calls, which need a writable store.
    pub management: bool,
}

impl Readiness {
    /// Not ready yet, or stopping.
    pub const NONE: Self = Self { introspection: false, management: false };
}
