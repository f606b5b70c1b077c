//! Reads the file of a deployment. All of it is checked and spooled before the store is used.

use std::io::BufRead;

use serde::Deserialize;

use super::super::super::{Context, Service};
use super::super::TransferError;
use super::super::check::{Defaults, LineError, check};
use super::super::deployment::{DeploymentRecord, VERSION};
use super::super::duplicates::Duplicates;
use super::super::json;
use super::super::lines::{Line, Lines};
use super::super::names::ColumnOptions;
use super::super::record::Record;
use super::super::restricted::needs_new_rules;
use super::super::spool::SpoolWriter;
use super::{ImportObserver, ImportPhase, Tally};
use crate::model::{Invalid, PatPolicy};
use crate::store::StoredCredential;
use crate::token::random_array;

/// The type of a record.
#[derive(Deserialize)]
struct RecordTag {
    record: String,
}

/// The order of the records, which is also the order of their locks.
const ORDER: [&str; 7] =
    ["deployment", "workspace", "user", "membership", "credential", "caller", "end"];

/// The spooled records, by type.
pub(super) struct Staged {
    /// Workspaces, users and memberships.
    pub(super) directory: SpoolWriter,
    pub(super) credentials: SpoolWriter,
    pub(super) callers: SpoolWriter,
}

/// A valid line.
enum StagedLine {
    Kept {
        /// Whether a server of an earlier release would ignore a rule in it.
        needs_new_rules: bool,
    },
    Credential(Box<StoredCredential>),
    End(u64),
}

impl Service {
    /// Reads the file. Bad records are reported and counted. An error in the file itself ends the import.
    pub(super) fn stage<R: BufRead>(
        &self,
        context: &Context,
        input: R,
        observer: &mut dyn ImportObserver,
        tally: &mut Tally,
    ) -> Result<Staged, TransferError> {
        let mut lines = Lines::new(input);
        let (directory, callers) = (SpoolWriter::new()?, SpoolWriter::new()?);
        let mut staged = Staged { directory, credentials: SpoolWriter::new()?, callers };
        let mut duplicates = Duplicates::new().map_err(TransferError::temporary)?;
        let (mut kind, mut last) = (0, None);
        while let Some((number, line)) = lines.next().map_err(TransferError::input)? {
            let refuse = |reason: &str| {
                Err(TransferError::Malformed { line: number, reason: reason.to_owned() })
            };
            let Line::Text(text) = line else { return refuse("it is too long, or not UTF-8") };
            if text.is_empty() {
                continue;
            }
            if last.is_some() {
                return refuse("there is more after the record `end`");
            }
            let tag = serde_json::from_str::<RecordTag>(text).ok();
            let found = tag.and_then(|tag| ORDER.iter().position(|name| *name == tag.record));
            let Some(found) = found else {
                return refuse("it is not a JSON object with a known `record`");
            };
            if found < kind || (found == 0) != (tally.lines == 0 && kind == 0 && number == 1) {
                return refuse("its records are not in the order of an export");
            }
            kind = found;
            match self.read_line(context, ORDER[kind], text) {
                Ok(StagedLine::End(records)) => last = Some((number, records)),
                Ok(StagedLine::Kept { .. }) if kind == 0 => {}
                Ok(StagedLine::Kept { needs_new_rules }) => {
                    tally.needs_new_rules |= needs_new_rules;
                    tally.lines += 1;
                    let callers = ORDER[kind] == "caller";
                    let spool = if callers { &mut staged.callers } else { &mut staged.directory };
                    spool.push(number, text)?;
                }
                Ok(StagedLine::Credential(stored)) => {
                    tally.lines += 1;
                    tally.needs_new_rules |= needs_new_rules(&stored.credential);
                    let noted = duplicates.note(number, &stored.digest, stored.credential.id);
                    noted.map_err(TransferError::temporary)?;
                    staged.credentials.push(number, &Record::of(&stored).to_json())?;
                }
                Err(LineError { reason, .. }) if kind == 0 => return refuse(&reason),
                Err(bad) => {
                    tally.lines += 1;
                    tally.bad(observer, number, &bad);
                }
            }
            observer.progress(ImportPhase::Check, lines.bytes(), None);
        }
        check_complete(tally, last)?;
        let found = duplicates.find(|found| {
            let reason = format!("{}: is the same as on line {}", found.column, found.first);
            tally.bad(observer, found.line, &LineError { reason, refuses_file: None });
        });
        found.map_err(TransferError::temporary)?;
        Ok(staged)
    }

    /// Checks one line.
    fn read_line(
        &self,
        context: &Context,
        kind: &str,
        text: &str,
    ) -> Result<StagedLine, LineError> {
        if kind == "credential" {
            let columns =
                ColumnOptions { ignored: vec!["record".to_owned()], ..ColumnOptions::default() };
            let random = random_array(&*self.random).map_err(|_| Invalid::new("no randomness"))?;
            let (now, creator) = (self.clock.now(), context.requester_name());
            let defaults = Defaults { now, creator: &creator, random, columns: &columns };
            let stored = check(&json::parse(text, &columns)?, &defaults)?;
            return Ok(StagedLine::Credential(Box::new(stored)));
        }
        // The messages of serde repeat the input.
        let record = serde_json::from_str::<DeploymentRecord>(text).map_err(|error| {
            let at = error.column();
            Invalid::new(format!("it does not have the fields of a {kind} (at byte {at})"))
        })?;
        let named = |Invalid(reason)| LineError::from(Invalid::new(format!("{kind}: {reason}")));
        let mut needs_new_rules = false;
        match record {
            DeploymentRecord::Deployment { version: VERSION, .. } => {}
            DeploymentRecord::Deployment { .. } => {
                return Err(Invalid::new("this program does not know its version").into());
            }
            DeploymentRecord::End { records } => return Ok(StagedLine::End(records)),
            DeploymentRecord::Workspace(record) => {
                let (workspace, _) = record.read().map_err(named)?;
                needs_new_rules = workspace.pat_policy != PatPolicy::default();
            }
            DeploymentRecord::User(record) => drop(record.read().map_err(named)?),
            DeploymentRecord::Membership(record) => drop(record.read().map_err(named)?),
            DeploymentRecord::Caller(record) => drop(record.read().map_err(named)?),
        }
        Ok(StagedLine::Kept { needs_new_rules })
    }
}

/// Checks that the file is complete.
fn check_complete(tally: &Tally, last: Option<(u64, u64)>) -> Result<(), TransferError> {
    let (line, reason) = match last {
        Some((_, records)) if records == tally.lines => return Ok(()),
        Some((line, _)) => (line, "there are not as many records as the last line says"),
        None => (tally.lines + 1, "its last line is missing: it was cut off"),
    };
    Err(TransferError::Malformed { line, reason: reason.to_owned() })
}
