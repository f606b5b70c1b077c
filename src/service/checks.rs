//! Checks fields at the edge and gathers all that is wrong, so that a caller learns it in one go.

use super::{FieldViolation, Result, ServiceError};
use crate::model::Invalid;

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Notes what is wrong with a field.
    pub fn add(&mut self, field: &str, description: impl Into<String>) {
        self.0.push(FieldViolation { field: field.to_owned(), description: description.into() });
    }

    /// The value, or a note of what is wrong with it.
    pub fn check<T>(&mut self, field: &str, parsed: std::result::Result<T, Invalid>) -> Option<T> {
        parsed.map_err(|Invalid(description)| self.add(field, description)).ok()
    }

    /// Nothing, if nothing is wrong.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ServiceError::invalid(self.0)) }
    }

    /// The failure; for where a value is missing that was not noted by name.
    pub fn into_error(self) -> ServiceError {
        ServiceError::invalid(self.0)
    }
}
