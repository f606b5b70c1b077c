//! Import: checks all lines and then writes them in batches. An interrupted import can be run again, because a
//! credential that exists with the same digest and owner is skipped. The policy is not applied, since the credentials
//! are already in use elsewhere.

mod batch;
mod deployment;
mod narrowing;
mod owners;
mod stage;
mod write;

use std::io::BufRead;
use std::sync::Arc;

use super::super::{Context, Service, call_context};
use super::check::{Defaults, FileRefusal, LineError, check};
use super::duplicates::Duplicates;
use super::line_set::LineSet;
use super::names::ColumnOptions;
use super::reader::RecordReader;
use super::record::Record;
use super::restricted::needs_new_rules;
use super::spool::SpoolWriter;
use super::{TransferError, TransferFormat};
use crate::model::limits::IMPORT_LINES_PER_BATCH;
use crate::store::StoredCredential;
use crate::token::random_array;
use batch::{ExistingRows, LineOutcome};

/// What to import, and how.
pub struct Import<R> {
    /// Where to read from.
    pub input: R,
    /// Format of the input.
    pub format: TransferFormat,
    /// Mapping of its columns.
    pub columns: ColumnOptions,
    /// Options of the import.
    pub options: ImportOptions,
}

/// Options of an import.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Write all lines in one transaction, or none if any line is bad.
    pub all_or_nothing: bool,
    /// Check the lines and write nothing.
    pub dry_run: bool,
    /// Create the users and workspaces that do not exist.
    pub create_missing: bool,
}

/// Result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// Number of lines that are not empty.
    pub lines: u64,
    /// Number of credentials that were written.
    pub written: u64,
    /// Number of lines whose credential already exists with the same owner.
    pub existing: u64,
    /// Number of those lines whose credential has fewer rights here than in the file. It keeps the rights that it has.
    pub kept: u64,
    /// Number of bad lines.
    pub bad: u64,
    /// Why nothing was written, unless the errors of the lines say it.
    pub nothing_written: Option<&'static str>,
}

/// Phase of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportPhase {
    /// Checking. Progress counts bytes.
    Check,
    /// Writing. Progress counts lines.
    Write,
}

/// Receives the events of an import.
pub trait ImportObserver: Send {
    /// Reports a bad record by its `line`, or by its `element` in an array. The reason never repeats the input.
    fn bad(&mut self, unit: &'static str, number: u64, reason: &str);
    /// Reports that something has fewer rights here than in the file. It keeps the rights that it has. This is not an
    /// error.
    fn kept(&mut self, _unit: &'static str, _number: u64, _what: &str) {}
    /// Reports progress. `lines` is the total number of lines, if known.
    fn progress(&mut self, phase: ImportPhase, done: u64, lines: Option<u64>);
}

/// Counts of the lines so far.
struct Tally {
    /// Unit of the line numbers.
    unit: &'static str,
    lines: u64,
    bad: LineSet,
    existing: LineSet,
    kept: u64,
    refuses_file: Option<FileRefusal>,
    /// Whether something to write is a rule that a server of an earlier release would ignore.
    needs_new_rules: bool,
}

impl Tally {
    fn new(unit: &'static str) -> Self {
        let (bad, existing) = (LineSet::default(), LineSet::default());
        Self { unit, lines: 0, bad, existing, kept: 0, refuses_file: None, needs_new_rules: false }
    }

    fn kept(&mut self, observer: &mut dyn ImportObserver, line: u64, what: &str) {
        self.kept += 1;
        observer.kept(self.unit, line, what);
    }

    fn bad(&mut self, observer: &mut dyn ImportObserver, line: u64, bad: &LineError) {
        if bad.refuses_file == Some(FileRefusal::ExposesToken) || self.refuses_file.is_none() {
            self.refuses_file = bad.refuses_file;
        }
        self.existing.remove(line);
        if self.bad.insert(line) {
            observer.bad(self.unit, line, &bad.reason);
        }
    }

    fn note_existing(&mut self, lines: &write::Batch) {
        for (line, _) in lines {
            self.existing.insert(*line);
        }
    }

    const fn report(&self, written: u64, nothing_written: Option<&'static str>) -> ImportReport {
        let (lines, kept) = (self.lines, self.kept);
        let (existing, bad) = (self.existing.len(), self.bad.len());
        ImportReport { lines, written, existing, kept, bad, nothing_written }
    }
}

impl Service {
    /// Imports credentials. Only the command line calls this, so no client can cancel the future.
    ///
    /// # Errors
    /// If the input or the store fails. Bad lines are not errors. They are reported and counted.
    pub async fn import<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        import: Import<R>,
        observer: &mut dyn ImportObserver,
    ) -> Result<ImportReport, TransferError> {
        let importing = Box::pin(self.import_all(context, import, observer));
        call_context::run(context.deadline, importing).await
    }

    async fn import_all<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        import: Import<R>,
        observer: &mut dyn ImportObserver,
    ) -> Result<ImportReport, TransferError> {
        let options = import.options;
        let mut tally = Tally::new("line");
        let mut spool = SpoolWriter::new()?;
        self.check_all(context, import, observer, &mut tally, &mut spool).await?;
        let nothing_written = if let Some(stop) = tally.refuses_file {
            Some(match stop {
                FileRefusal::ExposesToken => {
                    "a column other than token may contain a token in the clear: remove it, and treat the file as a secret"
                }
                FileRefusal::DigestAsToken => {
                    "values in the token column look like digests, and the real tokens would be unknown"
                }
            })
        } else if options.all_or_nothing && tally.bad.len() > 0 {
            Some("there are bad lines, and --all-or-nothing was given")
        } else if options.dry_run {
            Some("it was a dry run")
        } else {
            None
        };
        if nothing_written.is_some() {
            return Ok(tally.report(0, nothing_written));
        }
        let spooled = spool.read()?;
        if options.all_or_nothing {
            self.write_in_one_transaction(context, options, observer, &mut tally, spooled).await
        } else {
            self.write_in_batches(context, options, observer, &mut tally, spooled).await
        }
    }

