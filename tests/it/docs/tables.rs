//! The tables of the pages, generated from the command line, the protocol, the error table and the benchmark results.

use std::fmt::Write as _;

use clap::{Arg, Command};
use prost_types::FileDescriptorProto;
use sophic_auth::cli;
use sophic_auth::grpc;
use sophic_auth::model::{AuditAction, Permission, PermissionSet, Role};
use sophic_auth::service::grant::{Case, Rule};
use sophic_auth::service::{Reason, Rpc};

use super::read;
use crate::house::ROOMS;

/// Formats a Markdown table.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<_> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut text = line(&head);
    text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    for row in rows {
        let row: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&line(&row));
    }
    text
}

fn code(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!("`{word}`") }
}

// ---- the command line

/// Splits a help text from the default that it names at its end, for flags that have none in clap.
fn help_and_default(arg: &Arg) -> (String, String) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = arg.get_default_values();
    if !arg.is_hide_default_value_set() && arg.get_action().takes_values() && !values.is_empty() {
        let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
        return (help, code(&values.join(" ")));
    }
    match help.split_once(" [default: ") {
        Some((text, default)) => (text.to_owned(), default.trim_end_matches(']').to_owned()),
        None => (help, String::new()),
    }
}

/// Returns the table of a command's flags and positional arguments, with variables and defaults.
fn arguments<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let arguments: Vec<_> =
        arguments.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())).collect();
    if arguments.is_empty() {
        return String::new();
    }
    let rows = arguments.iter().map(|arg| {
        let values = arg.get_value_names().unwrap_or_default();
        let value = values.first().map(|name| format!("<{name}>")).unwrap_or_default();
        let takes = arg.get_action().takes_values();
        let name = match arg.get_long() {
            Some(long) if takes => format!("--{long} {value}"),
            Some(long) => format!("--{long}"),
            None => value,
        };
        let env = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (mut help, default) = help_and_default(arg);
        let possible: Vec<_> =
            arg.get_possible_values().iter().map(|value| code(value.get_name())).collect();
        if takes && !possible.is_empty() {
            write!(help, " ({})", possible.join(", ")).expect("a String takes it");
        }
        vec![code(&name), code(&env), default, help]
    });
    table(&["flag", "variable", "default", "what it does"], rows)
}

/// Returns the flags that every command accepts.
pub(super) fn global_flags() -> String {
    let command = cli::command();
    arguments(command.get_arguments().filter(|arg| arg.is_global_set()))
}

/// Returns the flags of each command.
pub(super) fn flags() -> String {
    let mut text = String::new();
    for command in cli::command().get_subcommands() {
        describe("sophic-auth", command, &mut text);
    }
    text.trim_start().to_owned()
}

