//! Reading the file of a deployment: all of it is checked and kept in temporary files before the store is asked anything.

use std::io::BufRead;

use serde::Deserialize;

use super::super::super::{Context, Service};
use super::super::TransferError;
use super::super::check::{Bad, Defaults, check};
use super::super::deployment::{Said, VERSION};
use super::super::duplicates::Duplicates;
use super::super::json;
use super::super::lines::{Line, Lines};
use super::super::names::Reading;
use super::super::record::Record;
use super::super::spool::Spool;
use super::{ImportPhase, ImportWatch, Tally};
use crate::model::Invalid;
use crate::store::StoredCredential;
use crate::token::random_array;

/// What a line is.
#[derive(Deserialize)]
struct Tag {
    record: String,
}

/// The order of the records: that in which the store is locked.
const ORDER: [&str; 7] =
    ["deployment", "workspace", "user", "membership", "credential", "caller", "end"];

/// What passed, kind by kind.
pub(super) struct Staged {
    /// Workspaces, users and memberships.
    pub(super) directory: Spool,
    pub(super) credentials: Spool,
    pub(super) callers: Spool,
}

/// A line that was read, by what becomes of it.
enum Read {
    Kept,
    Credential(Box<StoredCredential>),
    Last(u64),
}

impl Service {
    /// Reads all of it. What is wrong with a record is told and counted; what is wrong with the file ends it.
    pub(super) fn stage<R: BufRead>(
        &self,
        context: &Context,
        input: R,
        watch: &mut dyn ImportWatch,
        tally: &mut Tally,
    ) -> Result<Staged, TransferError> {
        let mut lines = Lines::new(input);
        let (directory, callers) = (Spool::new()?, Spool::new()?);
        let mut staged = Staged { directory, credentials: Spool::new()?, callers };
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
                return refuse("there is more after the record that is the end");
            }
            let tag = serde_json::from_str::<Tag>(text).ok();
            let found = tag.and_then(|tag| ORDER.iter().position(|name| *name == tag.record));
            let Some(found) = found else {
                return refuse("it is no JSON object with a `record` that is known");
            };
            if found < kind || (found == 0) != (tally.lines == 0 && kind == 0 && number == 1) {
                return refuse("its records are not in the order in which they are exported");
            }
            kind = found;
            match self.read_line(context, ORDER[kind], text) {
                Ok(Read::Last(records)) => last = Some((number, records)),
                Ok(Read::Kept) if kind == 0 => {}
                Ok(Read::Kept) => {
                    tally.lines += 1;
                    let callers = ORDER[kind] == "caller";
                    let spool = if callers { &mut staged.callers } else { &mut staged.directory };
                    spool.push(number, text)?;
                }
                Ok(Read::Credential(stored)) => {
                    tally.lines += 1;
                    let noted = duplicates.note(number, &stored.digest, stored.credential.id);
                    noted.map_err(TransferError::temporary)?;
                    staged.credentials.push(number, &Record::of(&stored).to_json())?;
                }
                Err(Bad { reason, .. }) if kind == 0 => return refuse(&reason),
                Err(bad) => {
                    tally.lines += 1;
                    tally.bad(watch, number, &bad);
                }
            }
            watch.progress(ImportPhase::Check, lines.bytes(), None);
        }
        whole(tally, last)?;
        let found = duplicates.find(|found| {
            let reason = format!("{}: is the same as on line {}", found.column, found.first);
            tally.bad(watch, found.line, &Bad { reason, stops: None });
        });
        found.map_err(TransferError::temporary)?;
        Ok(staged)
    }

    /// Checks a line by itself.
    fn read_line(&self, context: &Context, kind: &str, text: &str) -> Result<Read, Bad> {
        if kind == "credential" {
            let reading = Reading { ignored: vec!["record".to_owned()], ..Reading::default() };
            let random = random_array(&*self.random).map_err(|_| Invalid::new("no randomness"))?;
            let (now, creator) = (self.clock.now(), context.requester_name());
            let defaults = Defaults { now, creator: &creator, random, reading: &reading };
            let stored = check(&json::parse(text, &reading)?, &defaults)?;
            return Ok(Read::Credential(Box::new(stored)));
        }
        // serde's own words repeat what they have read.
        let said = serde_json::from_str::<Said>(text).map_err(|error| {
            let at = error.column();
            Invalid::new(format!("its fields are not those of a {kind} (at byte {at})"))
        })?;
        let named = |Invalid(reason)| Bad::from(Invalid::new(format!("{kind}: {reason}")));
        match said {
            Said::Deployment { version: VERSION, .. } => {}
            Said::Deployment { .. } => {
                return Err(
                    Invalid::new("it is of a version that this program does not know").into()
                );
            }
            Said::End { records } => return Ok(Read::Last(records)),
            Said::Workspace(said) => drop(said.read().map_err(named)?),
            Said::User(said) => drop(said.read().map_err(named)?),
            Said::Membership(said) => drop(said.read().map_err(named)?),
            Said::Caller(said) => drop(said.read().map_err(named)?),
        }
        Ok(Read::Kept)
    }
}

/// Whether the file is all there.
fn whole(tally: &Tally, last: Option<(u64, u64)>) -> Result<(), TransferError> {
    let (line, reason) = match last {
        Some((_, records)) if records == tally.lines => return Ok(()),
        Some((line, _)) => (line, "there are not as many records as its last line says"),
        None => (tally.lines + 1, "its last line is missing: it was cut off"),
    };
    Err(TransferError::Malformed { line, reason: reason.to_owned() })
}
