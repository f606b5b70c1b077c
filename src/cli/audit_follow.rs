//! `audit list --follow`: prints events as they come, each once, and keeps the position.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::args::record::FollowArgs;
use super::args::{Global, Output};
use super::audit::COLUMNS;
use super::output::PrintError;
use super::{UsageError, open_service, operator, output};
use crate::model::limits::PAGE_TOKEN_BYTES_MAX;
use crate::service::{Kind, ListAuditEvents, view};

/// Follows the log until a signal ends the command, or its reader closes the pipe.
pub(super) async fn run(
    global: &Global,
    mut request: ListAuditEvents,
    args: FollowArgs,
) -> anyhow::Result<()> {
    if let Some(file) = &args.state_file {
        request.resume_token = read_state(file)?;
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
            Err(error) => return Err(error.into()),
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
fn read_state(file: &Path) -> anyhow::Result<String> {
    let refuse = |text: String| UsageError(format!("--state-file {}: {text}", file.display()));
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().len() <= PAGE_TOKEN_BYTES_MAX => Ok(text.trim().to_owned()),
        Ok(_) => Err(refuse("it has no resume token".to_owned()).into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(refuse(error.to_string()).into()),
    }
}

/// Replaces the file in one step.
fn write_state(file: &Path, token: &str) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written = || {
        let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        writeln!(new, "{token}")?;
        new.as_file().sync_all()?;
        new.persist(file).map(drop).map_err(|error| error.error)
    };
    written()
        .map_err(PrintError::Failed)
        .with_context(|| format!("{} cannot be written", file.display()))
}
