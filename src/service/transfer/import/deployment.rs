//! Import of a whole deployment in one transaction. A record that exists and is equal is skipped. A record that exists
//! and differs is a conflict, and then nothing is written.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::super::audit::Entry;
use super::super::super::commit::{Effect, Transaction};
use super::super::super::directory::workspaces::{NameClaim, claim_names};
use super::super::super::{Context, Kind, Service, call_context, view};
use super::super::TransferError;
use super::super::check::LineError;
use super::super::deployment::DeploymentRecord;
use super::super::restricted::{generations, keep_existing, names_of};
use super::super::spool::SpoolReader;
use super::narrowing::{Narrowing, Removed};
use super::stage::Staged;
use super::write::Batch;
use super::{ImportObserver, ImportOptions, ImportPhase, ImportReport, Tally};
use crate::model::limits::IMPORT_LINES_PER_BATCH;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, Caller, Clock, CredentialId, Invalid, Membership, User,
    Workspace, WorkspacePolicy,
};
use crate::store::{Lock, StoreError, StoredCredential};

/// A new workspace takes a slug that may have belonged to another one. No replica may still resolve the slug to the
/// other one.
const EFFECT: Effect = Effect::Narrows;
/// A deployment is always imported in one transaction.
const OPTIONS: ImportOptions =
    ImportOptions { all_or_nothing: true, dry_run: false, create_missing: false };

/// Outcome of a record.
enum RecordOutcome {
    /// It was written. The fields are for the audit event.
    Written(AuditAction, AuditTarget, Value),
    /// It exists and is equal.
    Unchanged,
    /// It exists and differs, or cannot be written.
    Rejected(LineError),
    /// Inserting it failed with a conflict, after which the transaction cannot be used.
    Conflict(LineError),
}

/// State of an import: its transaction, and its results so far.
struct DeploymentImport<'w> {
    tx: Transaction,
    tally: &'w mut Tally,
    observer: &'w mut dyn ImportObserver,
    /// What was removed from the store and must not come back.
    removed: Removed,
    events: Vec<AuditEvent>,
    written: u64,
    done: u64,
}

