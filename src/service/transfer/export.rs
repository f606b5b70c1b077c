//! Export of credentials with their digests, oldest first, in the format of the import. Credentials of deleted owners
//! are left out.

use std::io::Write;

use serde_json::json;

use super::super::audit::Entry;
use super::super::commit::Effect;
use super::super::{Context, Service};
use super::record::Record;
use super::restricted::{generations, keep_existing, names_of};
use super::{Column, TransferError, TransferFormat};
use crate::model::limits::IMPORT_LINES_PER_BATCH;
use crate::model::{AuditAction, AuditTarget, UserId, WorkspaceId};
use crate::store::{ExportFilter, StoredCredential};

impl Service {
    /// Writes the credentials and returns their number. Each batch is a consistent snapshot, but the whole export is
    /// not. Credentials created during the export come last.
    pub async fn export(
        &self,
        context: &Context,
        filter: &ExportFilter,
        format: TransferFormat,
        output: &mut (dyn Write + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<u64, TransferError> {
        let mut lines = Output::new(output, format)?;
        let mut count = 0;
        let mut after = None;
        loop {
            let mut batch = self
                .store
                .export_credentials(filter, after, u32::from(IMPORT_LINES_PER_BATCH))
                .await?;
            if let Some(names) = names_of(batch.iter().map(|stored| &stored.credential)) {
                let existing = generations(&self.store.find_imported(&names).await?);
                for stored in &mut batch {
                    keep_existing(&mut stored.credential, &existing);
                }
            }
            for stored in &batch {
                lines.push(stored)?;
            }
            count += batch.len() as u64;
            progress(count);
            match batch.last() {
                Some(last) if batch.len() == usize::from(IMPORT_LINES_PER_BATCH) => {
                    after = Some(last.credential.id);
                }
                _ => break,
            }
        }
        lines.finish()?;
        self.record_export(context, filter, count).await?;
        Ok(count)
    }

    async fn record_export(
        &self,
        context: &Context,
        filter: &ExportFilter,
        count: u64,
    ) -> Result<(), TransferError> {
        let entry = Entry {
            action: AuditAction::CredentialExport,
            target: AuditTarget::Credentials,
            acting_user: None,
            before: None,
            after: Some(json!({
                "credentials": count,
                "workspace_id": filter.workspace_id.as_ref().map(WorkspaceId::as_str),
                "user_id": filter.user_id.as_ref().map(UserId::as_str),
            })),
            reason: None,
        };
        let event = self.audit_event(context, entry)?;
        let tx = self.begin("export").await?;
        let committed = self.commit_event(tx, &event).await?;
        Ok(self.settle(context, Effect::Neutral, committed.done(())).await?)
    }
}

/// Writer for one of the two formats.
enum Output<'o> {
    Csv(Box<csv::Writer<&'o mut (dyn Write + Send)>>),
    Jsonl(&'o mut (dyn Write + Send)),
}

impl<'o> Output<'o> {
    fn new(
        output: &'o mut (dyn Write + Send),
        format: TransferFormat,
    ) -> Result<Self, TransferError> {
        if format == TransferFormat::Jsonl {
            return Ok(Self::Jsonl(output));
        }
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(Column::exported().map(Column::as_str)).map_err(unwritable)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn push(&mut self, stored: &StoredCredential) -> Result<(), TransferError> {
        let mut record = Record::of(stored);
        match self {
            Self::Csv(writer) => {
                let fields = Column::exported().map(|column| record.field(column));
                writer.write_record(fields).map_err(unwritable)
            }
            Self::Jsonl(output) => {
                writeln!(output, "{}", record.to_json()).map_err(TransferError::output)
            }
        }
    }

    fn finish(self) -> Result<(), TransferError> {
        let flushed = match self {
            Self::Csv(mut writer) => writer.flush(),
            Self::Jsonl(output) => output.flush(),
        };
        flushed.map_err(TransferError::output)
    }
}

fn unwritable(error: csv::Error) -> TransferError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => TransferError::output(error),
        other => TransferError::output(std::io::Error::other(format!("{other:?}"))),
    }
}
