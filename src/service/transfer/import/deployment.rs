//! Import of a whole deployment: all of it in one transaction, or nothing. What is there already, and is the same, is left as it
//! is; what is there and differs is a conflict.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::super::audit::Entry;
use super::super::super::commit::{Effect, Transaction};
use super::super::super::directory::workspaces::{Naming, claim_names};
use super::super::super::{Context, Kind, Service, call_context, view};
use super::super::TransferError;
use super::super::check::Bad;
use super::super::deployment::Said;
use super::super::spool::Spooled;
use super::narrower::{Compared, Gone};
use super::stage::Staged;
use super::write::Batch;
use super::{ImportOptions, ImportPhase, ImportReport, ImportWatch, Tally};
use crate::model::limits::IMPORT_BATCH;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, Caller, Clock, CredentialId, Invalid, Membership, User,
    Workspace, WorkspacePolicy,
};
use crate::store::{Lock, StoreError, StoredCredential};

/// It names slugs, and who bore them before must be dead in every memory.
const EFFECT: Effect = Effect::Narrows;
/// All in one transaction.
const OPTIONS: ImportOptions =
    ImportOptions { all_or_nothing: true, dry_run: false, create_missing: false };

/// What became of a record.
enum Put {
    /// It was written: what the audit log tells.
    New(AuditAction, AuditTarget, Value),
    /// It is there, and the same.
    There,
    /// It is there, and differs; or cannot be.
    Bad(Bad),
    /// The same, found by trying to write it: no more can be asked of the transaction.
    Last(Bad),
}

/// The transaction, with what is to be told of it.
struct Writing<'w> {
    tx: Transaction,
    tally: &'w mut Tally,
    watch: &'w mut dyn ImportWatch,
    /// What must not come back.
    gone: Gone,
    events: Vec<AuditEvent>,
    written: u64,
    done: u64,
}

impl Service {
    /// Imports what [`Self::export_deployment`] has written.
    ///
    /// # Errors
    /// Those of the input and of the store, and a file that is not whole. Records that are bad or in conflict are reported, and
    /// then nothing is written.
    pub async fn import_deployment<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        input: R,
        dry_run: bool,
        watch: &mut dyn ImportWatch,
    ) -> Result<ImportReport, TransferError> {
        let importing = Box::pin(self.import_whole(context, input, dry_run, watch));
        call_context::run(context.deadline, importing).await
    }

    async fn import_whole<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        input: R,
        dry_run: bool,
        watch: &mut dyn ImportWatch,
    ) -> Result<ImportReport, TransferError> {
        let mut tally = Tally::new("line");
        let staged = self.stage(context, input, watch, &mut tally)?;
        let nothing = "there are bad records, and a deployment is imported whole or not at all";
        if tally.bad.len() > 0 {
            return Ok(tally.report(0, Some(nothing)));
        }
        let Staged { directory, credentials, callers } = staged;
        let gone = self.gone().await?;
        let tx = self.begin("import_deployment").await?;
        let (events, tally) = (Vec::new(), &mut tally);
        let mut writing = Writing { tx, tally, watch, gone, events, written: 0, done: 0 };
        writing.tx.lock_workspace_names().await?;
        self.put_lot(context, &mut writing, directory.read()?).await?;
        let mut spooled = credentials.read()?;
        loop {
            let batch = self.take(context, writing.tally, &mut spooled)?;
            if batch.is_empty() {
                break;
            }
            self.put_credentials(context, &mut writing, batch).await?;
        }
        self.put_lot(context, &mut writing, callers.read()?).await?;
        let Writing { mut tx, tally, events, written, .. } = writing;
        if tally.bad.len() > 0 {
            return Ok(tally.report(0, Some(nothing)));
        }
        if dry_run {
            return Ok(tally.report(0, Some("it was a dry run")));
        }
        let report = tally.report(written, None);
        if written == 0 {
            // An earlier run may have written it all, and not seen the end of its wait.
            drop(tx);
            let there = self.nothing_to_commit().await?;
            return Ok(self.settle(context, EFFECT, there.done(report)).await?);
        }
        tx.insert_audit_events(&events).await?;
        let entry = Entry {
            action: AuditAction::StoreImport,
            target: AuditTarget::Store,
            acting_user: None,
            before: None,
            after: Some(json!({"records": written, "already_there": report.there})),
            reason: None,
        };
        let committed = self.commit(tx, &self.audit_event(context, entry)?).await?;
        Ok(self.settle(context, EFFECT, committed.done(report)).await?)
    }

    async fn put_lot(
        &self,
        context: &Context,
        writing: &mut Writing<'_>,
        mut lot: Spooled,
    ) -> Result<(), TransferError> {
        let damaged = |_| TransferError::temporary(std::io::ErrorKind::InvalidData.into());
        while let Some((line, said)) = lot.next(|text| serde_json::from_str(text).ok())? {
            let put = match said {
                Said::Workspace(said) => {
                    let (workspace, policy) = said.read().map_err(damaged)?;
                    put_workspace(&mut writing.tx, workspace, policy, &*self.clock).await?
                }
                Said::User(said) => {
                    put_user(&mut writing.tx, said.read().map_err(damaged)?).await?
                }
                Said::Membership(said) => {
                    let said = said.read().map_err(damaged)?;
                    put_membership(&mut writing.tx, &writing.gone, said).await?
                }
                Said::Caller(said) => {
                    put_caller(&mut writing.tx, said.read().map_err(damaged)?).await?
                }
                Said::Deployment { .. } | Said::End { .. } => continue,
            };
            match put {
                Put::There => {
                    writing.tally.there.insert(line);
                }
                Put::Bad(bad) => writing.tally.bad(writing.watch, line, &bad),
                Put::Last(bad) => {
                    writing.tally.bad(writing.watch, line, &bad);
                    return Ok(());
                }
                Put::New(action, target, after) => {
                    let reason = Some("imported with a deployment");
                    let (acting_user, before, after) = (None, None, Some(after));
                    let entry = Entry { action, target, acting_user, before, after, reason };
                    writing.events.push(self.audit_event(context, entry)?);
                    writing.written += 1;
                }
            }
            if writing.events.len() >= usize::from(IMPORT_BATCH) {
                writing.tx.insert_audit_events(&writing.events).await?;
                writing.events.clear();
            }
            writing.done += 1;
            writing.watch.progress(ImportPhase::Write, writing.done, Some(writing.tally.lines));
        }
        Ok(())
    }

    async fn put_credentials(
        &self,
        context: &Context,
        writing: &mut Writing<'_>,
        batch: Batch,
    ) -> Result<(), TransferError> {
        let count = batch.len() as u64;
        let (buried, batch) = bury(writing, batch).await?;
        for (line, id) in buried {
            writing.tally.there.insert(line);
            let what = format!("credential {id} died here and was dropped: it stays dead");
            writing.tally.kept(writing.watch, line, &what);
        }
        let outcome = self.write_within(&mut *writing.tx, context, OPTIONS, &batch).await?;
        writing.tally.found_there(&outcome.there);
        for (line, bad) in outcome.bad {
            writing.tally.bad(writing.watch, line, &bad);
        }
        let there: Vec<_> =
            batch.iter().filter(|(line, _)| writing.tally.there.contains(*line)).collect();
        compare(writing, &there).await?;
        if let Some(event) = outcome.event {
            writing.tx.insert_audit_events(std::slice::from_ref(&event)).await?;
        }
        writing.written += outcome.written;
        writing.done += count;
        writing.watch.progress(ImportPhase::Write, writing.done, Some(writing.tally.lines));
        Ok(())
    }
}

