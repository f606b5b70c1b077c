//! Which record of a file is of this token? To be asked before an import, with a token that is known: a file of digests that
//! were made in another way looks just as good.

use std::io::BufRead;

use super::names::Reading;
use super::reader::Reader;
use super::{TransferError, TransferFormat, digest_text};
use crate::model::Digest;

/// The lines on which the records of this token begin, and how many records there are. Nothing is written anywhere.
///
/// # Errors
/// Those of the input. A record that is bad is nobody's.
pub fn find_token<R: BufRead>(
    input: R,
    format: TransferFormat,
    reading: Reading,
    token: &str,
) -> Result<(Vec<u64>, u64), TransferError> {
    let digest = Digest::of(token);
    let mut reader = Reader::new(input, format, reading)?;
    let (mut found, mut records) = (Vec::new(), 0);
    while let Some((line, record)) = reader.next()? {
        records += 1;
        let Ok(record) = record else { continue };
        let of = record.digest.as_deref().and_then(digest_text::parse);
        let of = of.or_else(|| record.token.as_ref().map(|token| Digest::of(&token.0)));
        if of.is_some_and(|of| of.equals(&digest)) {
            found.push(line);
        }
    }
    Ok((found, records))
}
