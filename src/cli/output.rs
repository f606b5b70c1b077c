//! All that is printed. A token is printed here and nowhere else, and only the one that was just made.

use std::io::{Error, ErrorKind, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use rustix::fs::{OFlags, major, minor};
use serde_json::{Value, json};

use super::args::Output;
use super::failure;

/// How long a reader of standard error, or of what a server says, is waited for.
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// Major and minor number of /dev/null on Linux.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// What was to be printed was not, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// Whoever read it has closed the pipe, and wants no more of it.
    #[error("whoever reads standard output has closed it")]
    Closed,
    /// The disk is full, say.
    #[error("standard output cannot be written: {0}")]
    Failed(Error),
}

impl From<Error> for PrintError {
    fn from(error: Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

/// What printing gives.
pub(super) type PrintResult = Result<(), PrintError>;

/// A line on standard output, which has arrived there when this returns.
pub(super) fn line(text: &str) -> PrintResult {
    // The standard library takes what is open for reading only for a place where all was written.
    let modes = rustix::fs::fcntl_getfl(std::io::stdout());
    if modes.is_ok_and(|modes| modes & OFlags::RWMODE == OFlags::RDONLY) {
        return Err(PrintError::Failed(Error::other("it is open for reading only")));
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// The lines with which a server says that it runs. It runs whether or not anybody can read them.
pub(super) fn announce(text: String) {
    if let Some(Err(error)) = with_timeout(move || line(&text)) {
        tracing::warn!(%error, "where it listens could not be printed");
    }
}

/// The same of lines with tokens that are shown this once: a reader that is stuck has not seen them.
pub(super) fn announce_tokens(text: String) -> PrintResult {
    refuse_null_device()?;
    let stuck = || Err(PrintError::Failed(Error::other("nobody reads it")));
    with_timeout(move || line(&text)).unwrap_or_else(stuck)
}

/// Writes in a thread of its own: a reader that is stuck holds up nothing but that, and gets nothing back.
fn with_timeout<T: Send + 'static>(write: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(write());
    });
    is_done.recv_timeout(READER_TIMEOUT).ok()
}

/// Whether all that is said is JSON, on standard error too.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on every line is JSON.
pub(super) fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Whether every line is JSON.
pub(super) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// A failure, on standard error. As JSON: `error`, with a reason code of `docs/errors.md`, the exit code, and all fields
/// that are not as they must be.
pub(super) fn error(format: Output, error: &anyhow::Error) {
    let (mut message, place) = (format!("{error:#}"), super::store_url::location());
    if let Some(lacking) = super::store_url::missing_rights() {
        message = format!("{message}; {lacking}");
    }
    if format != Output::Json {
        let place = place.filter(|place| !message.contains(place));
        let place = place.map(|place| format!(" [store: {place}]")).unwrap_or_default();
        return write_last_line(format!("error: {message}{place}"));
    }
    let (reason, exit_code) = failure::classify(error);
    let mut fields = json!({"message": message, "exit_code": exit_code, "reason": reason});
    if let Some(place) = place {
        fields["store"] = place.into();
    }
    if let Some(error) = failure::service_error(error) {
        if !error.violations.is_empty() {
            let violations = error.violations.iter();
            let violations = violations.map(
                |violation| json!({"field": violation.field, "description": violation.description}),
            );
            fields["field_violations"] = violations.collect();
        }
        for (key, value) in &error.metadata {
            fields["metadata"][*key] = value.as_str().into();
        }
    }
    write_last_line(json!({"error": fields}).to_string());
}

/// The last line, for which a reader that is stuck is not waited for.
fn write_last_line(text: String) {
    // Where it cannot be written there is nobody to tell.
    with_timeout(move || drop(writeln!(std::io::stderr(), "{text}")));
}

/// What clap has to say: help and version, on standard output, and what is wrong with the command line.
pub(super) fn usage(error: &clap::Error, json: bool) -> std::io::Result<()> {
    if !json {
        error.print()?;
        return std::io::stdout().flush();
    }
    let text = error.to_string();
    let text = text.trim_end();
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

/// Standard output itself, for what is too much to be held.
pub(super) fn stdout() -> impl std::io::Write + Send {
    std::io::stdout()
}

/// Standard error itself, for the log.
pub(super) fn stderr() -> std::io::Stderr {
    std::io::stderr()
}

/// A remark, on standard error; as JSON: `note`, with a `message`.
pub(super) fn note(text: &str) {
    note_with_fields(text, json!({}));
}

/// The same, with more fields for programs.
pub(super) fn note_with_fields(text: &str, mut fields: Value) {
    let mut err = std::io::stderr();
    // Where not even that can be written there is nobody to tell.
    let _ = if is_json() {
        fields["message"] = text.into();
        writeln!(err, "{}", json!({"note": fields}))
    } else {
        writeln!(err, "{text}")
    };
}

/// Whether somebody watches standard error.
pub(super) fn is_terminal() -> bool {
    !is_json() && std::io::stderr().is_terminal()
}

/// Each as JSON on a line of its own.
pub(super) fn json_lines(values: impl Iterator<Item = Value>) -> PrintResult {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for value in values {
        writeln!(out, "{value}")?;
    }
    Ok(out.flush()?)
}

/// One thing: its fields as lines, or JSON.
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

/// A list: `{"<name>": […]}`, or a table of these columns.
pub(super) fn list(output: Output, name: &str, columns: &[&str], items: &[Value]) -> PrintResult {
    if items.is_empty() {
        // It may be the wrong store.
        super::store_url::note("nothing found");
    }
    match output {
        Output::Json => line(&serde_json::json!({ name: items }).to_string()),
        Output::Table | Output::Token => {
            let mut table = table();
            table.set_header(columns.iter().map(|column| column.to_uppercase().replace('_', " ")));
            for item in items {
                table.add_row(
                    columns.iter().map(|column| item.get(column).map(cell).unwrap_or_default()),
                );
            }
            line(&trimmed(&table))
        }
    }
}

/// Refuses the null device, where a token that is shown once is lost. A standard output that was closed is that too: the
/// standard library opens it there.
fn refuse_null_device() -> PrintResult {
    let device = rustix::fs::fstat(std::io::stdout()).map(|found| found.st_rdev);
    if device.is_ok_and(|device| (major(device), minor(device)) == NULL_DEVICE) {
        return Err(PrintError::Failed(Error::other("it is closed, or the null device")));
    }
    Ok(())
}

/// Something new, with its token this once.
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

/// What was rotated, with its new token this once; and whether the end of the old one is still pending.
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
        "end_pending: not every server has confirmed when the old token ends; one that has not may accept it for longer, by \
         a lease at the most",
    );
    Ok(())
}

/// A text that is all of the answer; as JSON under this name.
pub(super) fn text(output: Output, name: &str, text: &str) -> PrintResult {
    match output {
        Output::Json => line(&json!({name: text}).to_string()),
        Output::Table | Output::Token => line(text),
    }
}

/// Completions for a shell.
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
