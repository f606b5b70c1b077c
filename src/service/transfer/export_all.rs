//! Export of everything that an import can bring back: the directory, credentials and callers.

use std::collections::HashSet;
use std::io::Write;

use serde::Serialize;
use serde_json::json;

use super::super::audit::Entry;
use super::super::commit::Effect;
use super::super::{Context, Service};
use super::TransferError;
use super::deployment::{
    CallerSaid, CredentialSaid, MembershipSaid, Said, UserSaid, VERSION, WorkspaceSaid,
};
use super::record::Record;
use crate::model::limits::IMPORT_BATCH;
use crate::model::{AuditAction, AuditTarget, Owner, UserId, WorkspaceId};
use crate::store::ExportFilter;

const PAGE: u32 = IMPORT_BATCH as u32;

/// Where it goes, and what went there. The owners are remembered, since what is made meanwhile may be of one who was not there
/// when the owners were written; nothing else is.
struct Writing<'o> {
    output: &'o mut (dyn Write + Send),
    progress: &'o mut (dyn FnMut(u64) + Send),
    records: u64,
    workspaces: HashSet<WorkspaceId>,
    users: HashSet<UserId>,
}

impl Writing<'_> {
    fn line(&mut self, said: &impl Serialize) -> Result<(), TransferError> {
        // Structs of strings, numbers and flags are always JSON.
        let line = serde_json::to_string(said).unwrap_or_default();
        writeln!(self.output, "{line}").map_err(TransferError::output)
    }

    fn record(&mut self, said: &impl Serialize) -> Result<(), TransferError> {
        self.records += 1;
        self.line(said)
    }
}

impl Service {
    /// Writes all workspaces, users, memberships, credentials and callers; how many. Each page is of one moment and the whole is
    /// not: stop writing, or export again.
    pub async fn export_deployment(
        &self,
        context: &Context,
        output: &mut (dyn Write + Send),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<u64, TransferError> {
        let (workspaces, users) = (HashSet::new(), HashSet::new());
        let mut writing = Writing { output, progress, records: 0, workspaces, users };
        let time = self.clock.now().to_string();
        writing.line(&Said::Deployment { version: VERSION, time })?;
        self.write_directory(&mut writing).await?;
        self.write_credentials(&mut writing).await?;
        let mut after = None;
        loop {
            let callers = self.store.list_callers(after, PAGE).await?;
            for caller in &callers {
                writing.record(&Said::Caller(CallerSaid::of(caller)))?;
            }
            (writing.progress)(writing.records);
            after = callers.last().map(|caller| caller.id);
            if callers.len() < PAGE as usize {
                break;
            }
        }
        let records = writing.records;
        writing.line(&Said::End { records })?;
        writing.output.flush().map_err(TransferError::output)?;
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
        let committed = self.commit(tx, &event).await?;
        Ok(self.settle(context, Effect::Neutral, committed.done(records)).await?)
    }

    async fn write_directory(&self, writing: &mut Writing<'_>) -> Result<(), TransferError> {
        let mut after: Option<WorkspaceId> = None;
        loop {
            let page = self.store.list_workspaces(after.as_ref(), PAGE).await?;
            let Some((first, last)) = page.first().zip(page.last()) else { break };
            let policies = self.store.list_workspace_policies(&first.id, &last.id).await?;
            for workspace in &page {
                let policy = policies.iter().find(|(id, _)| *id == workspace.id);
                let said = WorkspaceSaid::of(workspace, policy.map(|(_, policy)| policy));
                writing.record(&Said::Workspace(said))?;
                writing.workspaces.insert(workspace.id.clone());
            }
            (writing.progress)(writing.records);
            after = Some(last.id.clone());
        }
        let mut after: Option<UserId> = None;
        loop {
            let page = self.store.list_users(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            for user in &page {
                writing.record(&Said::User(UserSaid::of(user)))?;
                writing.users.insert(user.id.clone());
            }
            (writing.progress)(writing.records);
            after = Some(last.id.clone());
        }
        let mut after: Option<(WorkspaceId, UserId)> = None;
        loop {
            let place = after.as_ref().map(|(workspace, user)| (workspace, user));
            let page = self.store.list_memberships(None, None, place, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.workspace_id.clone(), last.user_id.clone()));
            for membership in &page {
                if writing.workspaces.contains(&membership.workspace_id)
                    && writing.users.contains(&membership.user_id)
                {
                    writing.record(&Said::Membership(MembershipSaid::of(membership)))?;
                }
            }
            (writing.progress)(writing.records);
        }
        Ok(())
    }

    async fn write_credentials(&self, writing: &mut Writing<'_>) -> Result<(), TransferError> {
        let mut after = None;
        loop {
            let page = self.store.export_credentials(&ExportFilter::default(), after, PAGE).await?;
            for stored in &page {
                let known = match &stored.credential.owner {
                    Owner::Workspace(id) => writing.workspaces.contains(id),
                    Owner::User { id, .. } => writing.users.contains(id),
                };
                if !known {
                    continue;
                }
                writing.record(&CredentialSaid::of(&Record::of(stored)))?;
            }
            (writing.progress)(writing.records);
            after = page.last().map(|last| last.credential.id);
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }
}
