//! Export of a whole deployment: the directory, credentials and callers.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use serde::Serialize;
use serde_json::json;

use super::super::audit::Entry;
use super::super::commit::Effect;
use super::super::{Context, Service};
use super::TransferError;
use super::deployment::{
    CallerRecord, DeploymentRecord, MembershipRecord, TaggedCredential, UserRecord, VERSION,
    WorkspaceRecord,
};
use super::record::Record;
use super::restricted::keep_existing;
use crate::model::limits::IMPORT_LINES_PER_BATCH;
use crate::model::{AuditAction, AuditTarget, Owner, UserId, WorkspaceId};
use crate::store::ExportFilter;

const RECORDS_PER_PAGE: u32 = IMPORT_LINES_PER_BATCH as u32;

/// The output and what was written to it. Only the owners are remembered. They are needed because a credential created
/// during the export may belong to an owner that was created after the owners were written.
struct DeploymentExport<'o> {
    output: &'o mut (dyn Write + Send),
    progress: &'o mut (dyn FnMut(u64) + Send),
    records: u64,
    /// With the generation of each.
    workspaces: HashMap<WorkspaceId, i64>,
    users: HashSet<UserId>,
}

impl DeploymentExport<'_> {
    fn line(&mut self, record: &impl Serialize) -> Result<(), TransferError> {
        // A struct of strings, numbers and flags always serializes.
        let line = serde_json::to_string(record).unwrap_or_default();
        writeln!(self.output, "{line}").map_err(TransferError::output)
    }

    fn record(&mut self, record: &impl Serialize) -> Result<(), TransferError> {
        self.records += 1;
        self.line(record)
    }
}

impl Service {
    /// Writes all workspaces, users, memberships, credentials and callers, and returns their number. Each page is a
    /// consistent snapshot, but the whole export is not. For a consistent export, stop all writes.
    pub async fn export_deployment(
        &self,
        context: &Context,
        output: &mut (dyn Write + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<u64, TransferError> {
        let (workspaces, users) = (HashMap::new(), HashSet::new());
        let mut export = DeploymentExport { output, progress, records: 0, workspaces, users };
        let time = self.clock.now().to_string();
        export.line(&DeploymentRecord::Deployment { version: VERSION, time })?;
        self.write_directory(&mut export).await?;
        self.write_credentials(&mut export).await?;
        let mut after = None;
        loop {
            let callers = self.store.list_callers(after, RECORDS_PER_PAGE).await?;
            for caller in &callers {
                export.record(&DeploymentRecord::Caller(CallerRecord::of(caller)))?;
            }
            (export.progress)(export.records);
            after = callers.last().map(|caller| caller.id);
            if callers.len() < RECORDS_PER_PAGE as usize {
                break;
            }
        }
        let records = export.records;
        export.line(&DeploymentRecord::End { records })?;
        export.output.flush().map_err(TransferError::output)?;
        let entry = Entry {
            action: AuditAction::StoreExport,
            target: AuditTarget::Store,
            acting_user: None,
            before: None,
            after: Some(json!({"records": records})),
            reason: None,
        };
        let event = self.audit_event(context, entry)?;
        let tx = self.begin("export_deployment").await?;
        let committed = self.commit_event(tx, &event).await?;
        Ok(self.settle(context, Effect::Neutral, committed.done(records)).await?)
    }

    async fn write_directory(
        &self,
        export: &mut DeploymentExport<'_>,
    ) -> Result<(), TransferError> {
        let mut after: Option<WorkspaceId> = None;
        loop {
            let page = self.store.list_workspaces(after.as_ref(), RECORDS_PER_PAGE).await?;
            let Some((first, last)) = page.first().zip(page.last()) else { break };
            let policies = self.store.list_workspace_policies(&first.id, &last.id).await?;
            for workspace in &page {
                let policy = policies.iter().find(|(id, _)| *id == workspace.id);
                let record = WorkspaceRecord::of(workspace, policy.map(|(_, policy)| policy));
                export.record(&DeploymentRecord::Workspace(record))?;
                export.workspaces.insert(workspace.id.clone(), workspace.generation);
            }
            (export.progress)(export.records);
            after = Some(last.id.clone());
        }
        let mut after: Option<UserId> = None;
        loop {
            let page = self.store.list_users(after.as_ref(), RECORDS_PER_PAGE).await?;
            let Some(last) = page.last() else { break };
            for user in &page {
                export.record(&DeploymentRecord::User(UserRecord::of(user)))?;
                export.users.insert(user.id.clone());
            }
            (export.progress)(export.records);
            after = Some(last.id.clone());
        }
        let mut after: Option<(WorkspaceId, UserId)> = None;
        loop {
            let place = after.as_ref().map(|(workspace, user)| (workspace, user));
            let page = self.store.list_memberships(None, None, place, RECORDS_PER_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.workspace_id.clone(), last.user_id.clone()));
            for membership in &page {
                if export.workspaces.contains_key(&membership.workspace_id)
                    && export.users.contains(&membership.user_id)
                {
                    export
                        .record(&DeploymentRecord::Membership(MembershipRecord::of(membership)))?;
                }
            }
            (export.progress)(export.records);
        }
        Ok(())
    }

    async fn write_credentials(
        &self,
        export: &mut DeploymentExport<'_>,
    ) -> Result<(), TransferError> {
        let mut after = None;
        loop {
            let mut page = self
                .store
                .export_credentials(&ExportFilter::default(), after, RECORDS_PER_PAGE)
                .await?;
            for stored in &mut page {
                let known = match &stored.credential.owner {
                    Owner::Workspace(id) => export.workspaces.contains_key(id),
                    Owner::User { id, .. } => export.users.contains(id),
                };
                if !known {
                    continue;
                }
                // An entry of a workspace that is not in the file could not be imported.
                keep_existing(&mut stored.credential, &export.workspaces);
                export.record(&TaggedCredential::of(&Record::of(stored)))?;
            }
            (export.progress)(export.records);
            after = page.last().map(|last| last.credential.id);
            if page.len() < RECORDS_PER_PAGE as usize {
                return Ok(());
            }
        }
    }
}