impl Service {
    /// Imports a file that [`Self::export_deployment`] wrote.
    ///
    /// # Errors
    /// If the input or the store fails, or if the file is incomplete. Bad and conflicting records are reported, and
    /// then nothing is written.
    pub async fn import_deployment<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        input: R,
        dry_run: bool,
        observer: &mut dyn ImportObserver,
    ) -> Result<ImportReport, TransferError> {
        let importing = Box::pin(self.import_whole(context, input, dry_run, observer));
        call_context::run(context.deadline, importing).await
    }

    async fn import_whole<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        input: R,
        dry_run: bool,
        observer: &mut dyn ImportObserver,
    ) -> Result<ImportReport, TransferError> {
        let mut tally = Tally::new("line");
        let staged = self.stage(context, input, observer, &mut tally)?;
        let nothing = "there are bad records, and a deployment is imported in full or not at all";
        if tally.bad.len() > 0 {
            return Ok(tally.report(0, Some(nothing)));
        }
        let Staged { directory, credentials, callers } = staged;
        let removed = self.load_removed().await?;
        let mut tx = self.begin("import_deployment").await?;
        if tally.needs_new_rules {
            Self::require_new_rules(&mut *tx).await?;
        }
        let (events, tally) = (Vec::new(), &mut tally);
        let mut import =
            DeploymentImport { tx, tally, observer, removed, events, written: 0, done: 0 };
        import.tx.lock_workspace_names().await?;
        self.import_spooled(context, &mut import, directory.read()?).await?;
        let mut spooled = credentials.read()?;
        loop {
            let batch = self.next_batch(context, import.tally, &mut spooled)?;
            if batch.is_empty() {
                break;
            }
            self.put_credentials(context, &mut import, batch).await?;
        }
        self.import_spooled(context, &mut import, callers.read()?).await?;
        let DeploymentImport { mut tx, tally, events, written, .. } = import;
        if tally.bad.len() > 0 {
            return Ok(tally.report(0, Some(nothing)));
        }
        if dry_run {
            return Ok(tally.report(0, Some("it was a dry run")));
        }
        let report = tally.report(written, None);
        if written == 0 {
            // An earlier run may have written everything without waiting for the replicas to the end.
            drop(tx);
            let nothing = self.nothing_to_commit().await?;
            return Ok(self.settle(context, EFFECT, nothing.done(report)).await?);
        }
        tx.insert_audit_events(&events).await?;
        let entry = Entry {
            action: AuditAction::StoreImport,
            target: AuditTarget::Store,
            acting_user: None,
            before: None,
            after: Some(json!({"records": written, "already_there": report.existing})),
            reason: None,
        };
        let committed = self.commit(tx, &self.audit_event(context, entry)?).await?;
        Ok(self.settle(context, EFFECT, committed.done(report)).await?)
    }

    async fn import_spooled(
        &self,
        context: &Context,
        import: &mut DeploymentImport<'_>,
        mut records: SpoolReader,
    ) -> Result<(), TransferError> {
        let damaged = |_| TransferError::temporary(std::io::ErrorKind::InvalidData.into());
        while let Some((line, record)) = records.next(|text| serde_json::from_str(text).ok())? {
            let outcome = match record {
                DeploymentRecord::Workspace(record) => {
                    let (workspace, policy) = record.read().map_err(damaged)?;
                    put_workspace(&mut import.tx, workspace, policy, &*self.clock).await?
                }
                DeploymentRecord::User(record) => {
                    put_user(&mut import.tx, record.read().map_err(damaged)?).await?
                }
                DeploymentRecord::Membership(record) => {
                    let record = record.read().map_err(damaged)?;
                    put_membership(&mut import.tx, &import.removed, record).await?
                }
                DeploymentRecord::Caller(record) => {
                    put_caller(&mut import.tx, record.read().map_err(damaged)?).await?
                }
                DeploymentRecord::Deployment { .. } | DeploymentRecord::End { .. } => continue,
            };
            match outcome {
                RecordOutcome::Unchanged => {
                    import.tally.existing.insert(line);
                }
                RecordOutcome::Rejected(bad) => import.tally.bad(import.observer, line, &bad),
                RecordOutcome::Conflict(bad) => {
                    import.tally.bad(import.observer, line, &bad);
                    return Ok(());
                }
                RecordOutcome::Written(action, target, after) => {
                    let reason = Some("imported with a deployment");
                    let (acting_user, before, after) = (None, None, Some(after));
                    let entry = Entry { action, target, acting_user, before, after, reason };
                    import.events.push(self.audit_event(context, entry)?);
                    import.written += 1;
                }
            }
            if import.events.len() >= usize::from(IMPORT_LINES_PER_BATCH) {
                import.tx.insert_audit_events(&import.events).await?;
                import.events.clear();
            }
            import.done += 1;
            import.observer.progress(ImportPhase::Write, import.done, Some(import.tally.lines));
        }
        Ok(())
    }

    async fn put_credentials(
        &self,
        context: &Context,
        import: &mut DeploymentImport<'_>,
        batch: Batch,
    ) -> Result<(), TransferError> {
        let count = batch.len() as u64;
        let (purged, batch) = split_purged(import, batch).await?;
        for (line, id) in purged {
            import.tally.existing.insert(line);
            let what = format!("credential {id} was purged here, and is not imported again");
            import.tally.kept(import.observer, line, &what);
        }
        let outcome = self.write_batch_in(&mut *import.tx, context, OPTIONS, &batch).await?;
        import.tally.note_existing(&outcome.existing);
        for (line, bad) in outcome.bad {
            import.tally.bad(import.observer, line, &bad);
        }
        compare(import, &outcome.existing).await?;
        if let Some(event) = outcome.event {
            import.tx.insert_audit_events(std::slice::from_ref(&event)).await?;
        }
        import.written += outcome.written;
        import.done += count;
        import.observer.progress(ImportPhase::Write, import.done, Some(import.tally.lines));
        Ok(())
    }
}