fn describe(above: &str, command: &Command, text: &mut String) {
    let name = format!("{above} {}", command.get_name());
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_some() {
        return below.for_each(|command| describe(&name, command, text));
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(text, "\n### {name}\n\n{about}.\n").expect("a String takes it");
    let own = arguments(command.get_arguments().filter(|arg| !arg.is_global_set()));
    if !own.is_empty() {
        write!(text, "\n{own}").expect("a String takes it");
    }
}

// ---- errors

/// Returns the name of a gRPC status as the specification spells it: `NOT_FOUND` for `NotFound`.
fn status_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Returns every reason with its status on each face, grouped by status.
pub(super) fn reasons() -> String {
    let mut reasons = Reason::ALL.to_vec();
    reasons.sort_by_key(|reason| grpc::code(reason.kind()) as i32);
    let rows = reasons.into_iter().map(|reason| {
        let (http, oauth) = sophic_auth::http::status(reason.kind());
        vec![
            code(reason.code()),
            code(&status_name(grpc::code(reason.kind()))),
            format!("{} {}", http.as_u16(), code(oauth)),
            match reason {
                Reason::RefusalPending => "that of the refusal".to_owned(),
                _ => cli::exit_code(reason).to_string(),
            },
            reason.text().to_owned(),
        ]
    });
    table(&["reason", "gRPC", "HTTP, and `error` for OAuth", "exit code", "what it says"], rows)
}

/// Returns every reason that only the command line has.
pub(super) fn commands() -> String {
    let rows = cli::COMMAND_REASONS.into_iter().map(|reason| {
        let exit = reason.exit_code.map_or("128 + signal".to_owned(), |exit| exit.to_string());
        vec![code(reason.code), exit, reason.text.to_owned()]
    });
    table(&["reason", "exit code", "what it says"], rows)
}

// ---- the protocol

fn protocol() -> Vec<FileDescriptorProto> {
    let protos = ["auth_service", "directory_service", "admin_service"]
        .map(|name| format!("proto/sophic/auth/v1/{name}.proto"));
    let mut compiler = protox::Compiler::new(["proto"]).expect("the folder is there");
    compiler.include_source_info(true).open_files(&protos).expect("the protocol compiles");
    compiler.file_descriptor_set().file
}

/// Returns the first sentence of an RPC's comment.
fn summary(file: &FileDescriptorProto, service: i32, method: i32) -> String {
    let path = [6, service, 2, method];
    let info = file.source_code_info.as_ref().expect("comments are kept");
    let comment = info.location.iter().find(|location| location.path == path);
    let comment = comment.map(|location| location.leading_comments()).unwrap_or_default();
    let text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn names(any: PermissionSet) -> String {
    let names: Vec<_> = any.iter().map(|one| code(one.as_str())).collect();
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => names.concat(),
    }
}

fn listed(any: &[Permission]) -> String {
    names(any.iter().copied().collect())
}

/// Returns the permissions that allow the RPC at this path.
fn permission(path: &str) -> String {
    let rpc = Rpc::from_path(path).unwrap_or_else(|| panic!("{path} has no row"));
    match rpc.row().rule {
        Rule::Open => "anybody".to_owned(),
        Rule::AnyOf(any) => listed(any),
        Rule::AnyOfAndHeld(any) => format!("{}, and the permissions that it gives", listed(any)),
        Rule::ByMessage(cases) => {
            let case = |case: &Case| {
                let by = if case.names.is_empty() {
                    String::new()
                } else {
                    format!("by `{}`: ", case.names)
                };
                let (alone, acting) =
                    (listed(case.grant.without_acting_user), listed(case.grant.with_acting_user));
                if alone == acting {
                    return format!("{by}{alone}");
                }
                format!("{by}{alone}; with an acting user {acting}")
            };
            cases.iter().map(case).collect::<Vec<_>>().join(". ")
        }
    }
}

/// Returns every RPC with its permissions.
pub(super) fn rpcs() -> String {
    let mut text = String::new();
    for file in protocol().iter().filter(|file| file.package() == "sophic.auth.v1") {
        for (i, service) in (0..).zip(&file.service) {
            let rows = (0..).zip(&service.method).map(|(j, method)| {
                let path = format!("/sophic.auth.v1.{}/{}", service.name(), method.name());
                vec![code(method.name()), permission(&path), summary(file, i, j)]
            });
            let rows = table(&["RPC", "permission", "what it does"], rows);
            write!(text, "\n### {}\n\n{rows}", service.name()).expect("a String takes it");
        }
    }
    text.trim_start().to_owned()
}

/// Returns every action of the audit log, with the RPCs whose calls it records.
pub(super) fn actions() -> String {
    let rows = AuditAction::ALL.iter().map(|action| {
        let rpcs = Rpc::ALL.iter().map(|rpc| rpc.row()).filter(|row| row.action == Some(*action));
        let rpcs = rpcs.map(|row| code(row.path.rsplit('/').next().unwrap_or_default()));
        vec![
            code(action.as_str()),
            code(action.former_name().unwrap_or_default()),
            action.target_kind().as_str().to_owned(),
            rpcs.collect::<Vec<_>>().join(", "),
        ]
    });
    table(&["action", "formerly", "target", "RPC"], rows)
}

// ---- the README

/// Rows of the benchmark that the README quotes, as `benches/RESULTS.md` prints them.
const QUOTED: [&str; 7] = [
    "Introspect ÷ tonic echo, 50 connections: rate",
    "Introspect, 50 connections: rate",
    "BatchIntrospect: tokens a second",
    "Introspect from Postgres, 50 connections: rate",
    "from Revoke's call to the last stale answer, 3 replicas: longest",
    "stale answers after Revoke had returned, 3 replicas",
    "memory for each cached entry, 1,000,000 of them",
];

/// Returns the quoted rows with their medians.
pub(super) fn benchmark() -> String {
    let results = read("benches/RESULTS.md");
    let rows: Vec<Vec<_>> = results
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let quoted = QUOTED.map(|what| {
        let row = rows.iter().find(|row| row.len() > 4 && row[1] == what);
        let row = row.unwrap_or_else(|| panic!("benches/RESULTS.md has no row {what:?}"));
        // A ratio has no unit, so the fifth cell is its goal.
        let unit = if row.len() > 7 { row[5].as_str() } else { "" };
        vec![what.to_owned(), format!("{} {unit}", row[3]).trim().to_owned()]
    });
    table(&["row of [benches/RESULTS.md](benches/RESULTS.md)", "median"], quoted)
}

/// Returns the decision table of `docs/decisions.md`.
pub(super) fn decision() -> String {
    let page = read("docs/decisions.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| # |"));
    rows.take_while(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect()
}

/// Returns each role with the scopes that it may exercise.
pub(super) fn roles() -> String {
    let rows = Role::ALL.map(|role| {
        let scopes: Vec<_> = role.may_exercise().names().map(code).collect();
        vec![role.to_string(), scopes.join(", ")]
    });
    table(&["role", "may exercise"], rows)
}

// ---- the map

/// Returns each room of `src`, the topmost first, with the rooms that it may name.
pub(super) fn rooms() -> String {
    let rows = ROOMS.iter().rev().filter(|(name, _)| !["lib", "main"].contains(name));
    let rows = rows.map(|(name, below)| {
        let below: Vec<_> = below.iter().map(|name| code(name)).collect();
        vec![code(name), below.join(", ")]
    });
    table(&["room", "may name"], rows)
}
