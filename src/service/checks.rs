//! Validation of request fields. Collects all violations, so that a caller sees them in one answer.

use super::{FieldViolation, Result, ServiceError};
use crate::model::Invalid;

/// Violations found in a request so far.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Adds a violation.
    pub fn add(&mut self, field: &str, description: impl Into<String>) {
        self.0.push(FieldViolation { field: field.to_owned(), description: description.into() });
    }

    /// Returns the parsed value. Adds a violation if it is invalid.
    pub fn check<T>(&mut self, field: &str, parsed: std::result::Result<T, Invalid>) -> Option<T> {
        parsed.map_err(|Invalid(description)| self.add(field, description)).ok()
    }

    /// Returns an error if there are violations.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ServiceError::invalid(self.0)) }
    }

    /// Returns the error. For code that lacks a value because [`Self::check`] has added a violation.
    pub fn into_error(self) -> ServiceError {
        ServiceError::invalid(self.0)
    }
}