/// Splits off the credentials that are not revoked in the file but were purged here.
async fn split_purged(
    import: &mut DeploymentImport<'_>,
    batch: Batch,
) -> Result<(Vec<(u64, CredentialId)>, Batch), TransferError> {
    let may_be = |stored: &&StoredCredential| import.removed.has_credential(&stored.credential);
    let ids = batch.iter().map(|(_, stored)| stored).filter(may_be);
    let ids: Vec<_> = ids.map(|stored| stored.credential.id).collect();
    if ids.is_empty() {
        return Ok((Vec::new(), batch));
    }
    // A credential that an earlier import brought back has a row, and is compared like any other.
    let found: HashSet<_> =
        import.tx.find_credentials(&ids).await?.iter().map(|found| found.id).collect();
    let is_purged = |id: CredentialId| ids.contains(&id) && !found.contains(&id);
    let (purged, rest): (Batch, Batch) =
        batch.into_iter().partition(|(_, stored)| is_purged(stored.credential.id));
    Ok((purged.iter().map(|(line, stored)| (*line, stored.credential.id)).collect(), rest))
}

/// Checks that the credentials that exist are the same and have no more rights than in the file. Those with fewer
/// rights keep them, which is reported.
async fn compare(
    import: &mut DeploymentImport<'_>,
    existing: &[(u64, StoredCredential)],
) -> Result<(), TransferError> {
    if existing.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = existing.iter().map(|(_, stored)| stored.credential.id).collect();
    let mut found = import.tx.find_credentials(&ids).await?;
    if let Some(names) = names_of(found.iter()) {
        let workspaces = generations(&import.tx.peek_imported(&names).await?);
        for found in &mut found {
            keep_existing(found, &workspaces);
        }
    }
    let found: HashMap<_, _> = found.iter().map(|found| (found.id, found)).collect();
    for (line, stored) in existing {
        let id = stored.credential.id;
        let reason = if let Some(found) = found.get(&id) {
            let Narrowing { here, in_file } = Narrowing::of(found, &stored.credential);
            if in_file.is_empty() && here.is_empty() {
                continue;
            }
            if in_file.is_empty() {
                let what = here.join(", ");
                let what =
                    format!("credential {id} is {what} here but not in the file, and stays so");
                import.tally.kept(import.observer, *line, &what);
                continue;
            }
            let what = in_file.join(", ");
            let first = if in_file == ["revoked"] { "revoke it first" } else { "change it first" };
            format!("credential: it is {what} in the file but not here: {first}")
        } else {
            "credential: a credential with another id has its digest here".to_owned()
        };
        import.tally.bad(import.observer, *line, &Invalid::new(reason).into());
    }
    Ok(())
}

async fn put_caller(tx: &mut Transaction, wanted: Caller) -> Result<RecordOutcome, TransferError> {
    if let Some(found) = tx.find_caller(wanted.id, Lock::Update).await? {
        return Ok(differs(
            "caller",
            &[
                ("name", found.name != wanted.name),
                ("permissions", found.permissions != wanted.permissions),
                ("digest or certificate_san", found.identity != wanted.identity),
                ("previous_digest", found.previous != wanted.previous),
                ("expire_time", found.expire_time != wanted.expire_time),
                revoked(found.revoke_time.is_some(), wanted.revoke_time.is_some()),
            ],
        ));
    }
    let alive = wanted.revoke_time.is_none();
    if alive && tx.peek_caller_by_name(wanted.name.as_str()).await?.is_some() {
        return Ok(rejected("caller: another caller has its name here"));
    }
    if wanted.expire_time.is_some() {
        Service::require_new_rules(&mut **tx).await?;
    }
    match tx.insert_caller(&wanted).await {
        Err(StoreError::Conflict(_)) => {
            let reason = "caller: another caller has its digest or certificate_san here";
            return Ok(RecordOutcome::Conflict(Invalid::new(reason).into()));
        }
        inserted => inserted?,
    }
    Ok(RecordOutcome::Written(
        AuditAction::CallerCreate,
        AuditTarget::Caller(wanted.id),
        view::caller(&wanted),
    ))
}

