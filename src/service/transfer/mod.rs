//! Import and export of credentials with their digests, and of whole deployments, as CSV or JSON lines.
//!
//! [`Column`] defines the format. Input is read line by line and written in batches. Only one batch is in memory, so a
//! million lines need no more than a thousand. Reading blocks the thread, which only the command line may do.

mod check;
mod chunks;
mod column;
mod deployment;
mod digest_text;
mod duplicates;
mod elements;
mod epoch;
mod export;
mod export_deployment;
mod find;
mod import;
mod json;
mod line_set;
mod lines;
mod names;
mod reader;
mod record;
mod restricted;
mod spool;
mod strict_csv;
mod time_text;

#[cfg(test)]
mod tests;

pub(crate) use chunks::{ChunkEnd, Chunks};
pub use column::Column;
pub use deployment::DEPLOYMENT_BEGINS;
pub use find::{FoundToken, find_token};
pub use import::{Import, ImportObserver, ImportOptions, ImportPhase, ImportReport};
pub use names::ColumnOptions;

use super::ServiceError;
use crate::store::StoreError;

/// File format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferFormat {
    /// RFC 4180, with the column names in a header.
    Csv,
    /// One object per line. An import also accepts an array of objects.
    Jsonl,
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The input, the output or a temporary file failed.
    #[error("{what}: {source}")]
    Io {
        /// Which of the three, and how.
        what: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The input does not have the format that it should have, so no line of it can be trusted.
    #[error("line {line}: {reason}; nothing is written")]
    Malformed {
        /// Line on which the record begins, or that of the header.
        line: u64,
        /// Description of the error.
        reason: String,
    },
    /// The input has no content.
    #[error("the input is empty")]
    Empty,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Any other error of the service.
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
