//! What can go wrong with a store. No `Other`, and never a bound value in the text.

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something unique is taken.
    #[error("{what} is taken")]
    Conflict {
        /// The constraint.
        what: &'static str,
    },
    /// The database does not answer, or refuses to write for now. Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is in the database could not have been written by this program.
    #[error("the store is corrupt: column {column} of {table}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// The database was migrated by a newer version of this program.
    #[error(
        "the database's schema is at version {found}, and this program knows versions up to {known}: \
         run a newer sophic-auth"
    )]
    SchemaTooNew {
        /// The database's version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The database cannot be used as it is; the text says what to change.
    #[error("{0}")]
    Unusable(String),
    /// A statement touched another number of rows than it must.
    #[error("a statement touched {actual} rows where it must touch {expected}")]
    RowsAffected {
        /// As many as it must.
        expected: u64,
        /// As many as it did.
        actual: u64,
    },
    /// The database refused a statement: a fault of this program.
    #[error("the database refused a statement (code {code})")]
    Refused {
        /// The database's own code.
        code: String,
    },
}