/// What is alive in the file, and died here so long ago that it has no row any more; and the rest.
async fn bury(
    writing: &mut Writing<'_>,
    batch: Batch,
) -> Result<(Vec<(u64, CredentialId)>, Batch), TransferError> {
    let may_be = |stored: &&StoredCredential| writing.gone.has_credential(&stored.credential);
    let ids = batch.iter().map(|(_, stored)| stored).filter(may_be);
    let ids: Vec<_> = ids.map(|stored| stored.credential.id).collect();
    if ids.is_empty() {
        return Ok((Vec::new(), batch));
    }
    // One that an earlier import brought back is compared as any other.
    let found: HashSet<_> =
        writing.tx.find_credentials(&ids).await?.iter().map(|found| found.id).collect();
    let is_buried = |id: CredentialId| ids.contains(&id) && !found.contains(&id);
    let (buried, rest): (Batch, Batch) =
        batch.into_iter().partition(|(_, stored)| is_buried(stored.credential.id));
    Ok((buried.iter().map(|(line, stored)| (*line, stored.credential.id)).collect(), rest))
}

/// What is there must be the same one, and may do no more than in the file. What may do less stays so, and is told.
async fn compare(
    writing: &mut Writing<'_>,
    there: &[&(u64, StoredCredential)],
) -> Result<(), TransferError> {
    if there.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = there.iter().map(|(_, stored)| stored.credential.id).collect();
    let found = writing.tx.find_credentials(&ids).await?;
    let found: HashMap<_, _> = found.iter().map(|found| (found.id, found)).collect();
    for (line, stored) in there {
        let id = stored.credential.id;
        let reason = if let Some(found) = found.get(&id) {
            let Compared { here, there } = Compared::of(found, &stored.credential);
            if there.is_empty() && here.is_empty() {
                continue;
            }
            if there.is_empty() {
                let what = here.join(", ");
                let what = format!(
                    "credential {id} is {what} here, and not so in the file: it stays as it is here"
                );
                writing.tally.kept(writing.watch, *line, &what);
                continue;
            }
            let what = there.join(", ");
            let first = if there == ["revoked"] { "revoke it first" } else { "change it first" };
            format!("credential: it is {what} in the file, and not so here: {first}")
        } else {
            "credential: its digest is here already, under another id".to_owned()
        };
        writing.tally.bad(writing.watch, *line, &Invalid::new(reason).into());
    }
    Ok(())
}

