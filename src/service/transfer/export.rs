//! Export: every credential of an owner who is not deleted, with its digest, oldest first, in the format that import reads.

use std::io::Write;

use serde_json::json;

use super::super::audit::Entry;
use super::super::commit::Effect;
use super::super::{Context, Service};
use super::record::Record;
use super::{Column, TransferError, TransferFormat};
use crate::model::limits::IMPORT_BATCH;
use crate::model::{AuditTarget, UserId, WorkspaceId};
use crate::store::{ExportFilter, StoredCredential};

/// The columns of a CSV file: those of the format but the token, which nobody has any longer.
const EXPORTED: fn(&Column) -> bool = |column| *column as u8 != Column::Token as u8;

impl Service {
    /// Writes them; how many. Each batch is of one moment and the whole is not: what is made meanwhile comes last.
    pub async fn export(
        &self,
        context: &Context,
        filter: &ExportFilter,
        format: TransferFormat,
        output: &mut (dyn Write + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<u64, TransferError> {
        let mut line = String::new();
        if format == TransferFormat::Csv {
            let names: Vec<_> =
                Column::ALL.into_iter().filter(EXPORTED).map(Column::as_str).collect();
            writeln!(output, "{}", names.join(",")).map_err(TransferError::output)?;
        }
        let mut count = 0;
        let mut after = None;
        loop {
            let batch =
                self.store.export_credentials(filter, after, u32::from(IMPORT_BATCH)).await?;
            for stored in &batch {
                line.clear();
                push(&mut line, stored, format);
                line.push('\n');
                output.write_all(line.as_bytes()).map_err(TransferError::output)?;
            }
            count += batch.len() as u64;
            progress(count);
            match batch.last() {
                Some(last) if batch.len() == usize::from(IMPORT_BATCH) => {
                    after = Some(last.credential.id);
                }
                _ => break,
            }
        }
        output.flush().map_err(TransferError::output)?;
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
            action: "credential.export",
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
        let committed = self.commit(tx, &event).await?;
        Ok(self.settle(context, Effect::Neutral, committed.done(())).await?)
    }
}

fn push(line: &mut String, stored: &StoredCredential, format: TransferFormat) {
    let mut record = Record::of(stored);
    match format {
        TransferFormat::Jsonl => record.push_json(line),
        TransferFormat::Csv => {
            for (i, column) in Column::ALL.into_iter().filter(EXPORTED).enumerate() {
                if i > 0 {
                    line.push(',');
                }
                record.push_field(column, line);
            }
        }
    }
}