    /// Reads and checks every line, also against the store. Spools the credentials that are good and new.
    async fn check_all<R: BufRead + Send>(
        &self,
        context: &Context,
        import: Import<R>,
        observer: &mut dyn ImportObserver,
        tally: &mut Tally,
        spool: &mut SpoolWriter,
    ) -> Result<(), TransferError> {
        let creator = context.requester_name();
        let mut reader = RecordReader::new(import.input, import.format, import.columns.clone())?;
        tally.unit = reader.unit();
        let mut duplicates = Duplicates::new().map_err(TransferError::temporary)?;
        let removed = self.load_removed().await?;
        let mut more = true;
        while more {
            let mut batch: Vec<(u64, Result<StoredCredential, LineError>)> = Vec::new();
            while batch.len() < usize::from(IMPORT_LINES_PER_BATCH) {
                let Some((line, record)) = reader.next()? else {
                    more = false;
                    break;
                };
                let random = random_array(&*self.random).map_err(super::ServiceError::from)?;
                let (now, columns) = (self.clock.now(), &import.columns);
                let defaults = Defaults { now, creator: &creator, random, columns };
                batch.push((
                    line,
                    record.map_err(LineError::from).and_then(|r| check(&r, &defaults)),
                ));
            }
            let good = batch.iter().filter_map(|(_, checked)| checked.as_ref().ok());
            let found = self.store.find_imported(&batch::names(good)).await?;
            let existing = ExistingRows::new(&found, import.options.create_missing);
            tally.lines += batch.len() as u64;
            for (line, checked) in batch {
                let outcome = checked.map(|mut stored| {
                    let outcome = existing.resolve(&mut stored);
                    (
                        if removed.forbids(&stored, &outcome) {
                            narrowing::purged_error()
                        } else {
                            outcome
                        },
                        stored,
                    )
                });
                match outcome {
                    Err(bad) | Ok((LineOutcome::Rejected(bad), _)) => {
                        tally.bad(observer, line, &bad);
                    }
                    Ok((outcome, stored)) => {
                        duplicates
                            .note(line, &stored.digest, stored.credential.id)
                            .map_err(TransferError::temporary)?;
                        if matches!(outcome, LineOutcome::Exists) {
                            tally.existing.insert(line);
                        } else {
                            tally.needs_new_rules |= needs_new_rules(&stored.credential);
                            spool.push(line, &Record::of(&stored).to_json())?;
                        }
                    }
                }
            }
            observer.progress(ImportPhase::Check, reader.bytes(), None);
        }
        let found = duplicates.find(|found| {
            let (column, first) = (found.column, found.first);
            let reason = match tally.unit {
                "line" => format!("{column}: is the same as on line {first}"),
                unit => format!("{column}: is the same as in {unit} {first}"),
            };
            tally.bad(observer, found.line, &LineError { reason, refuses_file: None });
        });
        found.map_err(TransferError::temporary)
    }
}
