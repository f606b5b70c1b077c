//! `audit list --follow`: prints events as they come, each once, and keeps the position.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::Context as _;
use tempfile::NamedTempFile;

use super::args::record::FollowArgs;
use super::args::{Global, Output};
use super::audit::COLUMNS;
use super::output::PrintError;
use super::{UsageError, open_service, operator, output};
use crate::model::limits::PAGE_TOKEN_BYTES_MAX;
use crate::service::{Kind, ListAuditEvents, Reason, ServiceError, view};

/// What is wrong with a state file of another origin.
const NO_TOKEN: &str = "it has no resume token of this store for these filters: give another file, or delete it to \
                        begin with the first event";

/// Follows the log until a signal ends the command, or its reader closes the pipe.
pub(super) async fn run(
    global: &Global,
    mut request: ListAuditEvents,
    args: FollowArgs,
) -> anyhow::Result<()> {
    if let Some(file) = &args.state_file {
        request.resume_token = read_state(file)?;
        // A new file in its directory replaces it, so the directory must be writable. Found out before anything is printed.
        new_state(file).map_err(|error| refuse(file, &format!("it cannot be written: {error}")))?;
    }
    let service = open_service(global).await?;
    let mut header = true;
    let mut failing = false;
    loop {
        let page = match service.list_audit_events(&operator(), &request).await {
            Ok(page) => page,
            // The store may be back in a moment, and the position is kept.
            Err(error) if error.reason.kind() == Kind::Unavailable && !header => {
                if !failing {
                    output::note(&format!("{error}; trying again every {:?}", args.poll));
                }
                failing = true;
                tokio::time::sleep(args.poll).await;
                continue;
            }
            Err(error) => {
                return Err(match &args.state_file {
                    Some(file) if header => wrong_state(file, error),
                    _ => error.into(),
                });
            }
        };
        failing = false;
        let events: Vec<_> = page.events.iter().map(view::audit_event).collect();
        match global.output {
            Output::Json => output::json_lines(events.into_iter())?,
            Output::Table | Output::Token => output::rows(&COLUMNS, &events, header)?,
        }
        header = false;
        // After the events, so that a crash between the two repeats events and misses none.
        if let Some(file) =
            args.state_file.as_deref().filter(|_| page.resume_token != request.resume_token)
        {
            write_state(file, &page.resume_token)?;
        }
        request.resume_token = page.resume_token;
        if page.next_token.is_empty() {
            tokio::time::sleep(args.poll).await;
        }
    }
}

/// Returns the token in the file. Empty if there is no file yet.
fn read_state(file: &Path) -> Result<String, UsageError> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().len() <= PAGE_TOKEN_BYTES_MAX => Ok(text.trim().to_owned()),
        Ok(_) => Err(refuse(file, NO_TOKEN)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(refuse(file, NO_TOKEN)),
        Err(error) => Err(refuse(file, &error.to_string())),
    }
}

fn refuse(file: &Path, text: &str) -> UsageError {
    UsageError(format!("--state-file {}: {text}", file.display()))
}

/// Names the file in an error of the first page, if the token in it is the cause.
fn wrong_state(file: &Path, error: ServiceError) -> anyhow::Error {
    if error.violations.iter().any(|violation| violation.field == "resume_token") {
        return refuse(file, NO_TOKEN).into();
    }
    let restored = error.reason == Reason::AuditLogRestored;
    let error = anyhow::Error::from(error);
    if restored { error.context(format!("--state-file {}", file.display())) } else { error }
}

/// Replaces the file in one step.
fn write_state(file: &Path, token: &str) -> anyhow::Result<()> {
    let written = || {
        let mut new = new_state(file)?;
        writeln!(new, "{token}")?;
        new.as_file().sync_all()?;
        new.persist(file).map(drop).map_err(|error| error.error)
    };
    written()
        .map_err(PrintError::File)
        .with_context(|| format!("--state-file {} cannot be written", file.display()))
}

/// Creates the file that will replace the state file.
fn new_state(file: &Path) -> std::io::Result<NamedTempFile> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
}
