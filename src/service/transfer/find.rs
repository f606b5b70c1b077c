//! Search for the record of a known token in a file. Use it before an import: digests that were computed in another way
//! look the same.

use std::io::BufRead;

use super::names::ColumnOptions;
use super::reader::RecordReader;
use super::{TransferError, TransferFormat, digest_text};
use crate::model::Digest;

/// Result of [`find_token`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// Unit of the numbers: `line`, or `element` of an array.
    pub unit: &'static str,
    /// Numbers of the records with this token.
    pub at: Vec<u64>,
    /// Number of records in the file.
    pub records: u64,
}

/// Finds the records with this token. Writes nothing.
///
/// # Errors
/// If the input cannot be read. Bad records are skipped.
pub fn find_token<R: BufRead>(
    input: R,
    format: TransferFormat,
    columns: ColumnOptions,
    token: &str,
) -> Result<FoundToken, TransferError> {
    let digest = Digest::of(token);
    let mut reader = RecordReader::new(input, format, columns)?;
    let mut found = FoundToken { unit: reader.unit(), at: Vec::new(), records: 0 };
    while let Some((line, record)) = reader.next()? {
        found.records += 1;
        let Ok(record) = record else { continue };
        let record_digest = record.digest.as_deref().and_then(digest_text::parse);
        let record_digest =
            record_digest.or_else(|| record.token.as_ref().map(|token| Digest::of(&token.0)));
        if record_digest.is_some_and(|record_digest| record_digest.equals(&digest)) {
            found.at.push(line);
        }
    }
    Ok(found)
}
