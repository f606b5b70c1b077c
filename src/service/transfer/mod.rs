//! Import and export: credentials with their digests, as CSV or JSON lines, between a store and everything else.
//!
//! [`Column`] is the format. Input is read line by line and written in batches, and nothing is held but a batch: a
//! million lines take no more memory than a thousand. Reading blocks; it is the command line that does this.

mod check;
mod column;
mod deployment;
mod digest_text;
mod duplicates;
mod elements;
mod epoch;
mod export;
mod export_all;
mod find;
mod import;
mod json;
mod line_set;
mod lines;
mod names;
mod pieces;
mod reader;
mod record;
mod spool;
mod strict;
mod when;

#[cfg(test)]
mod tests;

pub use column::Column;
pub use deployment::DEPLOYMENT_BEGINS;
pub use find::{FoundToken, find_token};
pub use import::{Import, ImportOptions, ImportPhase, ImportReport, ImportWatch};
pub use names::Reading;
pub(crate) use pieces::{End, Pieces};

use super::ServiceError;
use crate::store::StoreError;

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferFormat {
    /// RFC 4180, with a header that names the columns.
    Csv,
    /// An object for each line; an array of objects is read as well.
    Jsonl,
}

/// Why a transfer stopped.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The input, the output or a temporary file.
    #[error("{what}: {source}")]
    Io {
        /// Which of them.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The input is not what it was said to be, so that nothing of it can be believed.
    #[error("line {line}: {reason}; nothing is written")]
    Malformed {
        /// Where the record begins, or the header.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing in the input.
    #[error("the input is empty: there is not even a header")]
    Empty,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rest.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl TransferError {
    const fn input(source: std::io::Error) -> Self {
        Self::Io { what: "the input cannot be read", source }
    }

    const fn output(source: std::io::Error) -> Self {
        Self::Io { what: "the output cannot be written", source }
    }

    const fn temporary(source: std::io::Error) -> Self {
        Self::Io { what: "a temporary file cannot be used (TMPDIR says where they are)", source }
    }
}
