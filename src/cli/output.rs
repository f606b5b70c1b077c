//! All output of the command line. Only this module prints tokens, and only those that were just created.

use std::io::{Error, ErrorKind, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use rustix::fs::{OFlags, major, minor};
use serde_json::{Value, json};

use super::args::Output;
use super::{failure, flag_names};
use crate::token::redact_tokens;

/// Time limit for a reader of standard error, or of a server's startup lines.
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// Major and minor device number of /dev/null on Linux.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Why output could not be printed completely.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// The reader has closed the pipe.
    #[error("the reader has closed standard output")]
    Closed,
    /// The write failed, as when the disk is full.
    #[error("standard output cannot be written: {0}")]
    Failed(Error),
    /// The write to a file failed, which the context names.
    #[error("{0}")]
    File(Error),
}

impl From<Error> for PrintError {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

/// Result of printing.
pub(super) type PrintResult = Result<(), PrintError>;

/// Prints a line to standard output and flushes it.
pub(super) fn line(text: &str) -> PrintResult {
    // The standard library ignores the write error of a file that is open for reading only.
    let modes = rustix::fs::fcntl_getfl(std::io::stdout());
    if modes.is_ok_and(|modes| modes & OFlags::RWMODE == OFlags::RDONLY) {
        return Err(PrintError::Failed(Error::other("it is open for reading only")));
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints the startup lines of a server. The server runs even if they cannot be printed.
pub(super) fn announce(text: String) {
    if let Some(Err(error)) = with_timeout(move || line(&text)) {
        tracing::warn!(%error, "could not print the addresses");
    }
}

/// Prints startup lines with new tokens. Fails if the reader is blocked, because the tokens cannot be shown again.
pub(super) fn announce_tokens(text: String) -> PrintResult {
    refuse_null_device()?;
    let stuck = || Err(PrintError::Failed(Error::other("its reader is blocked")));
    with_timeout(move || line(&text)).unwrap_or_else(stuck)
}

/// Writes in a separate thread. Returns `None` if a blocked reader delays it beyond [`READER_TIMEOUT`].
fn with_timeout<T: Send + 'static>(write: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Fails if the time limit has passed.
        let _ = done.send(write());
    });
    is_done.recv_timeout(READER_TIMEOUT).ok()
}

/// Whether all output is JSON, including standard error.
static JSON: AtomicBool = AtomicBool::new(false);

/// Makes all further output JSON.
pub(super) fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Whether all output is JSON.
pub(super) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Prints a failure to standard error. As JSON it is an object `error` with the reason code (`docs/errors.md`), the exit
/// code, and all invalid fields.
pub(super) fn error(format: Output, error: &anyhow::Error) {
    let (mut message, place) = (format!("{error:#}"), super::store_url::selected());
    if let Some(error) = failure::service_error(error) {
        message = message.replace(&error.to_string(), &flag_names::by_flags(error).to_string());
    }
    if let Some(lacking) = super::store_url::missing_rights() {
        message = format!("{message}; {lacking}");
    }
    if format != Output::Json {
        let place = place.filter(|place| !message.contains(place));
        let place = place.map(|place| format!(" [store: {place}]")).unwrap_or_default();
        return write_last_line(&format!("error: {message}{place}"));
    }
    let (reason, exit_code) = failure::classify(error);
    let mut fields = json!({"message": message, "exit_code": exit_code, "reason": reason});
    if let Some(place) = place {
        fields["store"] = place.into();
    }
    if let Some(error) = failure::service_error(error) {
        if !error.violations.is_empty() {
            let named = flag_names::by_flags(error).violations;
            let violations = error.violations.iter().zip(&named).map(|(violation, named)| {
                let mut shown = json!({"field": violation.field, "description": named.description});
                if let Some(flag) = flag_names::of_field(&violation.field) {
                    shown["flag"] = flag.into();
                }
                shown
            });
            fields["field_violations"] = violations.collect();
        }
        for (key, value) in &error.metadata {
            fields["metadata"][*key] = value.as_str().into();
        }
    }
    write_last_line(&json!({"error": fields}).to_string());
}

/// Prints the last line to standard error. Does not wait for a blocked reader.
fn write_last_line(text: &str) {
    // People paste tokens into names of files and other values that errors repeat.
    let text = redact_tokens(text).into_owned();
    // A failure to write to standard error cannot be reported.
    with_timeout(move || drop(writeln!(std::io::stderr(), "{text}")));
}

