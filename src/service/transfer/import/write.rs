//! Writes the spooled records, in one transaction per batch or in one for all.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::super::audit::Entry;
use super::super::super::commit::Effect;
use super::super::super::{Context, Service, view};
use super::super::check::{Defaults, LineError, check};
use super::super::names::ColumnOptions;
use super::super::restricted::needs_new_rules;
use super::super::spool::SpoolReader;
use super::super::{TransferError, json};
use super::batch::{ExistingRows, LineOutcome, names};
use super::{ImportObserver, ImportOptions, ImportPhase, ImportReport, Tally};
use crate::model::limits::IMPORT_LINES_PER_BATCH;
use crate::model::{AuditAction, AuditEvent, AuditTarget, Invalid};
use crate::store::{StoreError, StoredCredential, WriteTx};

/// How often a batch that conflicts with another writer is tried, and the pause after the first try. Each later pause
/// is longer.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Result of a batch.
#[derive(Default)]
pub(super) struct BatchOutcome {
    pub(super) written: u64,
    /// With the ids and generations of what they name.
    pub(super) existing: Batch,
    pub(super) bad: Vec<(u64, LineError)>,
    pub(super) event: Option<AuditEvent>,
}

pub(super) type Batch = Vec<(u64, StoredCredential)>;

impl Service {
    pub(super) async fn write_in_batches(
        self: &Arc<Self>,
        context: &Context,
        options: ImportOptions,
        observer: &mut dyn ImportObserver,
        tally: &mut Tally,
        mut spooled: SpoolReader,
    ) -> Result<ImportReport, TransferError> {
        let (mut written, mut done) = (0, 0);
        let lines = tally.lines - tally.bad.len() - tally.existing.len();
        loop {
            let batch = self.next_batch(context, tally, &mut spooled)?;
            if batch.is_empty() {
                return Ok(tally.report(written, None));
            }
            let mut tries = 1;
            let outcome = loop {
                match self.write_batch(context, options, &batch).await {
                    // Another writer wrote the same rows or holds a lock, or the connection broke. If it broke during
                    // the commit, the next try finds the rows and skips them.
                    Err(TransferError::Store(
                        StoreError::Conflict(_) | StoreError::Unavailable(_) | StoreError::Busy(_),
                    )) if tries < TRIES => {
                        tokio::time::sleep(BETWEEN_TRIES * tries).await;
                        tries += 1;
                    }
                    outcome => break outcome?,
                }
            };
            written += outcome.written;
            done += batch.len() as u64;
            tally.note_existing(&outcome.existing);
            for (line, bad) in outcome.bad {
                tally.bad(observer, line, &bad);
            }
            observer.progress(ImportPhase::Write, done, Some(lines));
        }
    }

    pub(super) async fn write_in_one_transaction(
        self: &Arc<Self>,
        context: &Context,
        options: ImportOptions,
        observer: &mut dyn ImportObserver,
        tally: &mut Tally,
        mut spooled: SpoolReader,
    ) -> Result<ImportReport, TransferError> {
        let (mut written, mut done) = (0, 0);
        let lines = tally.lines - tally.bad.len() - tally.existing.len();
        let mut tx = self.begin("import").await?;
        if tally.needs_new_rules {
            Self::require_new_rules(&mut *tx).await?;
        }
        let mut last_event: Option<AuditEvent> = None;
        loop {
            let batch = self.next_batch(context, tally, &mut spooled)?;
            if batch.is_empty() {
                break;
            }
            let outcome = self.write_batch_in(&mut *tx, context, options, &batch).await?;
            tally.note_existing(&outcome.existing);
            if !outcome.bad.is_empty() {
                for (line, bad) in outcome.bad {
                    tally.bad(observer, line, &bad);
                }
                let reason = "there are bad lines, and --all-or-nothing was given";
                return Ok(tally.report(0, Some(reason)));
            }
            written += outcome.written;
            done += batch.len() as u64;
            if let Some(event) = outcome.event
                && let Some(before) = last_event.replace(event)
            {
                tx.insert_audit_events(std::slice::from_ref(&before)).await?;
            }
            observer.progress(ImportPhase::Write, done, Some(lines));
        }
        let report = tally.report(written, None);
        let Some(event) = last_event else { return Ok(report) };
        let committed = self.commit(tx, &event).await?;
        Ok(self.settle(context, Effect::Widens, committed.done(report)).await?)
    }

