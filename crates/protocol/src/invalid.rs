//! What is wrong with a value, in words.

/// What is wrong with a value and what is allowed, in words for its sender. Never repeats the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// An explanation.
    pub fn new(explanation: impl Into<String>) -> Self {
        Self(explanation.into())
    }
}

/// Names for a sentence, with `last` before the last one: `read, capture or admin` with `" or "`.
pub fn listed(names: &[&str], last: &str) -> String {
    match names {
        [before @ .., end] if !before.is_empty() => format!("{}{last}{end}", before.join(", ")),
        _ => names.concat(),
    }
}
