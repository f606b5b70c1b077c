//! All that is printed. A token is printed here and nowhere else, and only the one that was just made.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};

use super::args::Output;
use crate::service::ServiceError;

/// A line on standard output.
pub(super) fn line(text: &str) {
    // Whoever closed the pipe wants no more of it.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A failure, on standard error. As JSON: `error`, with a reason code of the README's table where it is the service's, the
/// exit code, and all fields that are not as they must be.
pub(super) fn error(format: Output, error: &anyhow::Error, exit_code: u8) {
    if format != Output::Json {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        return;
    }
    let mut fields = json!({"message": format!("{error:#}"), "exit_code": exit_code});
    if let Some(error) = error.downcast_ref::<ServiceError>() {
        fields["reason"] = error.reason.code().into();
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
    let _ = writeln!(std::io::stderr(), "{}", json!({"error": fields}));
}

/// What clap has to say: help and version, on standard output, and what is wrong with the command line.
pub(super) fn usage(error: &clap::Error, json: bool) {
    if error.use_stderr() && json {
        let fields =
            json!({"message": error.to_string().trim_end(), "exit_code": error.exit_code()});
        let _ = writeln!(std::io::stderr(), "{}", json!({"error": fields}));
    } else {
        let _ = error.print();
    }
}

/// Standard output itself, for what is too much to be held.
pub(super) fn stream() -> impl std::io::Write + Send {
    std::io::stdout()
}

/// A remark, on standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether somebody watches standard error.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Each as JSON on a line of its own; whether there is still somebody who reads.
pub(super) fn json_lines(values: impl Iterator<Item = Value>) -> bool {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let write = || {
        for value in values {
            writeln!(out, "{value}")?;
        }
        out.flush()
    };
    write().is_ok()
}

/// One thing: its fields as lines, or JSON.
pub(super) fn item(output: Output, value: &Value) {
    match output {
        Output::Json => line(&value.to_string()),
        Output::Table | Output::Token => {
            let Value::Object(fields) = value else { return line(&cell(value)) };
            let mut table = table();
            for (name, value) in fields {
                table.add_row([name.clone(), cell(value)]);
            }
            line(&trimmed(&table));
        }
    }
}

/// A list: `{"<name>": […]}`, or a table of these columns.
pub(super) fn list(output: Output, name: &str, columns: &[&str], items: &[Value]) {
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
            line(&trimmed(&table));
        }
    }
}

/// Something new, with its token this once.
pub(super) fn created(output: Output, name: &str, value: Value, token: Option<&str>) {
    match (output, token) {
        (Output::Token, Some(token)) => line(token),
        (Output::Json, token) => {
            let mut object = serde_json::Map::new();
            object.insert(name.to_owned(), value);
            if let Some(token) = token {
                object.insert("token".to_owned(), token.into());
            }
            line(&Value::Object(object).to_string());
        }
        (Output::Table | Output::Token, token) => {
            item(Output::Table, &value);
            if let Some(token) = token {
                line(&format!("\nThe token, shown this once:\n{token}"));
            }
        }
    }
}

/// What was rotated, with its new token this once; and whether the end of the old one is still pending.
pub(super) fn rotated(output: Output, name: &str, value: Value, token: &str, end_pending: bool) {
    if !end_pending {
        return created(output, name, value, Some(token));
    }
    if matches!(output, Output::Json) {
        let fields = serde_json::json!({name: value, "token": token, "end_pending": true});
        line(&fields.to_string());
        return;
    }
    created(output, name, value, Some(token));
    note(
        "end_pending: not every server has confirmed when the old token ends; one that has not may accept it for longer, by \
         a lease at the most",
    );
}

/// Completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell, command: &mut clap::Command) {
    clap_complete::generate(shell, command, "sophic-auth", &mut std::io::stdout());
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
