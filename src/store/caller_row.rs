//! Decodes rows of callers, as `row.rs` does other rows.

use super::column_reader::{ColumnReader, Columns};
use super::row::ORIGIN_COLUMNS;
use super::{Result, StoreError};
use crate::model::{
    Caller, CallerId, CallerIdentity, CallerName, CertificateSan, PermissionSet, PreviousToken,
    RotationId,
};

impl<R: Columns> ColumnReader<'_, R> {
    fn caller_identity(&mut self) -> Result<CallerIdentity> {
        let digest = self.maybe_digest("digest")?;
        let san = self.maybe_parsed("certificate_san", CertificateSan::parse)?;
        match (digest, san) {
            (Some(digest), None) => Ok(CallerIdentity::Token(digest)),
            (None, Some(san)) => Ok(CallerIdentity::Certificate(san)),
            _ => Err(StoreError::Corrupt { table: "callers", column: "digest" }),
        }
    }

    fn previous_token(&mut self) -> Result<Option<PreviousToken>> {
        let digest = self.maybe_digest("previous_digest")?;
        let expire_time = self.maybe_time("previous_expire_time")?;
        let both = digest.zip(expire_time);
        Ok(both.map(|(digest, expire_time)| PreviousToken { digest, expire_time }))
    }

    fn caller(&mut self) -> Result<Caller> {
        Ok(Caller {
            id: CallerId(self.uuid("id")?),
            name: self.parsed("name", CallerName::parse)?,
            permissions: self.number("permissions", PermissionSet::from_bits)?,
            identity: self.caller_identity()?,
            hint: self.text("hint")?,
            create_time: self.time("create_time")?,
            revoke_time: self.maybe_time("revoke_time")?,
            previous: self.previous_token()?,
            rotation: self.maybe_uuid("rotation_id")?.map(RotationId),
            expire_time: self.maybe_time("expire_time")?,
            last_use: self.last_use()?,
            creator: self.text("creator")?,
            version: self.int("version")?,
        })
    }
}

/// Reads `caller_columns`.
pub(super) fn caller(row: &impl Columns) -> Result<Caller> {
    ColumnReader::new(row, "callers").caller()
}

/// Reads the caller that follows the origin and the revision, or `None` if the row has none.
pub(super) fn caller_after_origin(row: &impl Columns) -> Result<Option<Caller>> {
    let mut columns = ColumnReader { row, table: "callers", next: ORIGIN_COLUMNS };
    if columns.maybe_uuid("id")?.is_none() {
        return Ok(None);
    }
    columns.next = ORIGIN_COLUMNS;
    columns.caller().map(Some)
}
