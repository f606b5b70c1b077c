//! Import: checks everything, and then writes it in batches. Whatever it is ended by, running it again goes on where it
//! was: what is there already, by digest and owner, is left as it is. No policy is asked: what lives elsewhere already is taken
//! over as it is.

mod batch;
mod deployment;
mod narrowing;
mod owners;
mod stage;
mod write;

use std::io::BufRead;
use std::sync::Arc;

use super::super::{Context, Service, under_way};
use super::check::{Defaults, FileRefusal, LineError, check};
use super::duplicates::Duplicates;
use super::line_set::LineSet;
use super::names::ColumnOptions;
use super::reader::Reader;
use super::record::Record;
use super::spool::SpoolWriter;
use super::{TransferError, TransferFormat};
use crate::model::limits::IMPORT_BATCH;
use crate::store::StoredCredential;
use crate::token::random_array;
use batch::{ExistingRows, LineOutcome};

/// What to import.
pub struct Import<R> {
    /// Where it is read.
    pub input: R,
    /// How it is written there.
    pub format: TransferFormat,
    /// What its columns are.
    pub columns: ColumnOptions,
    /// How to go about it.
    pub options: ImportOptions,
}

/// How to go about an import.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Write nothing if any line is bad, and else all in one transaction.
    pub all_or_nothing: bool,
    /// Check only.
    pub dry_run: bool,
    /// Make the users and workspaces that are not there.
    pub create_missing: bool,
}

/// What an import came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// Lines with something in them.
    pub lines: u64,
    /// Credentials that were written.
    pub written: u64,
    /// Lines whose credential was there already, with the same owner.
    pub existing: u64,
    /// Of those, lines whose credential may do less here than the file says: it stays so.
    pub kept: u64,
    /// Lines that were reported.
    pub bad: u64,
    /// Why nothing was written, if for a reason that is not said with a line.
    pub nothing_written: Option<&'static str>,
}

/// What an import is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportPhase {
    /// Checking: so many bytes were read.
    Check,
    /// Writing: so many lines are done.
    Write,
}

/// Who is told how it goes.
pub trait ImportObserver: Send {
    /// A record is bad: the one that begins on this `line`, or that is this `element` of an array. The reason never repeats
    /// what stands there.
    fn bad(&mut self, unit: &'static str, number: u64, reason: &str);
    /// What a record names may do less here than it says, and stays so. No fault of the record.
    fn kept(&mut self, _unit: &'static str, _number: u64, _what: &str) {}
    /// So much is done; of so many lines, if that is known.
    fn progress(&mut self, phase: ImportPhase, done: u64, lines: Option<u64>);
}

/// What is known of the lines so far.
struct Tally {
    /// What the numbers are of.
    unit: &'static str,
    lines: u64,
    bad: LineSet,
    existing: LineSet,
    kept: u64,
    refuses_file: Option<FileRefusal>,
}

impl Tally {
    fn new(unit: &'static str) -> Self {
        let (bad, existing) = (LineSet::default(), LineSet::default());
        Self { unit, lines: 0, bad, existing, kept: 0, refuses_file: None }
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

    fn note_existing(&mut self, lines: &[u64]) {
        for line in lines {
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
    /// Imports. It runs in the future of whoever asks, who is at the command line: nobody else can cancel it.
    ///
    /// # Errors
    /// Those of the input and of the store. LineError lines are no error: they are reported, and counted.
    pub async fn import<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        import: Import<R>,
        observer: &mut dyn ImportObserver,
    ) -> Result<ImportReport, TransferError> {
        let importing = Box::pin(self.import_all(context, import, observer));
        under_way::run(context.deadline, importing).await
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
                    "a token may stand in it in the clear where none must: take it out, and treat the file as a secret"
                }
                FileRefusal::DigestAsToken => {
                    "tokens in it look like digests, and the tokens that those are of would be unknown"
                }
            })
        } else if options.all_or_nothing && tally.bad.len() > 0 {
            Some("there are bad lines, and it was to be all or nothing")
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

    /// Reads and checks every line, against the store too, and spools what is good and not there yet.
    async fn check_all<R: BufRead + Send>(
        &self,
        context: &Context,
        import: Import<R>,
        observer: &mut dyn ImportObserver,
        tally: &mut Tally,
        spool: &mut SpoolWriter,
    ) -> Result<(), TransferError> {
        let creator = context.requester_name();
        let mut reader = Reader::new(import.input, import.format, import.columns.clone())?;
        tally.unit = reader.unit();
        let mut duplicates = Duplicates::new().map_err(TransferError::temporary)?;
        let removed = self.load_removed().await?;
        let mut more = true;
        while more {
            let mut batch: Vec<(u64, Result<StoredCredential, LineError>)> = Vec::new();
            while batch.len() < usize::from(IMPORT_BATCH) {
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
                        tally.bad(observer, line, &bad)
                    }
                    Ok((outcome, stored)) => {
                        duplicates
                            .note(line, &stored.digest, stored.credential.id)
                            .map_err(TransferError::temporary)?;
                        if matches!(outcome, LineOutcome::Exists) {
                            tally.existing.insert(line);
                        } else {
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
