//! The error of a value that is not allowed.

/// Describes which values are allowed, for the sender of an invalid one. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// An error with this explanation.
    pub fn new(explanation: impl Into<String>) -> Self {
        Self(explanation.into())
    }
}

/// Joins names for a sentence, with `last` before the last one: `a, b or c` with `" or "`.
pub fn join_names(names: &[&str], last: &str) -> String {
    match names {
        [before @ .., end] if !before.is_empty() => format!("{}{last}{end}", before.join(", ")),
        _ => names.concat(),
    }
}