/// Prints a message of clap: help and version to standard output, usage errors to standard error.
pub(super) fn usage(error: &clap::Error, json: bool) -> std::io::Result<()> {
    let text = error.to_string();
    let redacted = redact_tokens(&text);
    let repeats_token = redacted != text;
    let text = redacted.trim_end();
    if !json && repeats_token {
        // A variable has it.
        return if error.use_stderr() {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }
    if !json {
        error.print()?;
        return std::io::stdout().flush();
    }
    if error.use_stderr() {
        let (reason, exit_code) = (failure::code::USAGE.code, error.exit_code());
        let fields = json!({"message": text, "exit_code": exit_code, "reason": reason});
        return writeln!(std::io::stderr(), "{}", json!({"error": fields}));
    }
    let name =
        if error.kind() == clap::error::ErrorKind::DisplayVersion { "version" } else { "help" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({name: text}))?;
    out.flush()
}

/// Returns standard output, for results that are too large to hold in memory.
pub(super) fn stdout() -> impl std::io::Write + Send {
    std::io::stdout()
}

/// Returns standard error, for the log.
pub(super) fn stderr() -> std::io::Stderr {
    std::io::stderr()
}

/// Prints a note to standard error. As JSON it is an object `note` with a `message`.
pub(super) fn note(text: &str) {
    note_with_fields(text, json!({}));
}

/// Prints a note with additional fields, which appear in JSON only.
pub(super) fn note_with_fields(text: &str, mut fields: Value) {
    let mut err = std::io::stderr();
    // A failure to write to standard error cannot be reported.
    let _ = if is_json() {
        fields["message"] = text.into();
        writeln!(err, "{}", json!({"note": fields}))
    } else {
        writeln!(err, "{text}")
    };
}

/// Whether standard error is a terminal, and output is not JSON.
pub(super) fn is_terminal() -> bool {
    !is_json() && std::io::stderr().is_terminal()
}

/// Prints values as JSON lines.
pub(super) fn json_lines(values: impl Iterator<Item = Value>) -> PrintResult {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for value in values {
        writeln!(out, "{value}")?;
    }
    Ok(out.flush()?)
}

/// Prints one object, as a table of its fields or as JSON.
pub(super) fn item(output: Output, value: &Value) -> PrintResult {
    match output {
        Output::Json => line(&value.to_string()),
        Output::Table | Output::Token => {
            let Value::Object(fields) = value else { return line(&cell(value)) };
            let mut table = table();
            for (name, value) in fields {
                table.add_row([name.clone(), cell(value)]);
            }
            line(&trimmed(&table))
        }
    }
}

/// Prints a list, as a table of these columns or as JSON, `{"<name>": […]}`.
pub(super) fn list(output: Output, name: &str, columns: &[&str], items: &[Value]) -> PrintResult {
    list_and(output, name, columns, items, None)
}

/// Prints a list like [`list`], and a further field: a line below the table.
pub(super) fn list_and(
    output: Output,
    name: &str,
    columns: &[&str],
    items: &[Value],
    more: Option<(&str, &str)>,
) -> PrintResult {
    if items.is_empty() {
        // Names the store, which may be the wrong one.
        super::store_url::note("nothing found");
    }
    match output {
        Output::Json => {
            let mut fields = serde_json::json!({ name: items });
            if let Some((name, value)) = more {
                fields[name] = value.into();
            }
            line(&fields.to_string())
        }
        Output::Table | Output::Token => {
            rows(columns, items, true)?;
            more.map_or(Ok(()), |(name, value)| line(&format!("{name}: {value}")))
        }
    }
}

/// Prints rows of a table, with or without its header. Prints nothing if there is neither.
pub(super) fn rows(columns: &[&str], items: &[Value], header: bool) -> PrintResult {
    if items.is_empty() && !header {
        return Ok(());
    }
    let mut table = table();
    if header {
        table.set_header(columns.iter().map(|column| column.to_uppercase().replace('_', " ")));
    }
    for item in items {
        table.add_row(columns.iter().map(|column| item.get(column).map(cell).unwrap_or_default()));
    }
    line(&trimmed(&table))
}

/// Refuses the null device, because a token printed to it would be lost. This covers a closed standard output, which the
/// standard library replaces by the null device.
fn refuse_null_device() -> PrintResult {
    let device = rustix::fs::fstat(std::io::stdout()).map(|found| found.st_rdev);
    if device.is_ok_and(|device| (major(device), minor(device)) == NULL_DEVICE) {
        return Err(PrintError::Failed(Error::other("it is closed, or the null device")));
    }
    Ok(())
}

/// Prints a new object with its token.
pub(super) fn created(
    output: Output,
    name: &str,
    value: Value,
    token: Option<&str>,
) -> PrintResult {
    if token.is_some() {
        refuse_null_device()?;
    }
    match (output, token) {
        (Output::Token, Some(token)) => line(token),
        (Output::Json, token) => {
            let mut object = serde_json::Map::new();
            object.insert(name.to_owned(), value);
            if let Some(token) = token {
                object.insert("token".to_owned(), token.into());
            }
            line(&Value::Object(object).to_string())
        }
        (Output::Table | Output::Token, token) => {
            item(Output::Table, &value)?;
            token.map_or(Ok(()), |token| line(&format!("\nThe token, shown this once:\n{token}")))
        }
    }
}

/// Prints a rotated object with its new token, and whether the end of the old token is still pending.
pub(super) fn rotated(
    output: Output,
    name: &str,
    value: Value,
    token: &str,
    end_pending: bool,
) -> PrintResult {
    refuse_null_device()?;
    if !end_pending {
        return created(output, name, value, Some(token));
    }
    if matches!(output, Output::Json) {
        let fields = serde_json::json!({name: value, "token": token, "end_pending": true});
        return line(&fields.to_string());
    }
    created(output, name, value, Some(token))?;
    note(
        "end_pending: not every server has confirmed when the old token ends. A server that has not may accept it longer, by \
        one lease at most",
    );
    Ok(())
}

/// Prints a text. As JSON it is a field of this name.
pub(super) fn text(output: Output, name: &str, text: &str) -> PrintResult {
    match output {
        Output::Json => line(&json!({name: text}).to_string()),
        Output::Table | Output::Token => line(text),
    }
}

/// Prints completions for a shell.
pub(super) fn completions(
    output: Output,
    shell: clap_complete::Shell,
    command: &mut clap::Command,
) -> PrintResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "sophic-auth", &mut script);
    text(output, "completions", String::from_utf8_lossy(&script).trim_end())
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn trimmed(table: &Table) -> String {
    let lines = table.lines().map(|line| line.trim().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}