    /// Returns the next records that are still good.
    pub(super) fn next_batch(
        &self,
        context: &Context,
        tally: &Tally,
        spooled: &mut SpoolReader,
    ) -> Result<Batch, TransferError> {
        let creator = context.requester_name();
        let mut batch = Batch::new();
        while batch.len() < usize::from(IMPORT_LINES_PER_BATCH) {
            let read = |text: &str| json::parse(text, &ColumnOptions::default()).ok();
            let Some((line, record)) = spooled.next(read)? else { break };
            if tally.bad.contains(line) {
                continue;
            }
            // The record got an id in the first check, so the empty randomness is never used.
            let (now, columns) = (self.clock.now(), &ColumnOptions::default());
            let defaults = Defaults { now, creator: &creator, random: [0; 10], columns };
            let stored = check(&record, &defaults).map_err(|_| {
                TransferError::temporary(std::io::Error::from(std::io::ErrorKind::InvalidData))
            })?;
            batch.push((line, stored));
        }
        Ok(batch)
    }

    async fn write_batch(
        &self,
        context: &Context,
        options: ImportOptions,
        batch: &Batch,
    ) -> Result<BatchOutcome, TransferError> {
        let mut tx = self.begin("import").await?;
        if batch.iter().any(|(_, stored)| needs_new_rules(&stored.credential)) {
            Self::require_new_rules(&mut *tx).await?;
        }
        let mut outcome = self.write_batch_in(&mut *tx, context, options, batch).await?;
        let Some(event) = outcome.event.take() else { return Ok(outcome) };
        let committed = self.commit(tx, &event).await?;
        Ok(self.settle(context, Effect::Widens, committed.done(outcome)).await?)
    }

    /// Writes the new credentials of a batch. If none is new, the transaction has changed nothing.
    pub(super) async fn write_batch_in(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        options: ImportOptions,
        batch: &[(u64, StoredCredential)],
    ) -> Result<BatchOutcome, TransferError> {
        let names = names(batch.iter().map(|(_, stored)| stored));
        if options.create_missing {
            // Before any owner is locked, because workspace names come first in the order of locks.
            let found = tx.peek_imported(&names).await?;
            let existing = ExistingRows::new(&found, true);
            let is_orphan = |stored: &StoredCredential| {
                matches!(existing.resolve(&mut stored.clone()), LineOutcome::OwnerMissing)
            };
            let orphans = batch.iter().map(|(_, stored)| stored).filter(|stored| is_orphan(stored));
            let orphans: Vec<_> = orphans.cloned().collect();
            if !orphans.is_empty() {
                let orphaned = orphans.iter().map(|orphan| &orphan.credential);
                let missing =
                    orphaned.flat_map(|credential| existing.missing_workspaces(credential));
                let missing = missing.collect();
                self.create_owners(tx, context, &orphans, missing).await?;
            }
        }
        let found = tx.find_imported(&names).await?;
        let existing = ExistingRows::new(&found, options.create_missing);
        let mut outcome = BatchOutcome::default();
        let mut new = Vec::new();
        for (line, stored) in batch {
            let mut stored = stored.clone();
            match existing.resolve(&mut stored) {
                LineOutcome::New => new.push(stored),
                LineOutcome::Exists => outcome.existing.push((*line, stored)),
                LineOutcome::Rejected(bad) => outcome.bad.push((*line, bad)),
                LineOutcome::OwnerMissing => outcome.bad.push((*line, owner_cannot_be_created())),
            }
        }
        outcome.written = new.len() as u64;
        if new.is_empty() {
            return Ok(outcome);
        }
        tx.insert_credentials(&new).await?;
        self.record_imported(tx, context, &new).await?;
        let lines = batch.first().zip(batch.last()).map(|((first, _), (last, _))| (first, last));
        let entry = Entry {
            action: AuditAction::CredentialImport,
            target: AuditTarget::Credentials,
            acting_user: None,
            before: None,
            after: Some(json!({
                "credentials": new.len(),
                "lines": lines.map(|(first, last)| format!("{first}-{last}")),
            })),
            reason: None,
        };
        outcome.event = Some(self.audit_event(context, entry)?);
        Ok(outcome)
    }

    /// Writes an event for each credential, so that the audit log of each starts with its import.
    async fn record_imported(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        imported: &[StoredCredential],
    ) -> Result<(), TransferError> {
        let now = self.clock.now();
        let mut events = Vec::with_capacity(imported.len());
        for StoredCredential { credential, .. } in imported {
            let entry = Entry {
                action: AuditAction::CredentialImport,
                target: AuditTarget::Credential(credential.id),
                acting_user: None,
                before: None,
                after: Some(view::credential(credential, now)),
                reason: None,
            };
            events.push(self.audit_event(context, entry)?);
        }
        Ok(tx.insert_audit_events(&events).await?)
    }
}

fn owner_cannot_be_created() -> LineError {
    Invalid::new(
        "its owner, or a workspace that it names, cannot be created: it was deleted here (`workspace put` or `user put` \
         creates it again), or another workspace has its name or had it less than 30 days ago",
    )
    .into()
}
