//! Writing what passed the check: a transaction for each batch, or one for all.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::super::audit::Entry;
use super::super::super::commit::Effect;
use super::super::super::{Context, Service, view};
use super::super::check::{Bad, Defaults, check};
use super::super::names::Reading;
use super::super::spool::Spooled;
use super::super::{TransferError, json};
use super::batch::{Surroundings, Verdict, names};
use super::{ImportOptions, ImportPhase, ImportReport, ImportWatch, Tally};
use crate::model::limits::IMPORT_BATCH;
use crate::model::{AuditAction, AuditEvent, AuditTarget, Invalid};
use crate::store::{StoreError, StoredCredential, WriteTx};

/// How often a batch is tried that is in somebody's way, and how long to wait before each further try.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// What a batch came to, once committed.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) written: u64,
    pub(super) there: Vec<u64>,
    pub(super) bad: Vec<(u64, Bad)>,
    pub(super) event: Option<AuditEvent>,
}

pub(super) type Batch = Vec<(u64, StoredCredential)>;

impl Service {
    pub(super) async fn write_in_batches(
        self: &Arc<Self>,
        context: &Context,
        options: ImportOptions,
        watch: &mut dyn ImportWatch,
        tally: &mut Tally,
        mut spooled: Spooled,
    ) -> Result<ImportReport, TransferError> {
        let (mut written, mut done) = (0, 0);
        let lines = tally.lines - tally.bad.len() - tally.there.len();
        loop {
            let batch = self.take(context, tally, &mut spooled)?;
            if batch.is_empty() {
                return Ok(tally.report(written, None));
            }
            let mut tries = 1;
            let outcome = loop {
                match self.write_batch(context, options, &batch).await {
                    // Somebody else wrote the same meanwhile, or holds a lock, or the connection broke: where it broke in
                    // the commit, what was written is found there.
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
            tally.found_there(&outcome.there);
            for (line, bad) in outcome.bad {
                tally.bad(watch, line, &bad);
            }
            watch.progress(ImportPhase::Write, done, Some(lines));
        }
    }

    pub(super) async fn write_at_once(
        self: &Arc<Self>,
        context: &Context,
        options: ImportOptions,
        watch: &mut dyn ImportWatch,
        tally: &mut Tally,
        mut spooled: Spooled,
    ) -> Result<ImportReport, TransferError> {
        let (mut written, mut done) = (0, 0);
        let lines = tally.lines - tally.bad.len() - tally.there.len();
        let mut tx = self.begin("import").await?;
        let mut last_event: Option<AuditEvent> = None;
        loop {
            let batch = self.take(context, tally, &mut spooled)?;
            if batch.is_empty() {
                break;
            }
            let outcome = self.write_within(&mut *tx, context, options, &batch).await?;
            tally.found_there(&outcome.there);
            if !outcome.bad.is_empty() {
                for (line, bad) in outcome.bad {
                    tally.bad(watch, line, &bad);
                }
                let reason = "there are bad lines, and it was to be all or nothing";
                return Ok(tally.report(0, Some(reason)));
            }
            written += outcome.written;
            done += batch.len() as u64;
            if let Some(event) = outcome.event
                && let Some(before) = last_event.replace(event)
            {
                tx.insert_audit_events(std::slice::from_ref(&before)).await?;
            }
            watch.progress(ImportPhase::Write, done, Some(lines));
        }
        let report = tally.report(written, None);
        let Some(event) = last_event else { return Ok(report) };
        let committed = self.commit(tx, &event).await?;
        Ok(self.settle(context, Effect::Widens, committed.done(report)).await?)
    }

    /// The next lines that are good still.
    pub(super) fn take(
        &self,
        context: &Context,
        tally: &Tally,
        spooled: &mut Spooled,
    ) -> Result<Batch, TransferError> {
        let creator = context.requester_name();
        let mut batch = Batch::new();
        while batch.len() < usize::from(IMPORT_BATCH) {
            let read = |text: &str| json::parse(text, &Reading::default()).ok();
            let Some((line, record)) = spooled.next(read)? else { break };
            if tally.bad.contains(line) {
                continue;
            }
            // It was given an id when it was checked first, so this one is never used.
            let (now, reading) = (self.clock.now(), &Reading::default());
            let defaults = Defaults { now, creator: &creator, random: [0; 10], reading };
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
    ) -> Result<Outcome, TransferError> {
        let mut tx = self.begin("import").await?;
        let mut outcome = self.write_within(&mut *tx, context, options, batch).await?;
        let Some(event) = outcome.event.take() else { return Ok(outcome) };
        let committed = self.commit(tx, &event).await?;
        Ok(self.settle(context, Effect::Widens, committed.done(outcome)).await?)
    }

    /// Writes what is new of a batch. Without anything new, it has changed nothing.
    pub(super) async fn write_within(
        &self,
        tx: &mut dyn WriteTx,
        context: &Context,
        options: ImportOptions,
        batch: &[(u64, StoredCredential)],
    ) -> Result<Outcome, TransferError> {
        let names = names(batch.iter().map(|(_, stored)| stored));
        if options.create_missing {
            // Before any owner is locked, since names of workspaces come first in the order of locks.
            let found = tx.peek_imported(&names).await?;
            let surroundings = Surroundings::of(&found, true);
            let is_orphan = |stored: &StoredCredential| {
                matches!(surroundings.resolve(&mut stored.clone()), Verdict::Orphan)
            };
            let orphans = batch.iter().map(|(_, stored)| stored).filter(|stored| is_orphan(stored));
            let orphans: Vec<_> = orphans.cloned().collect();
            if !orphans.is_empty() {
                self.make_owners(tx, context, &orphans).await?;
            }
        }
        let found = tx.find_imported(&names).await?;
        let surroundings = Surroundings::of(&found, options.create_missing);
        let mut outcome = Outcome::default();
        let mut new = Vec::new();
        for (line, stored) in batch {
            let mut stored = stored.clone();
            match surroundings.resolve(&mut stored) {
                Verdict::New => new.push(stored),
                Verdict::There => outcome.there.push(*line),
                Verdict::Bad(bad) => outcome.bad.push((*line, bad)),
                Verdict::Orphan => outcome.bad.push((*line, unmakeable())),
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

    /// An event for each, so that each has its own story, from its beginning here.
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

fn unmakeable() -> Bad {
    Invalid::new(
        "its owner cannot be made: it was deleted here (`workspace put` and `user put` make it again), or its name is another's, or \
         was until less than 30 days ago",
    )
    .into()
}
