//! Which record of a file is of this token? To be asked before an import, with a token that is known: a file of digests that
//! were made in another way looks just as good.

use std::io::BufRead;

use super::names::ColumnOptions;
use super::reader::Reader;
use super::{TransferError, TransferFormat, digest_text};
use crate::model::Digest;

/// What [`find_token`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// What the numbers are of: `line`, or `element` of an array.
    pub unit: &'static str,
    /// Where the records of the token begin.
    pub at: Vec<u64>,
    /// How many records there are in all.
    pub records: u64,
}

/// Where in the input the records of this token are. Nothing is written anywhere.
///
/// # Errors
/// Those of the input. A record that is bad is nobody's.
pub fn find_token<R: BufRead>(
    input: R,
    format: TransferFormat,
    columns: ColumnOptions,
    token: &str,
) -> Result<FoundToken, TransferError> {
    let digest = Digest::of(token);
    let mut reader = Reader::new(input, format, columns)?;
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