async fn put_workspace(
    tx: &mut Transaction,
    wanted: Workspace,
    policy: Option<WorkspacePolicy>,
    clock: &dyn Clock,
) -> Result<RecordOutcome, TransferError> {
    let found = tx.find_workspace_row(&wanted.id, Lock::Update).await?;
    if let Some(found) = found {
        if found.delete_time.is_some() {
            return Ok(rejected("workspace: a workspace with this id was deleted here"));
        }
        let asked = tx.find_workspace_policy(&wanted.id, Lock::Share).await?;
        return Ok(differs(
            "workspace",
            &[
                ("slug", found.slug != wanted.slug),
                ("display_name", found.display_name != wanted.display_name),
                disabled(found.disabled, wanted.disabled),
                ("generation", found.generation != wanted.generation),
                ("policy", asked != policy),
                ("pat_policy", found.pat_policy != wanted.pat_policy),
            ],
        ));
    }
    let claim = NameClaim { before: None, id: &wanted.id, slug: &wanted.slug };
    match claim_names(&mut **tx, &[claim], clock).await {
        Err(error) if error.reason.kind() == Kind::AlreadyExists => {
            return Ok(rejected(
                "workspace: another workspace has its slug or id here, or reserves it",
            ));
        }
        claimed => claimed?,
    }
    tx.put_workspace(&wanted).await?;
    if let Some(policy) = &policy {
        tx.put_workspace_policy(&wanted.id, policy).await?;
    }
    let after = view::with_policy(view::workspace(&wanted), policy.as_ref());
    Ok(RecordOutcome::Written(AuditAction::WorkspacePut, AuditTarget::Workspace(wanted.id), after))
}

async fn put_user(tx: &mut Transaction, wanted: User) -> Result<RecordOutcome, TransferError> {
    if let Some(found) = tx.find_user_row(&wanted.id, Lock::Update).await? {
        if found.delete_time.is_some() {
            return Ok(rejected("user: a user with this id was deleted here"));
        }
        return Ok(differs(
            "user",
            &[
                ("display_name", found.display_name != wanted.display_name),
                disabled(found.disabled, wanted.disabled),
                ("generation", found.generation != wanted.generation),
            ],
        ));
    }
    tx.put_user(&wanted).await?;
    let after = view::user(&wanted);
    Ok(RecordOutcome::Written(AuditAction::UserPut, AuditTarget::User(wanted.id), after))
}

async fn put_membership(
    tx: &mut Transaction,
    removed: &Removed,
    wanted: Membership,
) -> Result<RecordOutcome, TransferError> {
    let (workspace, user) = (&wanted.workspace_id, &wanted.user_id);
    let workspace_row = tx.find_workspace_row(workspace, Lock::Share).await?;
    let user_row = tx.find_user_row(user, Lock::Share).await?;
    if workspace_row.is_none_or(|row| row.delete_time.is_some())
        || user_row.is_none_or(|row| row.delete_time.is_some())
    {
        return Ok(rejected(
            "membership: its workspace or user exists neither here nor in the file",
        ));
    }
    if let Some(found) = tx.find_membership(workspace, user, Lock::Update).await? {
        return Ok(differs("membership", &[("role", found.role != wanted.role)]));
    }
    if removed.has_membership(&wanted) {
        return Ok(rejected("membership: it was removed here. Only `member put` brings it back"));
    }
    tx.put_membership(&wanted).await?;
    let target = AuditTarget::Membership(workspace.clone(), user.clone());
    Ok(RecordOutcome::Written(AuditAction::MembershipPut, target, view::membership(&wanted)))
}

fn revoked(here: bool, in_file: bool) -> (&'static str, bool) {
    let name = if here { "revoke_time (revoked here)" } else { "revoke_time (not revoked here)" };
    (name, here != in_file)
}

fn disabled(here: bool, in_file: bool) -> (&'static str, bool) {
    let name = if here { "disabled (disabled here)" } else { "disabled (disabled in the file)" };
    (name, here != in_file)
}

/// Compares the fields of a record that exists.
fn differs(what: &str, fields: &[(&str, bool)]) -> RecordOutcome {
    let differing = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name);
    let differing: Vec<_> = differing.collect();
    if differing.is_empty() {
        return RecordOutcome::Unchanged;
    }
    let fields = differing.join(", ");
    rejected(&format!("{what}: one with this id exists here, and differs in {fields}"))
}

fn rejected(reason: &str) -> RecordOutcome {
    RecordOutcome::Rejected(Invalid::new(reason).into())
}