async fn put_caller(tx: &mut Transaction, wanted: Caller) -> Result<Put, TransferError> {
    if let Some(found) = tx.find_caller(wanted.id, Lock::Update).await? {
        return Ok(differs(
            "caller",
            &[
                ("name", found.name != wanted.name),
                ("permissions", found.permissions != wanted.permissions),
                ("digest or certificate_san", found.identity != wanted.identity),
                ("previous_digest", found.previous != wanted.previous),
                revoked(found.revoke_time.is_some(), wanted.revoke_time.is_some()),
            ],
        ));
    }
    let alive = wanted.revoke_time.is_none();
    if alive && tx.find_caller_by_name(wanted.name.as_str(), Lock::Share).await?.is_some() {
        return Ok(bad("caller: its name is another's here"));
    }
    match tx.insert_caller(&wanted).await {
        Err(StoreError::Conflict(_)) => {
            let reason = "caller: its digest or certificate_san is another's here";
            return Ok(Put::Last(Invalid::new(reason).into()));
        }
        inserted => inserted?,
    }
    Ok(Put::New(AuditAction::CallerCreate, AuditTarget::Caller(wanted.id), view::caller(&wanted)))
}

async fn put_workspace(
    tx: &mut Transaction,
    wanted: Workspace,
    policy: Option<WorkspacePolicy>,
    clock: &dyn Clock,
) -> Result<Put, TransferError> {
    let found = tx.find_workspace_row(&wanted.id, Lock::Update).await?;
    if let Some(found) = found {
        if found.delete_time.is_some() {
            return Ok(bad("workspace: one of its id was deleted here"));
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
            ],
        ));
    }
    let naming = Naming { before: None, id: &wanted.id, slug: &wanted.slug };
    match claim_names(&mut **tx, &[naming], clock).await {
        Err(error) if error.reason.kind() == Kind::AlreadyExists => {
            return Ok(bad("workspace: its slug or id is another's here, or reserved for another"));
        }
        claimed => claimed?,
    }
    tx.put_workspace(&wanted).await?;
    if let Some(policy) = &policy {
        tx.put_workspace_policy(&wanted.id, policy).await?;
    }
    let after = view::with_policy(view::workspace(&wanted), policy.as_ref());
    Ok(Put::New(AuditAction::WorkspacePut, AuditTarget::Workspace(wanted.id), after))
}

async fn put_user(tx: &mut Transaction, wanted: User) -> Result<Put, TransferError> {
    if let Some(found) = tx.find_user_row(&wanted.id, Lock::Update).await? {
        if found.delete_time.is_some() {
            return Ok(bad("user: one of this id was deleted here"));
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
    Ok(Put::New(AuditAction::UserPut, AuditTarget::User(wanted.id), after))
}

async fn put_membership(
    tx: &mut Transaction,
    gone: &Gone,
    wanted: Membership,
) -> Result<Put, TransferError> {
    let (workspace, user) = (&wanted.workspace_id, &wanted.user_id);
    let of = tx.find_workspace_row(workspace, Lock::Share).await?;
    let who = tx.find_user_row(user, Lock::Share).await?;
    if of.is_none_or(|of| of.delete_time.is_some())
        || who.is_none_or(|who| who.delete_time.is_some())
    {
        return Ok(bad("membership: its workspace or its user is neither here nor in the file"));
    }
    if let Some(found) = tx.find_membership(workspace, user, Lock::Update).await? {
        return Ok(differs("membership", &[("role", found.role != wanted.role)]));
    }
    if gone.has_membership(&wanted) {
        return Ok(bad(
            "membership: it was removed here: `member put` brings it back, and no import does",
        ));
    }
    tx.put_membership(&wanted).await?;
    let target = AuditTarget::Membership(workspace.clone(), user.clone());
    Ok(Put::New(AuditAction::MembershipPut, target, view::membership(&wanted)))
}

fn revoked(here: bool, there: bool) -> (&'static str, bool) {
    let name = if here { "revoke_time (revoked here)" } else { "revoke_time (alive here)" };
    (name, here != there)
}

fn disabled(here: bool, there: bool) -> (&'static str, bool) {
    let name = if here { "disabled (it is here)" } else { "disabled (it is in the file)" };
    (name, here != there)
}

/// It is there: the same, or with what differs.
fn differs(what: &str, fields: &[(&str, bool)]) -> Put {
    let differing = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name);
    let differing: Vec<_> = differing.collect();
    if differing.is_empty() {
        return Put::There;
    }
    let fields = differing.join(", ");
    bad(&format!("{what}: one of its id is here already, and differs in {fields}"))
}

fn bad(reason: &str) -> Put {
    Put::Bad(Invalid::new(reason).into())
}
