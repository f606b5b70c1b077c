//! Import: checks everything, and then writes it in batches. Whatever it is ended by, running it again goes on where it
//! was: what is there already, by digest and owner, is left as it is. No policy is asked: what lives elsewhere already is taken
//! over as it is.

mod batch;
mod deployment;
mod narrower;
mod owners;
mod stage;
mod write;

use std::io::BufRead;
use std::sync::Arc;

use super::super::{Context, Service, call_context};
use super::check::{Bad, Defaults, Stop, check};
use super::duplicates::Duplicates;
use super::line_set::LineSet;
use super::names::Reading;
use super::reader::Reader;
use super::record::Record;
use super::spool::Spool;
use super::{TransferError, TransferFormat};
use crate::model::limits::IMPORT_BATCH;
use crate::store::StoredCredential;
use crate::token::random_array;
use batch::{Surroundings, Verdict};

/// What to import.
pub struct Import<R> {
    /// Where it is read.
    pub input: R,
    /// How it is written there.
    pub format: TransferFormat,
    /// What its columns are.
    pub reading: Reading,
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
    pub there: u64,
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
pub trait ImportWatch: Send {
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
    there: LineSet,
    kept: u64,
    stops: Option<Stop>,
}

impl Tally {
    fn new(unit: &'static str) -> Self {
        let (bad, there) = (LineSet::default(), LineSet::default());
        Self { unit, lines: 0, bad, there, kept: 0, stops: None }
    }

    fn kept(&mut self, watch: &mut dyn ImportWatch, line: u64, what: &str) {
        self.kept += 1;
        watch.kept(self.unit, line, what);
    }

    fn bad(&mut self, watch: &mut dyn ImportWatch, line: u64, bad: &Bad) {
        if bad.stops == Some(Stop::ExposesToken) || self.stops.is_none() {
            self.stops = bad.stops;
        }
        self.there.remove(line);
        if self.bad.insert(line) {
            watch.bad(self.unit, line, &bad.reason);
        }
    }

    fn found_there(&mut self, lines: &[u64]) {
        for line in lines {
            self.there.insert(*line);
        }
    }

    const fn report(&self, written: u64, nothing_written: Option<&'static str>) -> ImportReport {
        let (lines, kept) = (self.lines, self.kept);
        let (there, bad) = (self.there.len(), self.bad.len());
        ImportReport { lines, written, there, kept, bad, nothing_written }
    }
}

impl Service {
    /// Imports. It runs in the future of whoever asks, who is at the command line: nobody else can cancel it.
    ///
    /// # Errors
    /// Those of the input and of the store. Bad lines are no error: they are reported, and counted.
    pub async fn import<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        import: Import<R>,
        watch: &mut dyn ImportWatch,
    ) -> Result<ImportReport, TransferError> {
        let importing = Box::pin(self.import_all(context, import, watch));
        call_context::run(context.deadline, importing).await
    }

    async fn import_all<R: BufRead + Send>(
        self: &Arc<Self>,
        context: &Context,
        import: Import<R>,
        watch: &mut dyn ImportWatch,
    ) -> Result<ImportReport, TransferError> {
        let options = import.options;
        let mut tally = Tally::new("line");
        let mut spool = Spool::new()?;
        self.check_all(context, import, watch, &mut tally, &mut spool).await?;
        let nothing_written = if let Some(stop) = tally.stops {
            Some(match stop {
                Stop::ExposesToken => {
                    "a token may stand in it in the clear where none must: take it out, and treat the file as a secret"
                }
                Stop::DigestAsToken => {
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
            self.write_at_once(context, options, watch, &mut tally, spooled).await
        } else {
            self.write_in_batches(context, options, watch, &mut tally, spooled).await
        }
    }

    /// Reads and checks every line, against the store too, and spools what is good and not there yet.
    async fn check_all<R: BufRead + Send>(
        &self,
        context: &Context,
        import: Import<R>,
        watch: &mut dyn ImportWatch,
        tally: &mut Tally,
        spool: &mut Spool,
    ) -> Result<(), TransferError> {
        let creator = context.requester_name();
        let mut reader = Reader::new(import.input, import.format, import.reading.clone())?;
        tally.unit = reader.unit();
        let mut duplicates = Duplicates::new().map_err(TransferError::temporary)?;
        let gone = self.gone().await?;
        let mut more = true;
        while more {
            let mut batch: Vec<(u64, Result<StoredCredential, Bad>)> = Vec::new();
            while batch.len() < usize::from(IMPORT_BATCH) {
                let Some((line, record)) = reader.next()? else {
                    more = false;
                    break;
                };
                let random = random_array(&*self.random).map_err(super::ServiceError::from)?;
                let (now, reading) = (self.clock.now(), &import.reading);
                let defaults = Defaults { now, creator: &creator, random, reading };
                batch.push((line, record.map_err(Bad::from).and_then(|r| check(&r, &defaults))));
            }
            let good = batch.iter().filter_map(|(_, checked)| checked.as_ref().ok());
            let found = self.store.find_imported(&batch::names(good)).await?;
            let surroundings = Surroundings::of(&found, import.options.create_missing);
            tally.lines += batch.len() as u64;
            for (line, checked) in batch {
                let verdict = checked.map(|mut stored| {
                    let verdict = surroundings.resolve(&mut stored);
                    (if gone.has(&stored, &verdict) { narrower::buried() } else { verdict }, stored)
                });
                match verdict {
                    Err(bad) | Ok((Verdict::Bad(bad), _)) => tally.bad(watch, line, &bad),
                    Ok((verdict, stored)) => {
                        duplicates
                            .note(line, &stored.digest, stored.credential.id)
                            .map_err(TransferError::temporary)?;
                        if matches!(verdict, Verdict::There) {
                            tally.there.insert(line);
                        } else {
                            spool.push(line, &Record::of(&stored).to_json())?;
                        }
                    }
                }
            }
            watch.progress(ImportPhase::Check, reader.bytes(), None);
        }
        let found = duplicates.find(|found| {
            let (column, first) = (found.column, found.first);
            let reason = match tally.unit {
                "line" => format!("{column}: is the same as on line {first}"),
                unit => format!("{column}: is the same as in {unit} {first}"),
            };
            tally.bad(watch, found.line, &Bad { reason, stops: None });
        });
        found.map_err(TransferError::temporary)
    }
}
