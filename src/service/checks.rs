//! Validation of request fields. Collects all violations, so that a caller sees them in one answer.

use super::{FieldViolation, Result, ServiceError};
use crate::model::Invalid;

/// Number of violations that are listed. A batch can have tens of thousands, and the answer would be larger than any
/// client accepts.
const LISTED_MAX: usize = 32;

/// Violations found in a request so far.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Adds a violation, unless many are listed already.
    pub fn add(&mut self, field: &str, description: impl Into<String>) {
        let description = match self.0.len() {
            0..LISTED_MAX => description.into(),
            LISTED_MAX => {
                "is invalid, and perhaps more fields are, which are not listed".to_owned()
            }
            _ => return,
        };
        self.0.push(FieldViolation { field: field.to_owned(), description });
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
